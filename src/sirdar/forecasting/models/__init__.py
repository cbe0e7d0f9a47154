# SPDX-License-Identifier: Apache-2.0
"""The rungs of the ladder, one file each, behind one protocol."""
