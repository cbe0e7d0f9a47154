# SPDX-License-Identifier: Apache-2.0
"""What needs torch or a toolchain: measure, compile, export and migrate a network. It knows chips and no task."""
