# SPDX-License-Identifier: Apache-2.0
"""`python -m sirdar`: the command line."""

from sirdar.cli import main

if __name__ == "__main__":
    main()
