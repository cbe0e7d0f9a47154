# SPDX-License-Identifier: Apache-2.0
"""Forecasts as distributions, and how they are scored."""

from sirdar.predictive.calibration import pit as pit
from sirdar.predictive.calibration import pit_histogram as pit_histogram
from sirdar.predictive.forecast import DECILES as DECILES
from sirdar.predictive.forecast import Forecast as Forecast
from sirdar.predictive.frequency import Frequency as Frequency
from sirdar.predictive.hierarchy import M5_LEVELS as M5_LEVELS
from sirdar.predictive.hierarchy import M5_QUANTILES as M5_QUANTILES
from sirdar.predictive.hierarchy import Hierarchy as Hierarchy
from sirdar.predictive.hierarchy import wrmsse as wrmsse
from sirdar.predictive.hierarchy import wspl as wspl
from sirdar.predictive.m4 import msis as msis
from sirdar.predictive.m4 import naive2_forecast as naive2_forecast
from sirdar.predictive.m4 import owa as owa
from sirdar.predictive.m4 import smape as smape
from sirdar.predictive.revision import Revision as Revision
from sirdar.predictive.revision import excess_volatility as excess_volatility
from sirdar.predictive.revision import revisions_of as revisions_of
from sirdar.predictive.scores import closed_coverage as closed_coverage
from sirdar.predictive.scores import coverage as coverage
from sirdar.predictive.scores import crossing_rate as crossing_rate
from sirdar.predictive.scores import mase as mase
from sirdar.predictive.scores import pinball as pinball
from sirdar.predictive.scores import seasonal_scale as seasonal_scale
from sirdar.predictive.scores import sql as sql
from sirdar.predictive.scores import wql as wql
