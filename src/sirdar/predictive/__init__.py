# SPDX-License-Identifier: Apache-2.0
"""Forecasts as distributions, and how they are scored."""

from sirdar.predictive.forecast import DECILES as DECILES
from sirdar.predictive.forecast import Forecast as Forecast
from sirdar.predictive.frequency import Frequency as Frequency
