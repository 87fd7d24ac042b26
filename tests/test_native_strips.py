"""Three layers a few rows at a time answer as the same layers one after the other, whole images at a time."""

import ctypes

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from native_arithmetic import arithmetic
from torch import nn

from pose.models.deploy.folding import deploy
from pose.models.layers import ConvNormAct
from pose.native.pairs import pair_program
from pose.native.program import Program, Step
from pose.native.rounding import in_order, round_program

pytestmark = pytest.mark.usefixtures("native_layers")
__all__ = ["arithmetic"]


def three(draw, channels):
    """A product, a depthwise layer and a product, around which the input may be added."""
    size, stride = draw(st.sampled_from([3, 5])), draw(st.integers(1, 2))
    outputs, act = draw(st.integers(1, 40)), draw(st.sampled_from([nn.ReLU6, nn.Hardswish]))
    shortcut = stride == 1 and draw(st.booleans())
    inputs = outputs if shortcut else draw(st.integers(4, 20))
    convs = [
        (nn.Conv2d(inputs, channels, 1), act()),
        (nn.Conv2d(channels, channels, size, stride, size // 2, groups=channels), act()),
        (nn.Conv2d(channels, outputs, 1), nn.Identity()),
    ]
    layers = [ConvNormAct(conv, conv.out_channels, activation).eval() for conv, activation in convs]
    steps = [step for layer in layers for step in deploy(layer).steps()]
    return [Step("begin"), *steps, Step("end")] if shortcut else steps


@pytest.mark.parametrize("form", ["float32", "bfloat16", "8 bits", "both"])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
@torch.no_grad()
def test_strips_are_whole_images(form, data):
    draw = data.draw
    torch.manual_seed(draw(st.integers(0, 100)))
    bytes_ = form in ("8 bits", "both")
    channels = draw(st.sampled_from([64, 96, 100] if bytes_ else [64, 96]))
    rows, columns = draw(st.integers(150, 200) if bytes_ else st.integers(70, 100)), draw(st.integers(160, 170))
    steps = three(draw, channels)
    inputs = next(in_order(steps)).numbers[8]
    images = np.random.default_rng(0).normal(size=(1, rows, columns, inputs)).astype(np.float32)
    if form == "bfloat16":
        steps = pair_program(steps)
    elif form == "8 bits":
        steps = round_program(steps, images, 9.0)
    elif form == "both":  # only the depthwise layer and what follows it
        whole = round_program(steps, images, 9.0)
        steps = [
            new if number > len(steps) - 3 else old for number, (old, new) in enumerate(zip(steps, whole, strict=True))
        ]
    steps += _a_next_layer(steps, draw)
    program = Program(steps)
    expected, _ = program.timed(images)  # layer by layer
    np.testing.assert_array_equal(program.run(images), expected)
    np.testing.assert_allclose(program.run(images, 2), expected, atol=1e-4 * np.abs(expected).max())


def _a_next_layer(steps, draw):
    """A layer behind, which may want planes or bytes."""
    channels = list(in_order(steps))[-1].numbers[9]
    conv = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
    (step,) = deploy(ConvNormAct(conv, channels, nn.Identity()).eval()).steps()
    kind = draw(st.sampled_from(["none", "float32", "8 bits"]))
    if kind == "none":
        return []
    images = np.random.default_rng(0).normal(size=(1, 8, 8, channels)).astype(np.float32)
    return [step] if kind == "float32" else round_program([step], images, 9.0)


@pytest.mark.parametrize(
    ("size", "in_bytes", "wanted"),
    [((64, 48), False, True), ((64, 48), True, False), ((128, 96), True, True), ((16, 12), False, False)],
)
def test_images_that_are_larger_than_the_cache_are_cut(arithmetic, size, in_bytes, wanted):
    arithmetic.strip_rows.restype = ctypes.c_int64
    numbers = [ctypes.c_int64(number) for number in (*size, 384, int(in_bytes))]
    rows = arithmetic.strip_rows(*numbers)
    assert 2 <= rows < size[0] / 2 if wanted else rows == 0
