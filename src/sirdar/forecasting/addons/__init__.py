# SPDX-License-Identifier: Apache-2.0
"""What turns any point forecaster into a retail forecaster: season, price, past errors, look-alikes; each stands alone."""
