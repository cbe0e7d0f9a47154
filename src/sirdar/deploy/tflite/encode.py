# SPDX-License-Identifier: Apache-2.0
"""A `Net` as the bytes of a TFLite file: int8 numbers, scales, and the flatbuffer around them.

Weights are symmetric int8 with a scale per output channel, biases int32 at the product of the input's and the weights'
scale, activations asymmetric int8 (Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference"; LiteRT 8-bit quantization specification).
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from sirdar.deploy.tflite.net import LEAST_STEP, Net, Step, Tensor, Weights, quantised
from sirdar.errors import UnsupportedError

Untyped = Any  # the schema is generated without types

# Options tables that are not called as the operator in camel case plus "Options".
_OPTIONS = {
    "ADD": "AddOptions",
    "ARG_MAX": "ArgMaxOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "CONCATENATION": "ConcatenationOptions",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "DEPTH_TO_SPACE": "DepthToSpaceOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "GATHER": "GatherOptions",
    "GELU": "GeluOptions",
    "LEAKY_RELU": "LeakyReluOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "MIRROR_PAD": "MirrorPadOptions",  # of which the first mode leaves the edge itself out, as torch does
    "MUL": "MulOptions",
    "REDUCE_MAX": "ReducerOptions",
    "RESHAPE": "ReshapeOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "SOFTMAX": "SoftmaxOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "SUB": "SubOptions",
    "SUM": "ReducerOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions",
}
# Versions of the operators that first took int8 (or what is used of them here); 1 for all else.
_VERSIONS = {
    "ADD": 2,
    "ARG_MAX": 2,
    "AVERAGE_POOL_2D": 2,
    "BATCH_MATMUL": 2,
    "CONCATENATION": 2,
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "DEPTH_TO_SPACE": 2,
    "EXP": 2,
    "FULLY_CONNECTED": 4,
    "GATHER": 2,
    "GELU": 2,
    "LEAKY_RELU": 2,
    "LOG": 2,
    "LOGISTIC": 2,
    "LOG_SOFTMAX": 2,
    "MAXIMUM": 2,
    "MAX_POOL_2D": 2,
    "MEAN": 2,
    "MINIMUM": 2,
    "MIRROR_PAD": 2,
    "MUL": 2,
    "PAD": 2,
    "PADV2": 2,
    "QUANTIZE": 2,
    "REDUCE_MAX": 2,
    "RELU": 2,
    "RELU6": 2,
    "RESIZE_BILINEAR": 3,
    "RESIZE_NEAREST_NEIGHBOR": 3,
    "REVERSE_V2": 3,
    "RSQRT": 2,
    "SLICE": 2,
    "SOFTMAX": 2,
    "STRIDED_SLICE": 2,
    "SUB": 2,
    "TANH": 2,
    "TRANSPOSE": 2,
    "TRANSPOSE_CONV": 3,
}
_ENUMS = {"padding": "Padding", "fusedActivationFunction": "ActivationFunctionType", "outputType": "TensorType"}
_INT32_MAX = 2**31 - 1
_MOST_STEPS = 128  # of a result to one of its products; LiteRT's kernels refuse 256
_LEAST_PRODUCT = 1e-37  # of two scales, that of a bias: below it fp32 has fewer bits


@dataclass(frozen=True)
class _Stored:
    """A tensor as written: its numbers (None for activations), scales, zero points and the axis that they run along."""

    name: str
    shape: tuple[int, ...]
    numbers: np.ndarray | None
    steps: tuple[float, ...]
    zeros: tuple[int, ...]
    axis: int = 0
    wide: bool = False


def encode(net: Net) -> bytes:
    """The TFLite file.

    Args:
        net: complete, with its inputs and outputs named.

    Raises:
        UnsupportedError: flatbuffers or the schema is not installed.
    """
    flatbuffers, schema = _schema()
    _widen(net)
    stored = [_as_stored(net, place) for place in range(len(net.tensors))]
    operators = []
    codes: dict[str, int] = {}
    for step in net.steps:
        inputs = list(step.inputs)
        if step.weights is not None:
            inputs = _with_weights(net, step, step.weights, stored)
        codes.setdefault(step.code, len(codes))
        operators.append(_operator(schema, step, inputs, codes[step.code]))
    model = schema.ModelT()
    model.version, model.description = 3, "sirdar"
    model.operatorCodes = [_code(schema, name) for name in codes]
    buffers: dict[bytes | None, int] = {None: 0}  # activations alone: Vela dies of a constant of no values there
    graph = schema.SubGraphT()
    graph.name, graph.operators = "main", operators
    graph.tensors = [_tensor(schema, row, buffers) for row in stored]
    model.buffers = [_Buffer(schema, data or b"") for data in buffers]
    graph.inputs, graph.outputs = list(net.inputs), list(net.outputs)
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _widen(net: Net) -> None:
    """Keep results from scales far below what their products are counted in: of dead channels there is none to keep."""
    for step in net.steps:
        if step.weights is not None:
            source = net.scale(step.inputs[-1])[0]
            largest = float(_weight_numbers(step.weights, source)[0].max())
            net.widen(step.outputs[0], 255 * source * largest / _MOST_STEPS)


def _schema() -> tuple[ModuleType, ModuleType]:
    try:
        import flatbuffers
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        msg = f"writing TFLite files needs {error.name}: pip install 'sirdar[npu]'"
        raise UnsupportedError(msg) from error
    return flatbuffers, schema


def _as_stored(net: Net, place: int) -> _Stored:
    tensor = net.tensors[place]
    if tensor.integer or (tensor.raw is not None and tensor.raw.dtype == np.int32):
        return _Stored(tensor.name, tensor.shape, tensor.raw, (), (), wide=True)
    step, zero = net.scale(place)
    return _Stored(tensor.name, tensor.shape, _numbers(tensor, (step, zero)), (step,), (zero,))


def _numbers(tensor: Tensor, scale: tuple[float, int]) -> np.ndarray | None:
    if tensor.raw is not None:
        return tensor.raw
    return None if tensor.values is None else quantised(tensor.values, scale)


def _with_weights(net: Net, step: Step, weights: Weights, stored: list[_Stored]) -> list[int]:
    """Quantise weights and bias for the scale of the step's input, store both, and name all inputs of the step."""
    source = net.scale(step.inputs[-1])[0]
    bias = weights.bias.astype(np.float64)
    steps, numbers = _weight_numbers(weights, source)
    added = np.rint(bias / (steps * source)).astype(np.int32)
    name = net.name(step.outputs[0])
    zeros = (0,) * len(steps)
    stored.append(_Stored(f"{name}/weight", numbers.shape, numbers, tuple(steps), zeros, weights.axis))
    stored.append(_Stored(f"{name}/bias", added.shape, added, tuple(steps * source), zeros, wide=True))
    if step.code == "TRANSPOSE_CONV":  # takes sizes, weights, input, bias
        return [step.inputs[0], len(stored) - 2, step.inputs[1], len(stored) - 1]
    return [*step.inputs, len(stored) - 2, len(stored) - 1]


