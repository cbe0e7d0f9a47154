# SPDX-License-Identifier: Apache-2.0
"""Int8 TFLite files: from a torch module with calibration, or from a graph with weights made up for compilers."""

from sirdar.deploy.tflite.graph import from_graph as from_graph
from sirdar.deploy.tflite.writing import predict as predict
from sirdar.deploy.tflite.writing import save as save
from sirdar.deploy.tflite.writing import write as write
from sirdar.deploy.tflite.writing import written as written
