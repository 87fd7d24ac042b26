"""Images that stay bytes between native layers, and depthwise layers of bytes: against plain integer loops."""

import ctypes
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from native_arithmetic import arithmetic, pointer
from torch import nn

from pose.models.deploy.folding import deploy
from pose.models.dynamic.dynamic_conv import DynamicConv2d
from pose.models.layers import ConvNormAct
from pose.models.native import ACTIVATIONS
from pose.native.program import Program, Step
from pose.native.rounding import GROUPS, in_order, levels_of, round_program, to_taps

pytestmark = pytest.mark.usefixtures("native_layers")
__all__ = ["arithmetic"]
KERNELS = [3, 5, (1, 3), (4, 2)]


def bound(values, activation, levels):
    """Bytes of whole numbers, as far as an activation leaves them."""
    unit, zero = levels
    low, high = {0: (-np.inf, np.inf), 1: (0, np.inf), 2: (0, 6)}[activation]
    ends = [np.clip(np.floor(np.float32(end) / unit + zero + 0.5), 0, 255) for end in (low, high)]
    return np.clip(values, *ends)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_products_of_bytes_end_in_bytes(arithmetic, data):
    """All scales are powers of two, so that float32 holds every value."""
    draw = data.draw
    count, words, width = draw(st.integers(1, 25)), draw(st.integers(1, 9)), draw(st.sampled_from([16, 16, 13, 8, 3]))
    activation, zero = draw(st.integers(0, 2)), draw(st.sampled_from([0, 7, 128]))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    pixels = rng.integers(0, 256, (count, words, 4), np.uint8)
    weights = rng.integers(-64, 65, (words, 16, 4), np.int8)
    scale = 2.0 ** rng.integers(-12, -8, 16).astype(np.float32)
    bias = rng.integers(-64, 64, 16).astype(np.float32) / 8
    levels = 2.0 ** draw(st.integers(-5, 0)), zero
    y = np.zeros((count, width), np.uint8)
    sizes, ends = (ctypes.c_int64(count), ctypes.c_int64(words)), (ctypes.c_float(levels[0]), ctypes.c_float(zero))
    arrays = map(pointer, (weights, scale, bias))
    last = ctypes.c_int64(activation), ctypes.c_int64(width), pointer(y)
    arithmetic.multiply_to_bytes(pointer(pixels), *sizes, *arrays, *ends, *last)
    sums = np.einsum("pwi,woi->po", pixels.astype(np.int64), weights.astype(np.int64))
    values = np.floor((sums * scale + bias) / levels[0] + zero + 0.5)
    np.testing.assert_array_equal(y, bound(values, activation, levels)[:, :width])


