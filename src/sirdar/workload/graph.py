# SPDX-License-Identifier: Apache-2.0
"""A network as a graph of operators: plain Python, so that hardware models need no torch."""
