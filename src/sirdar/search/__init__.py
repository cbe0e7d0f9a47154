# SPDX-License-Identifier: Apache-2.0
"""Strategies that look for the network that fits a chip; they see tasks and chips only through protocols."""
