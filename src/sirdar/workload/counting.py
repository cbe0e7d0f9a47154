# SPDX-License-Identifier: Apache-2.0
"""What each core ATen operator is and how much work it does.

Multiply-accumulates follow torch.utils.flop_counter (which counts two operations for each). Elementwise work is one
operation per value; a softmax is five (maximum, difference, exponential, sum, quotient), a layer or group norm seven
(mean, difference, square, variance, scaling, gain, offset), as is an instance norm; a batch norm with stored statistics
is two (gain, offset).
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

_KINDS = {
    "attention": "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention "
    "_scaled_dot_product_efficient_attention _scaled_dot_product_attention_math scaled_dot_product_attention",
    "concat": "cat stack",
    "constant": "arange empty empty_like empty_permuted eye full full_like lift_fresh_copy new_empty new_full new_ones "
    "new_zeros ones ones_like scalar_tensor zeros zeros_like",
    "conv": "convolution _convolution",
    "copy": "clone constant_pad_nd copy flip index_put pixel_shuffle repeat replication_pad1d replication_pad2d "
    "reflection_pad1d reflection_pad2d roll scatter select_scatter slice_scatter _to_copy",
    "elementwise": "abs acos acosh add addcdiv addcmul asin asinh atan atan2 atanh bitwise_and bitwise_not bitwise_or "
    "bitwise_xor ceil celu clamp clamp_max clamp_min cos cosh div elu eq erf erfc exp exp2 expm1 floor "
    "floor_divide fmod ge gelu glu gt hardsigmoid hardswish hardtanh isinf isnan le leaky_relu lerp log "
    "log10 log1p log2 logical_and logical_not logical_or logical_xor lt masked_fill maximum minimum mish "
    "mul ne neg pow _prelu_kernel prelu reciprocal relu relu6 remainder round rsqrt rsub sigmoid sign "
    "silu sin sinh softplus softshrink sqrt square sub tan tanh threshold trunc where",
    "gather": "embedding _embedding_bag _embedding_bag_forward_only gather index index_select take_along_dim "
    "upsample_nearest1d upsample_nearest2d",
    "matmul": "addbmm addmm addmv baddbmm bmm dot linear matmul mm mv",
    "norm": "native_layer_norm native_group_norm _native_batch_norm_legit_no_training _native_batch_norm_legit "
    "native_batch_norm _fused_rms_norm",
    "pool": "avg_pool1d avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d "
    "adaptive_max_pool2d adaptive_max_pool3d max_pool2d_with_indices max_pool3d_with_indices upsample_bilinear2d "
    "upsample_linear1d",
    "reduction": "all amax amin any argmax argmin cumprod cumsum linalg_vector_norm logsumexp max mean min prod std "
    "std_mean sum var var_mean",
    "softmax": "_log_softmax _softmax _safe_softmax",
    "view": "alias as_strided chunk detach diagonal expand permute real select slice split split_with_sizes squeeze t "
    "transpose unbind unfold unsqueeze view _unsafe_view",
}
# Checks of torch.export's own, which compute nothing and vanish when a network is compiled.
_CHECKS = frozenset(
    (
        "_assert_async",
        "_assert_scalar",
        "_assert_tensor_metadata",
        "sym_constrain_range",
        "sym_constrain_range_for_size",
    )
)
_KIND_OF = {name: kind for kind, names in _KINDS.items() for name in names.split()}


def is_check(node: fx.Node) -> bool:
    """Whether a node only asserts something that torch.export relied on."""
    return _name(node) in _CHECKS


def kind_of(node: fx.Node) -> str:
    """The kind of operator a node is, "unknown" where it is not covered."""
    return _KIND_OF.get(_name(node), "unknown")


def macs_of(node: fx.Node) -> int:
    """Multiply-accumulates of a convolution, matrix multiplication or attention; 0 for all else."""
    name, kind = _name(node), kind_of(node)
    if kind == "conv":
        return _conv_macs(node)
    if kind == "attention":
        query, key, value = (_shape(argument) for argument in node.args[:3])
        return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])
    if kind != "matmul":
        return 0
    first = node.args[1] if name.startswith(("addm", "addb", "badd")) else node.args[0]
    # Each value of the result is one sum over the last axis of the first factor; addbmm adds over its batch as well.
    depth = _shape(first)[-1] * (_shape(first)[0] if name == "addbmm" else 1)
    return math.prod(_outputs(node)[0]) * depth


def flops_of(node: fx.Node, kind: str) -> int:
    """Operations that are no multiply-accumulate."""
    shapes = _outputs(node)
    return math.prod(shapes[0]) * _per_value(node, kind) if shapes else 0


def attributes_of(node: fx.Node, kind: str) -> dict[str, Any]:
    """What shapes of inputs and outputs do not say.

    Strides, padding, dilation and groups of a convolution, and the shape of its weight, which may be computed and so
    stand among the inputs; rows, columns and depth of a matrix multiplication; the three factors of attention; how many
    values a lookup reads that sums what it reads.
    """
    if _sums_rows(node):
        return {"values_read": math.prod(_shape(node.args[1])) * _shape(node.args[0])[-1]}
    if kind == "attention":
        roles = zip(("query", "key", "value"), node.args[:3], strict=True)
        return {role: list(_shape(argument)) for role, argument in roles}
    if kind == "conv":
        names = ("stride", "padding", "dilation", "transposed", "output_padding", "groups")
        values = [list(value) if isinstance(value, Sequence) else value for value in node.args[3:9]]
        weight = list(_shape(node.args[1]))
        return {"weight": weight, "kernel": weight[2:], **dict(zip(names, values, strict=True))}
    macs = macs_of(node) if kind == "matmul" else 0
    if not macs:
        return {}
    result = _outputs(node)[0]
    rows = result[-2] if len(result) > 1 else 1
    columns = result[-1] if result else 1
    batch = math.prod(result[:-2])
    return {"batch": batch, "rows": rows, "columns": columns, "depth": macs // (batch * rows * columns)}


def _name(node: fx.Node) -> str:
    """The name without namespace and overload: add for aten.add.Tensor. The full one for what is not of ATen."""
    target = node.target
    if isinstance(target, torch._ops.OpOverload) and target.namespace == "aten":
        return target._schema.name.removeprefix("aten::")
    return str(target)


def _shape(argument: object) -> tuple[int, ...]:
    """Shape of a node's tensor; that of a single value for a plain number."""
    value = argument.meta.get("val") if isinstance(argument, fx.Node) else argument
    if isinstance(value, Sequence) and value:
        value = value[0]
    return tuple(value.shape) if isinstance(value, torch.Tensor) else ()


