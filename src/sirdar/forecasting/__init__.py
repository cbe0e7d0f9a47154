# SPDX-License-Identifier: Apache-2.0
"""Demand panels, the rungs of the ladder, and how they are compared."""
