# SPDX-License-Identifier: Apache-2.0
"""One readable program per result: the only place that knows demand, orders and chips together."""
