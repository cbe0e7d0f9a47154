# SPDX-License-Identifier: Apache-2.0
"""Paddings against the definitions themselves: the windows of torch, and those of TensorFlow's SAME and VALID.

torch: floor((size + 2 before - span) / stride) + 1 windows, the first at -before. TensorFlow (documentation of
tf.nn.convolution): SAME has ceil(size / stride) windows, the rows that miss split with the odd one behind; VALID has
ceil((size - span + 1) / stride), the first at 0. Here span = (kernel - 1) dilation + 1.
"""

from hypothesis import assume, given
from hypothesis import strategies as st

from sirdar.deploy.tflite.padding import Window, choose


@given(
    kernel=st.integers(1, 7),
    stride=st.integers(1, 4),
    before=st.integers(0, 4),
    dilation=st.integers(1, 3),
    size=st.integers(1, 40),
)
def test_windows_start_where_torch_has_them(kernel: int, stride: int, before: int, dilation: int, size: int) -> None:
    span = (kernel - 1) * dilation + 1
    assume(size + 2 * before >= span)
    count = (size + 2 * before - span) // stride + 1
    padding = choose([Window(kernel, stride, before, dilation)], [size], [count])
    if padding == "VALID":
        assert before == 0
        assert -(-(size - span + 1) // stride) == count
    elif padding == "SAME":
        assert -(-size // stride) == count
        assert max((count - 1) * stride + span - size, 0) // 2 == before
    else:
        ((ahead, behind),) = padding
        assert ahead == before
        assert behind <= before
        assert -(-(size + ahead + behind - span + 1) // stride) == count  # VALID on the padded rows


def test_a_stride_of_two_is_same_for_odd_sizes_only() -> None:
    assert choose([Window(3, 2, 1)], [7], [4]) == "SAME"
    assert choose([Window(3, 2, 1)], [8], [4]) == ((1, 0),)