def _outputs(node: fx.Node) -> list[tuple[int, ...]]:
    value = node.meta.get("val")
    values = value if isinstance(value, Sequence) else (value,)
    return [tuple(item.shape) for item in values if isinstance(item, torch.Tensor)]


def _conv_macs(node: fx.Node) -> int:
    """Every output value sums kernel times input channels per group; transposed, every input value spreads likewise."""
    weight = _shape(node.args[1])
    transposed = bool(node.args[6])
    positions = _shape(node.args[0]) if transposed else _outputs(node)[0]
    return math.prod(positions) * math.prod(weight[1:])


def _has_bias(node: fx.Node) -> bool:
    if kind_of(node) == "conv":
        return node.args[2] is not None
    return _name(node).startswith(("add", "badd")) or len(node.args) > 2


def _per_value(node: fx.Node, kind: str) -> int:
    """Operations for each value of the first output."""
    if kind in ("reduction", "pool"):
        return _window(node, kind)
    if kind == "norm":
        return 2 if _stored_statistics(node) else 7
    if kind == "attention":  # a softmax over the keys, for values as many as the last axis of the result is wide
        return math.ceil(5 * _shape(node.args[1])[-2] / _outputs(node)[0][-1])
    if kind in ("conv", "matmul"):
        return int(_has_bias(node))
    if _sums_rows(node):
        return math.ceil(math.prod(_shape(node.args[1])) / max(1, _outputs(node)[0][0]))
    return {"softmax": 5, "elementwise": 1}.get(kind, 0)


def _sums_rows(node: fx.Node) -> bool:
    """Whether it looks rows up and sums them by bag, as recommenders do."""
    return _name(node).startswith("_embedding_bag")


def _stored_statistics(node: fx.Node) -> bool:
    """Whether a norm takes mean and variance as given; an instance norm is a batch norm that computes its own."""
    name = _name(node)
    return name == "_native_batch_norm_legit_no_training" or (name == "native_batch_norm" and not node.args[5])


def _window(node: fx.Node, kind: str) -> int:
    """Values of the input that each value of the output sums or compares."""
    source, *options = node.args
    adaptive = _name(node).startswith(("_adaptive", "adaptive", "upsample"))
    if kind != "pool" or adaptive or not options:
        return max(1, math.prod(_shape(source)) // max(1, math.prod(_outputs(node)[0])))
    kernel = options[0]
    sizes: list[int] = [int(str(size)) for size in kernel] if isinstance(kernel, Sequence) else [int(str(kernel))]
    return math.prod(sizes) if len(sizes) > 1 else sizes[0] ** max(1, len(_shape(source)) - 2)
