# SPDX-License-Identifier: Apache-2.0
"""Conformance suites that users run on their own forecaster, policy, chip or format."""
