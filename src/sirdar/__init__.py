# SPDX-License-Identifier: Apache-2.0
"""Sirdar trains models judged by what they cost: what it costs to be wrong, and what it costs to run."""
