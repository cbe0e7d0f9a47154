# SPDX-License-Identifier: Apache-2.0
"""Rules that draw the operators of a graph as TFLite operators with made-up weights and scales."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import permutations

import numpy as np

from sirdar.deploy.tflite import layers
from sirdar.deploy.tflite.layers import Convolution, Output
from sirdar.deploy.tflite.layout import Layout, Value, channels_last
from sirdar.deploy.tflite.net import NO_ACTIVATION, Net
from sirdar.deploy.tflite.padding import Window
from sirdar.errors import UnsupportedError
from sirdar.workload.graph import Operator

_WHOLE = ("bool", "uint8", "int16", "int32", "int64")  # what masks and indices are made of

Values = list[Value | None]
RuleOfGraph = Callable[["Drawing", Operator, Values], Values]

_LOW, _HIGH = -4.0, 4.0  # every activation is taken to lie between them
_SPREAD = 36.0  # of normally distributed int8 weights: the greatest of a channel is about 127
_UNARY = {
    "abs": "ABS",
    "clamp": "RELU6",
    "elu": "ELU",
    "exp": "EXP",
    "gelu": "GELU",
    "hardswish": "HARD_SWISH",
    "hardtanh": "RELU6",
    "leaky_relu": "LEAKY_RELU",
    "log": "LOG",
    "relu": "RELU",
    "relu6": "RELU6",
    "rsqrt": "RSQRT",
    "sigmoid": "LOGISTIC",
    "tanh": "TANH",
}
_BINARY = {
    "add": "ADD",
    "div": "MUL",
    "maximum": "MAXIMUM",
    "minimum": "MINIMUM",
    "mul": "MUL",
    "neg": "MUL",
    "pow": "MUL",
    "rsub": "SUB",
    "sub": "SUB",
}


class Drawing:
    """A net in the making.

    Args:
        rng: of the weights.
        values: how many different ones the weights take, evenly apart; any of int8 when None.
    """

    def __init__(self, rng: np.random.Generator, values: int | None = None) -> None:
        self.net = Net()
        self.layout = Layout(self.net)
        self.activation = NO_ACTIVATION
        self.name = ""
        self._steps = None if values is None else (values - 1) // 2
        self._numbers = rng.standard_normal(1 << 16)

    def made(self, name: str, shape: Sequence[int], *, integer: bool = False) -> int:
        """An activation with the range of all."""
        return self.net.integers(name, shape) if integer else self.net.activation(name, shape, _LOW, _HIGH)

    def output(self) -> Output:
        """The result of the operator at hand."""
        return Output(self.name, 0.0 if self.activation != NO_ACTIVATION else _LOW, _HIGH, self.activation)

    def weights(self, shape: Sequence[int]) -> np.ndarray:
        """Int8 weights, the same for the same seed and shape."""
        numbers = np.resize(self._numbers, tuple(shape))
        if self._steps is None:
            return np.clip(np.rint(numbers * _SPREAD), -127, 127).astype(np.int8)
        channel = 3 if len(shape) == 4 and shape[0] == 1 else 0  # of a depthwise convolution it is the last
        others = tuple(axis for axis in range(len(shape)) if axis != channel)
        steps = np.rint(numbers / abs(numbers).max(axis=others, keepdims=True) * self._steps)
        return np.rint(steps * (127 / self._steps)).astype(np.int8)

    def constant(self, shape: Sequence[int]) -> int:
        """A constant of one value."""
        return self.net.constant(f"{self.name}/constant", np.full(tuple(shape), 0.5))


def name_of(operator: Operator) -> str:
    """The name of its ATen operator without namespace and overload; its kind, or what its kind stands for, without."""
    target = str(operator.attributes.get("target", ""))
    parts = target.split(".")
    found = parts[1] if len(parts) > 1 else target
    default = {"elementwise": "relu" if len(operator.inputs) == 1 else "add"}.get(operator.kind, operator.kind)
    return found or default


def refused(operator: Operator, why: str) -> UnsupportedError:
    """The error that names the operator."""
    return UnsupportedError(f"operator {operator.name!r} ({name_of(operator)}) is not covered by int8 TFLite: {why}")


def conv(drawing: Drawing, operator: Operator, values: Values) -> Values:
    """Any convolution of one or two dimensions."""
    source, weight = _first(operator, values), operator.weights[0].shape
    rank = len(weight)
    if rank not in (3, 4) or len(source.order) != rank:
        raise refused(operator, f"weights of shape {weight}")
    made = operator.outputs[0].shape
    read, transposed = drawing.layout.shape(source), bool(operator.attributes.get("transposed", False))
    count = rank - 2
    before = _sizes(operator, "padding", [size // 2 for size in weight[2:]], count)
    stride = _sizes(operator, "stride", [-(-of // to) for of, to in zip(read[2:], made[2:], strict=True)], count)
    dilation = _sizes(operator, "dilation", [1], count)
    windows = [Window(*row) for row in zip(weight[2:], stride, before, dilation, strict=True)]
    pair = (windows[0], windows[1]) if count == 2 else (Window(1), windows[0])
    counts = (made[2], made[3]) if count == 2 else (1, made[2])
    kernel = drawing.weights(weight)
    kernel = kernel[:, :, None] if count == 1 else kernel
    kernel = np.moveaxis(kernel, 0, 1) if transposed else kernel
    groups = int(operator.attributes.get("groups", 1))
    what = Convolution(kernel, np.zeros(kernel.shape[0]), pair, counts, groups)
    add = layers.transposed_conv2d if transposed else layers.conv2d
    result = add(drawing.net, drawing.layout.image(source, drawing.name), what, drawing.output())
    return [drawing.layout.unimage(result, rank, drawing.name)]


def matmul(drawing: Drawing, operator: Operator, values: Values) -> Values:
    """A linear layer, or a product of two activations."""
    source = _first(operator, values)
    made = operator.outputs[0].shape
    if operator.weights:
        columns = int(operator.attributes.get("columns", made[-1]))
        tensor = drawing.layout.plain(source)
        weight = drawing.weights((columns, drawing.net.shape(tensor)[-1]))
        result = layers.dense(drawing.net, tensor, weight, np.zeros(columns), drawing.output())
        return [drawing.layout.viewed(_plain(drawing, result), made, drawing.name)]
    first, second = drawing.layout.plain(source), values[1] if len(values) > 1 else source
    if second is None:
        raise refused(operator, "its second factor holds no real values")
    rank = len(second.order)
    swapped = second.order == (*range(rank - 2), rank - 1, rank - 2)
    factor = second.tensor if swapped else drawing.layout.plain(second)
    return [_plain(drawing, layers.matmul(drawing.net, first, factor, drawing.output(), transposed=swapped))]


def elementwise(drawing: Drawing, operator: Operator, values: Values) -> Values:
    """A function of one value or two; one that makes no real values makes nothing."""
    name = name_of(operator)
    real = [value for value in values if value is not None]
    if operator.outputs[0].dtype in _WHOLE or not real:
        return [None]
    if name == "where":
        return [max(real, key=lambda value: int(np.prod(drawing.net.shape(value.tensor))))]
    if name in _COMPOSED:
        return _COMPOSED[name](drawing, operator, values)
    if name in _UNARY and len(operator.inputs) == 1:
        options = {"alpha": 0.01} if name == "leaky_relu" else {"approximate": False} if name == "gelu" else {}
        return [_unary(drawing, _UNARY[name], real[0], **options)]
    if name not in _BINARY:
        raise refused(operator, "no TFLite operator does this")
    return [_pair(drawing, operator, real, _BINARY[name])]


def hard_swish(drawing: Drawing, operator: Operator, values: Values) -> Values:
    """As one operator."""
    return [_unary(drawing, "HARD_SWISH", _first(operator, values))]


def hard_sigmoid(drawing: Drawing, operator: Operator, values: Values) -> Values:
    """A sum with a rectifier, then a factor."""
    value = _first(operator, values)
    single = (1,) * len(value.order)
    clamped = Output(f"{drawing.name}/clamped", 0.0, 6.0, "RELU6")
    inner = layers.binary(drawing.net, "ADD", value.tensor, drawing.constant(single), clamped)
    result = layers.binary(drawing.net, "MUL", inner, drawing.constant(single), drawing.output())
    return [Value(result, value.order)]


def silu(drawing: Drawing, operator: Operator, values: Values) -> Values:
    """The input times its logistic."""
    value = _first(operator, values)
    return [_times(drawing, value, _unary(drawing, "LOGISTIC", value))]


def softplus(drawing: Drawing, operator: Operator, values: Values) -> Values:
    """As `compositions` writes it: the rectified input, and the logarithm of the logistic of its size."""
    value = _first(operator, values)
    bend = value
    for code in ("ABS", "LOGISTIC", "LOG"):
        bend = _unary(drawing, code, bend)
    for _ in ("sign", "beta"):
        bend = _times(drawing, bend, _plain(drawing, drawing.constant((1,) * len(value.order))))
    rectified = _unary(drawing, "RELU", value)
    result = layers.binary(drawing.net, "ADD", rectified.tensor, bend.tensor, drawing.output())
    return [Value(result, value.order)]


def mish(drawing: Drawing, operator: Operator, values: Values) -> Values:
    """The input times the hyperbolic tangent of its softplus."""
    value = _first(operator, values)
    curve = _first(operator, softplus(drawing, operator, values))
    return [_times(drawing, value, _unary(drawing, "TANH", curve))]


def prelu(drawing: Drawing, operator: Operator, values: Values) -> Values:
    """A leaky rectifier with a slope per channel."""
    value, made = _first(operator, values), operator.outputs[0].shape
    slopes = [1] * len(made)
    slopes[min(1, len(made) - 1)] = operator.weights[0].elements if operator.weights else 1
    constant = drawing.constant([slopes[axis] for axis in value.order][1:])
    result = drawing.made(drawing.name, drawing.net.shape(value.tensor))
    return [Value(drawing.net.step(layers.Step("PRELU", (value.tensor, constant), (result,))), value.order)]


def softmax(drawing: Drawing, operator: Operator, values: Values) -> Values:
    """Over the last axis."""
    tensor = drawing.layout.plain(_first(operator, values))
    return [_plain(drawing, layers.unary(drawing.net, "SOFTMAX", tensor, drawing.output(), beta=1.0))]


def norm(drawing: Drawing, operator: Operator, values: Values) -> Values:
    """A batch norm as a gain and an offset, any other by its parts."""
    value = _first(operator, values)
    net = drawing.net
    if "batch_norm" in name_of(operator):
        order = channels_last(len(value.order))
        tensor = drawing.layout.arrange(value, order)
        channels = net.shape(tensor)[-1]
        return [Value(layers.affine(net, tensor, np.ones(channels), np.zeros(channels), drawing.output()), order)]
    tensor = drawing.layout.plain(value)
    last = (len(value.order) - 1,)
    plain = replace(drawing.output(), activation=NO_ACTIVATION)
    centred = layers.binary(net, "SUB", tensor, layers.mean(net, tensor, last, keep=True, output=plain), plain)
    squares = layers.binary(net, "MUL", centred, centred, plain)
    factor = layers.unary(net, "RSQRT", layers.mean(net, squares, last, keep=True, output=plain), plain)
    scaled = layers.binary(net, "MUL", centred, factor, plain)
    gained = layers.binary(net, "MUL", scaled, drawing.constant((*(1,) * last[0], net.shape(tensor)[-1])), plain)
    result = layers.binary(net, "ADD", gained, drawing.constant((*(1,) * last[0], net.shape(tensor)[-1])), plain)
    return [_plain(drawing, result)]


def pool(drawing: Drawing, operator: Operator, values: Values) -> Values:
    """Windows as wide as the work per value says, moved as the sizes say."""
    if "upsample" in name_of(operator):
        return resize(drawing, operator, values)
    value = _first(operator, values)
    read, made = drawing.layout.shape(value), operator.outputs[0].shape
    if len(read) not in (3, 4) or len(read) != len(made):
        raise refused(operator, f"an input of shape {read}")
    image = drawing.layout.image(value, drawing.name)
    sizes, counts = ((1, *read[2:])[-2:], (1, *made[2:])[-2:])
    work = operator.flops // max(1, operator.outputs[0].elements)
    windows = [_window(size, count, work, flat=len(read) == 3) for size, count in zip(sizes, counts, strict=True)]
    code = "MAX_POOL_2D" if "max" in name_of(operator) else "AVERAGE_POOL_2D"
    result = layers.pool(drawing.net, image, code, (windows[0], windows[1]), (counts[0], counts[1]))
    return [drawing.layout.unimage(result, len(read), drawing.name)]


def resize(drawing: Drawing, operator: Operator, values: Values) -> Values:
    """Height and width changed."""
    value, made = _first(operator, values), operator.outputs[0].shape
    if len(made) != 4:
        raise refused(operator, f"a result of shape {made}")
    image = drawing.layout.image(value, drawing.name)
    bilinear = "bilinear" in name_of(operator)
    return [
        Value(layers.resize(drawing.net, image, (made[2], made[3]), bilinear=bilinear, corners=False), channels_last(4))
    ]


def reduction(drawing: Drawing, operator: Operator, values: Values) -> Values:
    """Mean, or greatest value, over the axes that shrink; a running sum as a sum."""
    if operator.outputs[0].dtype in _WHOLE:
        return [None]
    value, made = _first(operator, values), operator.outputs[0].shape
    read = drawing.layout.shape(value)
    kept = _kept(read, made)
    axes = [axis for axis in range(len(read)) if axis not in kept]
    stored = [place for place, axis in enumerate(value.order) if axis in axes]
    reduce = layers.greatest if "max" in name_of(operator) else layers.mean
    result = reduce(drawing.net, value.tensor, stored, keep=True, output=drawing.output())
    return [drawing.layout.viewed(Value(result, value.order), made, drawing.name)]


def concat(drawing: Drawing, operator: Operator, values: Values) -> Values:
    """Along the axis that grows; of constants alone a constant."""
    if all(value is None for value in values):
        return constant(drawing, operator, values)
    made = operator.outputs[0].shape
    real = [drawing.layout.raised(value, len(made)) for value in values if value is not None]
    real = [value for value in real if 0 not in drawing.layout.shape(value)] or real[:1]  # Vela refuses empty parts
    if drawing.layout.shape(real[0]) == tuple(made):
        return [real[0]]
    order = max(real, key=lambda value: int(np.prod(drawing.net.shape(value.tensor)))).order
    shape = drawing.layout.shape(real[0])
    axis = next((axis for axis, (of, to) in enumerate(zip(shape, made, strict=True)) if of != to), 0)
    missing = made[axis] - sum(drawing.layout.shape(value)[axis] for value in real)
    tensors = [drawing.layout.arrange(value, order) for value in real]
    if missing > 0:  # the same tensor twice, or a constant
        rest = list(made)
        rest[axis] = missing
        tensors.append(drawing.constant([rest[axis] for axis in order]))
    return [Value(layers.concat(drawing.net, tensors, order.index(axis), drawing.name), order)]


def view(drawing: Drawing, operator: Operator, values: Values) -> Values:
    """Another shape, another order, or a part."""
    if values and all(value is None for value in values):
        return [None] * len(operator.outputs)
    value, name = _first(operator, values), name_of(operator)
    if name in ("split", "split_with_sizes", "chunk", "unbind"):
        return _pieces(drawing, operator, value)
    made = operator.outputs[0].shape
    read = drawing.layout.shape(value)
    if name in ("permute", "transpose", "t"):
        moves = _permutation(read, made, name)
        return [Value(value.tensor, tuple(moves.index(axis) for axis in value.order))]
    if name == "expand":
        return [drawing.layout.stretched(value, made, drawing.name)]
    if int(np.prod(made)) == int(np.prod(read)):
        return [drawing.layout.viewed(value, made, drawing.name)]
    return [drawing.layout.viewed(_part(drawing, operator, value, made), made, drawing.name)]


def copy(drawing: Drawing, operator: Operator, values: Values) -> Values:
    """A copy costs nothing; padding and repetition do."""
    if values and all(value is None for value in values):
        return [None]
    value, made = _first(operator, values), operator.outputs[0].shape
    read = drawing.layout.shape(value)
    if read == made:
        return [value]
    if len(read) == len(made) and "pad" in name_of(operator):
        rows = [((to - of) // 2, -(-(to - of) // 2)) for of, to in zip(read, made, strict=True)]
        return [Value(layers.pad(drawing.net, value.tensor, [rows[axis] for axis in value.order]), value.order)]
    if "repeat" in name_of(operator):
        return [drawing.layout.stretched(value, made, drawing.name)]
    if int(np.prod(read)) == int(np.prod(made)):
        return [drawing.layout.viewed(value, made, drawing.name)]
    raise refused(operator, f"from shape {read} to {made}")


def gather(drawing: Drawing, operator: Operator, values: Values) -> Values:
    """Rows of a table, or a resizing by the nearest."""
    if "upsample" in name_of(operator):
        return resize(drawing, operator, values)
    made = operator.outputs[0].shape
    if not operator.weights or len(operator.weights[0].shape) != 2:
        raise refused(operator, "only rows of a weight are")
    places = _first(operator, values)
    table = drawing.net.constant(f"{drawing.name}/table", drawing.weights(operator.weights[0].shape))
    result = layers.gather(drawing.net, table, places.tensor, drawing.name)
    return [drawing.layout.viewed(_plain(drawing, result), made, drawing.name)]


def constant(drawing: Drawing, operator: Operator, values: Values) -> Values:
    """A tensor of one value."""
    spec = operator.outputs[0]
    if spec.dtype in _WHOLE or values:
        return [None]
    return [_plain(drawing, drawing.constant(spec.shape))]


def attention(drawing: Drawing, _: Operator, values: Values) -> Values:
    """Products of queries and keys, softmax, products with the values."""
    parts = [value for value in values if value is not None]
    query, key, memory = (parts * 3)[:3] if len(parts) < 3 else parts[:3]
    net = drawing.net
    plain = replace(drawing.output(), activation=NO_ACTIVATION)
    scores = layers.matmul(net, drawing.layout.plain(query), drawing.layout.plain(key), plain, transposed=True)
    shares = layers.unary(net, "SOFTMAX", scores, plain, beta=1.0)
    return [_plain(drawing, layers.matmul(net, shares, drawing.layout.plain(memory), plain, transposed=False))]


def _first(operator: Operator, values: Values) -> Value:
    real = [value for value in values if value is not None]
    if not real:
        raise refused(operator, "it reads no activation")
    return real[0]


def _plain(drawing: Drawing, tensor: int) -> Value:
    return Value(tensor, tuple(range(len(drawing.net.shape(tensor)))))


def _unary(drawing: Drawing, code: str, value: Value, **options: object) -> Value:
    return Value(layers.unary(drawing.net, code, value.tensor, drawing.output(), **options), value.order)


def _times(drawing: Drawing, first: Value, second: Value) -> Value:
    return Value(layers.binary(drawing.net, "MUL", first.tensor, second.tensor, drawing.output()), first.order)


def _pair(drawing: Drawing, operator: Operator, real: list[Value], code: str) -> Value:
    rank = len(operator.outputs[0].shape)
    raised = [drawing.layout.raised(value, rank) for value in real]
    order = max(raised, key=lambda value: int(np.prod(drawing.net.shape(value.tensor)))).order
    tensors = [drawing.layout.arrange(value, order) for value in raised]
    if len(tensors) == 1:
        shape = operator.weights[0].shape if operator.weights else ()
        shape = (1,) * (rank - len(shape)) + tuple(shape)
        tensors.append(drawing.constant([shape[axis] for axis in order]))
    if code in ("MAXIMUM", "MINIMUM"):
        return Value(layers.extreme(drawing.net, code, tensors[0], tensors[1], drawing.name), order)
    return Value(layers.binary(drawing.net, code, tensors[0], tensors[1], drawing.output()), order)


def _sizes(operator: Operator, key: str, default: Sequence[int], count: int) -> list[int]:
    given = operator.attributes.get(key, default)
    given = [given] if isinstance(given, int) else list(given)
    return [int(size) for size in (given * count if len(given) == 1 else given)]


def _window(size: int, count: int, work: int, *, flat: bool) -> Window:
    """Kernel, stride and padding of a pooling along one axis."""
    if size == 1 and flat:
        return Window(1)
    stride = max(1, -(-size // max(count, 1)))
    kernel = min(max(work if flat else round(work**0.5), stride, 1), size)
    missing = (count - 1) * stride + kernel - size
    return Window(kernel, stride, max(0, -(-missing // 2)))


def _kept(read: Sequence[int], made: Sequence[int]) -> list[int]:
    """The axes that a reduction leaves, those of size 1 in their own place aside."""
    if len(read) == len(made):
        return [axis for axis, (of, to) in enumerate(zip(read, made, strict=True)) if of == to]
    kept, place = [], 0
    for axis, size in enumerate(read):
        if place < len(made) and size == made[place]:
            kept.append(axis)
            place += 1
    return kept


def _permutation(read: Sequence[int], made: Sequence[int], name: str) -> tuple[int, ...]:
    """An order of the axes that gives the sizes: the last two exchanged where that does."""
    rank = len(read)
    if rank < 2:
        return tuple(range(rank))
    candidates = [(*range(rank - 2), rank - 1, rank - 2)] if name != "permute" or rank == 2 else []
    candidates += [tuple(order) for order in permutations(range(rank)) if list(order) != list(range(rank))]
    fits = (order for order in candidates if [read[axis] for axis in order] == list(made))
    return next(fits, tuple(range(rank)))


def _pieces(drawing: Drawing, operator: Operator, value: Value) -> Values:
    read = drawing.layout.shape(value)
    first = operator.outputs[0].shape
    if len(first) != len(read):  # unbind
        axis = next(axis for axis in range(len(read)) if (*read[:axis], *read[axis + 1 :]) == tuple(first))
        blocks = [drawing.layout.block(value, axis, place, 1, spec.name) for place, spec in enumerate(operator.outputs)]
        return [drawing.layout.without(block, axis, drawing.name) for block in blocks]
    axis = next((axis for axis, (of, to) in enumerate(zip(read, first, strict=True)) if of != to), 0)
    pieces, start = [], 0
    for spec in operator.outputs:
        size = min(spec.shape[axis], read[axis] - start)
        pieces.append(drawing.layout.block(value, axis, start, size, spec.name))
        start += size
    return pieces


def _part(drawing: Drawing, operator: Operator, value: Value, made: Sequence[int]) -> Value:
    """The first of what a selection or a slice may take."""
    read = drawing.layout.shape(value)
    wanted = list(made)
    if len(wanted) == len(read) - 1:
        axis = next((axis for axis in range(len(read)) if [*read[:axis], *read[axis + 1 :]] == wanted), None)
        if axis is None:
            raise refused(operator, f"from shape {read} to {tuple(made)}")
        wanted.insert(axis, 1)
    if len(wanted) != len(read) or any(to > of for of, to in zip(read, wanted, strict=True)):
        raise refused(operator, f"from shape {read} to {tuple(made)}")
    for axis, size in enumerate(wanted):
        if size < read[axis]:
            value = drawing.layout.block(value, axis, 0, size, f"{drawing.name}/part")
    return value


_COMPOSED: dict[str, RuleOfGraph] = {
    "hardsigmoid": hard_sigmoid,
    "mish": mish,
    "prelu": prelu,
    "silu": silu,
    "softplus": softplus,
}
RULES: dict[str, RuleOfGraph] = {
    "attention": attention,
    "concat": concat,
    "constant": constant,
    "conv": conv,
    "copy": copy,
    "elementwise": elementwise,
    "gather": gather,
    "hard_sigmoid": hard_sigmoid,
    "hard_swish": hard_swish,
    "matmul": matmul,
    "norm": norm,
    "pool": pool,
    "reduction": reduction,
    "softmax": softmax,
    "view": view,
}
