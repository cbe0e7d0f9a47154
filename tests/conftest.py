# SPDX-License-Identifier: Apache-2.0
"""What all tests share: no example is timed, since a machine may have other work."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
