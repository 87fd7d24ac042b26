"""Products of pixels at one distance from each other, by vectors and in AMX's tile registers, against plain ones."""

import ctypes

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from native_arithmetic import amx_granted, arithmetic, pointer

from pose.native.pairs import to_bfloat16

__all__ = ["arithmetic"]

VALUES = 1, 2, 4
"""How many values a word has, of float32, bfloat16 and bytes."""


def drawn(kind, rng, count, words, panels):
    """Pixels (count, values) and weights (values, outputs) in float64, and both as they lie."""
    values, outputs = VALUES[kind] * words, 16 * panels
    if kind == 2:
        pixels, weights = rng.integers(0, 256, (count, values)), rng.integers(-64, 65, (values, outputs))
        lying = pixels.astype(np.uint8), weights.astype(np.int8)
    else:
        pixels, weights = (rng.normal(size=shape).astype(np.float32) for shape in ((count, values), (values, outputs)))
        lying = (pixels, weights) if kind == 0 else (to_bfloat16(pixels), to_bfloat16(weights))
        if kind == 1:
            pixels, weights = (torch.from_numpy(each).bfloat16().double().numpy() for each in (pixels, weights))
    weights_lying = lying[1].reshape(words, VALUES[kind], panels, 16).transpose(2, 0, 3, 1)
    return pixels.astype(np.float64), weights.astype(np.float64), lying[0], np.ascontiguousarray(weights_lying)


def assert_multiplied(arithmetic, kind, by_amx, data):
    """Draws a product and compares it with NumPy's."""
    draw = data.draw
    words = draw(st.integers(1, 80).filter(lambda words: not by_amx or arithmetic.parts_of(ctypes.c_int64(words))))
    count, panels, width = draw(st.integers(1, 70)), draw(st.integers(1, 2)), draw(st.integers(1, 16))
    activation, more = draw(st.integers(0, 3)), draw(st.integers(0, 5))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    pixels, weights, lying, panels_lying = drawn(kind, rng, count, words, panels)
    apart = np.zeros((count, 4 * (words + more)), np.uint8)  # so that neighbours are further apart than they are long
    apart[:, : 4 * words] = lying.view(np.uint8).reshape(count, -1)
    scale, bias = rng.random(32, np.float32), rng.normal(size=32).astype(np.float32)
    if kind == 2:
        scale *= 1e-4
    y, sums = np.full((count, 32), 7, np.float32), np.zeros(32, np.float32)
    numbers = [ctypes.c_int64(each) for each in (kind, count, apart.shape[1], words, panels, width, activation, by_amx)]
    places = [pointer(each) for each in (apart, panels_lying, scale, bias, y, sums)]
    arithmetic.multiply_near(
        numbers[0], places[0], *numbers[1:4], places[1], *numbers[4:6], *places[2:4], *numbers[6:], *places[4:]
    )
    written = 16 * (panels - 1) + width
    expected = pixels @ weights * scale[: 16 * panels] + bias[: 16 * panels]
    functions = [lambda v: v, lambda v: v.clip(0), lambda v: v.clip(0, 6), lambda v: v * (v + 3).clip(0, 6) / 6]
    expected = functions[activation](expected)[:, :written]
    error = 2e-5 * max(1.0, np.abs(pixels).max() * np.abs(weights).max() * words * scale.max())
    np.testing.assert_allclose(y[:, :written], expected, atol=error)
    np.testing.assert_array_equal(y[:, written:], 7)  # nothing else is written
    np.testing.assert_allclose(sums[:written], expected.sum(0), atol=error * count, rtol=1e-4)


@pytest.mark.parametrize("kind", range(3), ids=["float32", "bfloat16", "bytes"])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_products_of_one_or_two_panels(arithmetic, kind, data):
    if not arithmetic.has_strided():
        pytest.skip("such products are of processors with AVX-512")
    assert_multiplied(arithmetic, kind, False, data)


@pytest.mark.parametrize("kind", [1, 2], ids=["bfloat16", "bytes"])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_products_in_tile_registers(arithmetic, request, kind, data):
    if "-mamx-int8" not in request.node.callspec.params["arithmetic"]:
        pytest.skip("no library for AMX")
    assert arithmetic.has_amx() == amx_granted()
    if not amx_granted():
        pytest.skip("the system does not grant AMX")
    assert_multiplied(arithmetic, kind, True, data)


def test_a_product_is_cut_into_parts_that_registers_hold(arithmetic):
    arithmetic.parts_of.restype = ctypes.c_int64
    found = {words: arithmetic.parts_of(ctypes.c_int64(words)) for words in (1, 3, 4, 16, 17, 34, 36, 40, 48, 80, 320)}
    assert found == {1: 0, 3: 0, 4: 1, 16: 1, 17: 0, 34: 0, 36: 3, 40: 4, 48: 3, 80: 5, 320: 20}
