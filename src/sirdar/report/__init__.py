# SPDX-License-Identifier: Apache-2.0
"""Plain results to one HTML page."""
