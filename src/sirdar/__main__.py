# SPDX-License-Identifier: Apache-2.0
"""`python -m sirdar`: the command line."""

import os
import sys

from sirdar.cli import INTERRUPTED, main

if __name__ == "__main__":
    try:
        main()
    except SystemExit as end:
        if end.code != INTERRUPTED:
            raise
        # Python remembers an interrupt that came during an import, and at its end would kill itself by that signal.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)
