# SPDX-License-Identifier: Apache-2.0
"""Networks as graphs of operators. The graph is plain Python; tracing one from torch stands apart, in `trace`."""

from sirdar.workload.graph import Graph as Graph
from sirdar.workload.graph import Operator as Operator
from sirdar.workload.graph import TensorSpec as TensorSpec
from sirdar.workload.order import scheduled as scheduled