def _weight_numbers(weights: Weights, source: float) -> tuple[np.ndarray, np.ndarray]:
    """Scale of each output channel, and the int8 weights."""
    if weights.values.dtype == np.int8:
        return np.full(weights.values.shape[weights.axis], 1.0 / 127.0), weights.values
    others = tuple(axis for axis in range(weights.values.ndim) if axis != weights.axis)
    steps = np.abs(weights.values).max(axis=others).astype(np.float64) / 127.0
    # A channel of tiny weights and a large bias would overflow int32: coarser weights cost it nothing.
    least = np.abs(weights.bias.astype(np.float64)) / (source * (_INT32_MAX // 2))
    steps = np.maximum(steps, np.maximum(least, max(LEAST_STEP, _LEAST_PRODUCT / source)))
    shape = [1] * weights.values.ndim
    shape[weights.axis] = -1
    return steps, np.clip(np.rint(weights.values / steps.reshape(shape)), -127, 127).astype(np.int8)


def _operator(schema: ModuleType, step: Step, inputs: list[int], code: int) -> Untyped:
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = code, inputs, list(step.outputs)
    if step.code in _OPTIONS:
        name = _OPTIONS[step.code]
        options = getattr(schema, f"{name}T")()
        for key, value in step.options.items():
            setattr(options, key, getattr(getattr(schema, _ENUMS[key]), value) if key in _ENUMS else value)
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
        operator.builtinOptions = options
    return operator


def _code(schema: ModuleType, name: str) -> Untyped:
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, name)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.version = _VERSIONS.get(name, 1)
    return code


def _tensor(schema: ModuleType, row: _Stored, buffers: dict[bytes | None, int]) -> Untyped:
    """A tensor with the place of its buffer: equal numbers, such as those of each step of an LSTM, share one."""
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.hasRank = row.name, list(row.shape), True
    tensor.type = schema.TensorType.INT32 if row.wide else schema.TensorType.INT8
    data = None if row.numbers is None else np.ascontiguousarray(row.numbers).tobytes()
    tensor.buffer = buffers.setdefault(data, len(buffers))
    if row.steps:
        quantisation = schema.QuantizationParametersT()
        quantisation.scale = np.asarray(row.steps, dtype=np.float32)
        quantisation.zeroPoint = np.asarray(row.zeros, dtype=np.int64)
        quantisation.quantizedDimension = row.axis
        tensor.quantization = quantisation
    return tensor


class _Buffer:
    """Stands in for the schema's own buffer class, which does not align its data to the 16 bytes that runtimes want."""

    def __init__(self, schema: ModuleType, data: bytes) -> None:
        self.schema = schema
        self.data = data

    def Pack(self, builder: Untyped) -> Untyped:  # noqa: N802 - the schema's own classes call it so
        """Append to a flatbuffer; returns the offset."""
        vector = None
        if self.data:
            builder.StartVector(1, len(self.data), 16)
            builder.head = builder.head - len(self.data)
            builder.Bytes[builder.Head() : builder.Head() + len(self.data)] = self.data
            vector = builder.EndVector()
        self.schema.BufferStart(builder)
        if vector is not None:
            self.schema.BufferAddData(builder, vector)
        return self.schema.BufferEnd(builder)
