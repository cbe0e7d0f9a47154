# SPDX-License-Identifier: Apache-2.0
"""The suite that is shipped, run on every forecaster of our own."""

import pytest

from sirdar.forecasting.forecaster import Forecaster
from sirdar.forecasting.models.ensemble import Ensemble
from sirdar.forecasting.models.ladder import Ladder
from sirdar.forecasting.models.mqcnn import MQCNN
from sirdar.forecasting.models.textbook import Textbook
from sirdar.testing.forecasters import ForecasterChecks, NullForecaster


class TestNull(ForecasterChecks):
    def forecaster(self) -> Forecaster:
        return NullForecaster(3)


class TestSeasonalNaive(ForecasterChecks):
    def forecaster(self) -> Forecaster:
        return Textbook(3, "seasonal-naive")


class TestAutoETS(ForecasterChecks):
    def forecaster(self) -> Forecaster:
        return Textbook(3, "auto-ets")


class TestTheta(ForecasterChecks):
    def forecaster(self) -> Forecaster:
        return Textbook(3, "theta")


class TestTSB(ForecasterChecks):
    def forecaster(self) -> Forecaster:
        return Textbook(3, "tsb")


class TestCroston(ForecasterChecks):
    def forecaster(self) -> Forecaster:
        return Textbook(3, "croston", levels=(0.05, 0.5, 0.95))


class TestADIDA(ForecasterChecks):
    def forecaster(self) -> Forecaster:
        return Textbook(3, "adida")


class TestCES(ForecasterChecks):
    def forecaster(self) -> Forecaster:
        return Textbook(3, "ces")


@pytest.mark.slow
class TestAutoARIMA(ForecasterChecks):
    def forecaster(self) -> Forecaster:
        return Textbook(3, "auto-arima")


class TestLadder(ForecasterChecks):
    def forecaster(self) -> Forecaster:
        return Ladder(3, ["seasonal-naive", "theta", "tsb"], windows=2)


class TestMQCNN(ForecasterChecks):
    def forecaster(self) -> Forecaster:
        return MQCNN(3, steps=4, width=8)


class TestEnsemble(ForecasterChecks):
    def forecaster(self) -> Forecaster:
        return Ensemble({"network": MQCNN(3, steps=2, width=8), "../theta": Textbook(3, "theta")})