def plain_groups(image, kernel, geometry, zero):
    """Both groups' sums of a depthwise kernel (kh, kw, C) of bytes, by a plain loop: (2, H', W', C)."""
    height, width, down, across, rows, columns = geometry
    x = np.pad(image.astype(np.int64), ((rows, rows), (columns, columns), (0, 0)), constant_values=zero)
    size = (x.shape[0] - height) // down + 1, (x.shape[1] - width) // across + 1
    sums = np.zeros((GROUPS, *size, image.shape[2]), np.int64)
    for a, b in product(range(height), range(width)):
        seen = x[a : a + down * (size[0] - 1) + 1 : down, b : b + across * (size[1] - 1) + 1 : across]
        sums[b // 2 % GROUPS] += seen * kernel[a, b]
    return sums


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_depthwise_layer_of_bytes_is_a_plain_loop(arithmetic, data):
    draw = data.draw
    kernel = draw(st.sampled_from(KERNELS))
    height, width = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    strides, padding = [draw(st.integers(1, 3)) for _ in range(2)], [draw(st.integers(0, 2)) for _ in range(2)]
    channels = draw(st.integers(1, 40))
    rows, columns = (
        draw(st.integers(max(1, size - 2 * side), 10)) for size, side in zip((height, width), padding, strict=True)
    )
    activation, wanted = draw(st.integers(0, 2)), draw(st.booleans())
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    weights = rng.normal(size=(height * width, channels)).astype(np.float32) * draw(st.sampled_from([0.1, 1.0]))
    bytes_, worth = to_taps(weights, height, width)
    step = -(-channels // 4) * 4
    image = rng.choice([0, 255, 100], (rows, columns, step)).astype(np.uint8)
    bias = np.zeros(-(-channels // 16) * 16, np.float32)
    bias[:channels] = rng.normal(size=channels)
    zero = draw(st.sampled_from([0, 31]))
    levels, to = np.array([0.02, zero], np.float32), np.array([0.03 * wanted, 5 * (activation == 0)], np.float32)
    geometry = height, width, *strides, *padding
    numbers = np.array([*geometry, 1, 1, channels, channels, 1, activation], np.int64)
    groups = plain_groups(image[..., :channels], bytes_.reshape(height, width, -1), geometry, zero)
    y, y_bytes = np.zeros(groups.shape[1:], np.float32), np.zeros(groups.shape[1:], np.uint8)
    factor, shift, bits = np.zeros(channels, np.int16), np.zeros(channels, np.int16), ctypes.c_int64()
    sizes = ctypes.c_int64(rows), ctypes.c_int64(columns)
    arrays = map(pointer, (bytes_, worth, bias, levels, to, y, y_bytes, factor, shift))
    arithmetic.multiply_channels(pointer(image), pointer(numbers), *sizes, *arrays, ctypes.byref(bits))
    assert np.abs(groups).max() <= 128 * 255
    exact = levels[0] * worth * (groups.sum(0) - zero * bytes_.astype(np.int64).sum(0)) + bias[:channels]
    if not wanted:
        low, high = {0: (-np.inf, np.inf), 1: (0, np.inf), 2: (0, 6)}[activation]
        np.testing.assert_allclose(y, np.clip(exact, low, high), atol=2e-5 * max(1, np.abs(exact).max()))
        return
    if bits.value:
        parts = sum((group * factor + 2**14) >> 15 for group in groups) + shift
        assert np.abs(parts).max() <= 32767
        expected = bound(parts >> bits.value, activation, to)
        np.testing.assert_array_equal(y_bytes, expected)
    nearest = bound(np.floor(exact / to[0] + to[1] + 0.5), activation, to)
    assert np.abs(y_bytes - nearest).max() <= 1 and (y_bytes != nearest).sum() <= max(4, 0.25 * nearest.size)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(channels=st.integers(1, 20), kernel=st.sampled_from(KERNELS), seed=st.integers(0, 1000))
def test_taps_as_bytes_keep_their_sum_and_are_added_up_exactly(channels, kernel, seed):
    height, width = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(height * width, channels)) * rng.choice([0, 1, 1e-6, 1e3], channels)
    whole, worth = to_taps(weights.astype(np.float32), height, width)
    whole = whole.astype(np.int64)
    group = np.arange(len(whole)) % width // 2 % GROUPS
    for one in range(GROUPS):
        assert np.maximum(whole[group == one], 0).sum(0).max(initial=0) <= 128
        assert np.maximum(-whole[group == one], 0).sum(0).max(initial=0) <= 128
    assert np.all(np.abs(whole.sum(0) - (weights / worth).sum(0)) <= 0.51)
    assert np.all(np.abs(whole - weights / worth) <= 1.01)


def run_alone(steps, images):
    """What layers answer one after the other, each a program of its own with float32 in between."""
    for step in steps:
        images = Program([step]).run(images)
    return images


def chain_of(draw, dynamic):
    """Layers in a row, and an image for them."""
    channels, layers = draw(st.integers(4, 33)), []
    for kind in [*draw(st.lists(st.sampled_from(["1", "3", "depthwise", "up"]), min_size=1, max_size=3)), "1"]:
        if kind == "up":
            layers.append(nn.Upsample(scale_factor=2, mode=draw(st.sampled_from(["bilinear", "nearest"]))))
            continue
        outputs = channels if kind == "depthwise" else draw(st.integers(4, 33))
        size, groups = 1 if kind == "1" else 3, channels if kind == "depthwise" else 1
        conv = DynamicConv2d if dynamic else nn.Conv2d
        layer = conv(channels, outputs, size, draw(st.integers(1, 2)), size // 2, groups=groups)
        layers.append(ConvNormAct(layer, outputs, draw(st.sampled_from([nn.Identity, nn.ReLU6, nn.Hardswish]))()))
        channels = outputs
    return layers


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@settings(max_examples=20, deadline=None, derandomize=True)
@given(data=st.data())
@torch.no_grad()
def test_bytes_between_layers_are_the_floats_rounded(dynamic, data):
    torch.manual_seed(data.draw(st.integers(0, 100)))
    layers = chain_of(data.draw, dynamic)
    steps = [step for layer in layers for step in _steps(layer)]
    inputs = next(step.numbers[8] for step in in_order(steps) if step.numbers)
    images = np.random.default_rng(0).normal(size=(2, 9, 6, inputs)).astype(np.float32) + 0.5
    steps = round_program(steps, images, 9.0)
    expected, found = run_alone(steps, images), Program(steps).run(images)
    depthwise = any(step.numbers and step.numbers[10] for step in in_order(steps))
    if depthwise or dynamic:  # they make bytes without float32 in between; averages are added up in another order
        error = np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-6)
        assert error <= 0.05
    else:
        np.testing.assert_array_equal(found, expected)


def _steps(layer):
    if isinstance(layer, nn.Upsample):
        return [Step(layer.mode)]
    return deploy(layer.eval()).steps()


@torch.no_grad()
def test_a_block_of_bytes_with_a_shortcut():
    """Expansion, depthwise and projection around which the input is added: the block's ends are float32."""
    from pose.models.dynamic.makers import StaticConvs
    from pose.models.layers import InvertedResidual

    torch.manual_seed(0)
    block = InvertedResidual(16, 16, 96, StaticConvs(), 4, stride=1, expand=True).eval()
    x = torch.randn(3, 16, 12, 10)
    images = x.permute(0, 2, 3, 1).contiguous().numpy()
    steps = round_program(deploy(block).steps(), images, 9.0)
    assert [step.kind for step in in_order(steps)] == ["static_bytes"] * 3
    expected = block(x).permute(0, 2, 3, 1).numpy()
    assert np.square(Program(steps).run(images) - expected).mean() <= 0.03**2 * expected.var()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, lambda weights: np.full_like(weights, 33)),
        (0, lambda weights: np.ascontiguousarray(weights[:, :-1])),
        (1, lambda worth: worth[:-1]),
        (1, lambda worth: np.full_like(worth, np.nan)),
        (1, lambda worth: -worth),
        (2, lambda bias: bias[:-1]),
        (2, lambda bias: bias + np.inf),
        (3, lambda levels: levels[:1]),
    ],
)
def test_depthwise_bytes_that_do_not_fit_are_refused(place, value):
    step = Step("static", (3, 3, 1, 1, 1, 1, 1, 1, 20, 20, 1, ACTIVATIONS[nn.ReLU]))
    weights = np.random.default_rng(0).normal(size=(9, 20)).astype(np.float32)
    constants = [*to_taps(weights, 3, 3), np.zeros(32, np.float32), levels_of(0, 1)]
    Program([Step("static_bytes", step.numbers, tuple(constants))])
    constants[place] = value(constants[place])
    with pytest.raises(RuntimeError, match="a layer's"):
        Program([Step("static_bytes", step.numbers, tuple(constants))])
    with pytest.raises(RuntimeError, match="a layer in 8 bits has no such kernel"):
        dilated = (*step.numbers[:6], 2, 2, *step.numbers[8:])
        Program([Step("static_bytes", dilated, tuple(constants))])


def test_weights_of_inputs_that_a_layer_lacks_are_refused():
    """Its image's bytes beside those are never written."""
    numbers = (1, 1, 1, 1, 0, 0, 1, 1, 6, 16, 0, ACTIVATIONS[nn.ReLU])
    weights, worth = np.zeros((1, 2, 16, 4), np.int8), np.ones(16, np.float32)
    weights[0, 1, 5, 1] = 3

    def program():
        constants = weights.reshape(1, -1), worth, np.zeros(16, np.float32), levels_of(0, 1)
        return Program([Step("static_bytes", numbers, constants)])

    program()
    weights[0, 1, 5, 2] = 3
    with pytest.raises(RuntimeError, match="inputs that it lacks"):
        program()
