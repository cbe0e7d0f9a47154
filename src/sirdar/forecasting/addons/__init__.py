# SPDX-License-Identifier: Apache-2.0
"""What makes a point forecaster fit for retail: seasons, prices, past errors, look-alikes; each stands alone."""
