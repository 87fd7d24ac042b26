"""8-bit banks: the arithmetic against plain loops, on every kind of processor that can be had, and whole layers."""

import ctypes

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from large_layers import assert_large_layer, large_layers, many_threads
from native_arithmetic import arithmetic, pointer
from small_project import assert_tested_alike, run_tool, write_project
from test_export import HEAD, network_of, settings_of
from torch import nn

from pose.errors import CheckpointError
from pose.export.formats import export_file
from pose.models.deploy.folding import deploy
from pose.models.dynamic.dynamic_conv import DynamicConv2d
from pose.models.layers import ConvNormAct
from pose.models.native.inference.integers import side_by_side, to_bytes
from pose.models.native.inference.layers import pack_panels
from pose.native.program import Step
from pose.native.program_file import add_details, load_program, save_program
from pose.native.rounding import bounded_bank
from pose.runtimes.files import open_file

pytestmark = pytest.mark.usefixtures("native_layers")
__all__ = ["arithmetic", "run_tool"]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_mixing_is_exact_and_shares_keep_their_sum(arithmetic, data):
    count, size = data.draw(st.integers(1, 9)), 16 * data.draw(st.integers(1, 3))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    shares = rng.dirichlet(np.full(count, data.draw(st.sampled_from([0.02, 1.0, 50.0])))).astype(np.float32)
    if data.draw(st.booleans()):
        shares = rng.random(count, np.float32)  # CondConv's
    bank = rng.choice([-127, 127, 5], (count, size)).astype(np.int8)
    words = -(-count // 4)
    lying = side_by_side(torch.from_numpy(bank), 4).contiguous().numpy()
    out, found, unit = np.empty(size, np.float32), np.empty(words, np.uint32), ctypes.c_float()
    given_shares = pointer(shares), ctypes.c_int64(count)
    arguments = pointer(lying), ctypes.c_int64(size), *given_shares, pointer(out), pointer(found), ctypes.byref(unit)
    arithmetic.mix_bytes(*arguments)
    whole = found.view(np.uint8)[:count].astype(np.int64)
    np.testing.assert_array_equal(out, whole @ bank.astype(np.int64))
    most = unit.value / 2 * (1 + count * whole.max() / whole.sum())  # its own rounding, and a part of the sum's
    np.testing.assert_allclose(whole * unit.value, shares, atol=1.01 * most)
    np.testing.assert_allclose(whole.sum() * unit.value, shares.sum(), rtol=1e-5)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_bytes_are_mixed_to_bytes(arithmetic, data):
    """Against whole numbers: shares that add up to 256, a rounded division by it, and what zero makes of the sums."""
    count, taps, inputs = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 3)), data.draw(st.integers(1, 9))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    shares = rng.dirichlet(np.full(count, data.draw(st.sampled_from([0.02, 1.0, 50.0])))).astype(np.float32)
    if data.draw(st.booleans()):
        shares = rng.random(count, np.float32)  # CondConv's
    bank = rng.choice([-63, 63, 5], (count, taps, inputs, 16)).astype(np.int8)
    words = -(-count // 4)
    lying = side_by_side(torch.from_numpy(bank), 4).contiguous().numpy()
    scale, bias, levels = rng.random(16, np.float32), rng.random(16, np.float32), np.array([0.5, 31], np.float32)
    size = -(-inputs // 4) * taps * 16
    block, found, unit = np.empty(32 + size, np.float32), np.empty(words, np.uint32), ctypes.c_float()

    def mixed():
        arithmetic.mix_block.restype = ctypes.c_int64
        numbers = [ctypes.c_int64(number) for number in (taps, inputs, count)]
        arrays = [pointer(array) for array in (lying, shares, levels, scale, bias, block, found)]
        return arithmetic.mix_block(arrays[0], *numbers[:2], arrays[1], numbers[2], *arrays[2:], ctypes.byref(unit))

    assert mixed() == 1
    parts = found.view(np.uint8)[:count].astype(np.int64)
    assert parts.sum() == (255 if count == 1 else 256)
    np.testing.assert_allclose(parts * unit.value / 256, shares, atol=1.01 * shares.sum() / 255)
    whole = np.einsum("k,ktio->tio", parts, bank.astype(np.int64)) + 128 >> 8
    bytes_ = block[32:].view(np.int8).reshape(taps, -1, 16, 4).swapaxes(2, 3).reshape(taps, -1, 16)
    np.testing.assert_array_equal(bytes_[:, :inputs], whole)
    assert not bytes_[:, inputs:].any()
    np.testing.assert_allclose(block[:16], scale * unit.value * levels[0], rtol=1e-6)
    shift = bias - levels[1] * block[:16] * whole.sum((0, 1))
    np.testing.assert_allclose(block[16:32], shift, rtol=1e-5, atol=1e-5 * np.abs(shift).max())
    if inputs > 1:
        lying.reshape(words, taps, inputs, 16, 4)[0, 0, :2, 3, 0] = 64  # 128 together
        assert mixed() == 0


@settings(max_examples=40, deadline=None, derandomize=True)
@given(inputs=st.integers(1, 70), panels=st.integers(1, 3), kernels=st.integers(1, 9), seed=st.integers(0, 1000))
def test_a_bank_is_rounded_so_that_its_mixtures_are_added_up_exactly(inputs, panels, kernels, seed):
    rng = np.random.default_rng(seed)
    bank = rng.integers(-127, 128, (panels, -(-kernels // 4) * 2 * inputs * 64)).astype(np.int8)
    bank[0] //= 3  # small enough as it is
    scales = rng.random(16 * panels, np.float32)
    found, own = bounded_bank(bank, scales, inputs)
    lying, before = (each.reshape(panels, -1, inputs, 16, 4).astype(np.int64) for each in (found, bank))
    pairs = np.pad(lying, ((0, 0), (0, 0), (0, inputs % 2), (0, 0), (0, 0))).reshape(panels, -1, 2, 16, 4)
    assert max(np.maximum(pairs, 0).sum(2).max(), np.maximum(-pairs, 0).sum(2).max()) <= 127
    np.testing.assert_array_equal(found[0], bank[0])
    change = lying * own.reshape(panels, 1, 1, 16, 1) - before * scales.reshape(panels, 1, 1, 16, 1)
    assert np.all(np.abs(change) <= 0.501 * own.reshape(panels, 1, 1, 16, 1))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(inputs=st.integers(1, 70), panels=st.integers(1, 3), seed=st.integers(0, 1000), scale=st.floats(0, 1e3))
def test_a_matrix_in_bytes_times_a_vector(arithmetic, inputs, panels, seed, scale):
    rng = np.random.default_rng(seed)
    matrix, vector = rng.integers(-127, 128, (16 * panels, inputs)), scale * rng.normal(size=inputs)
    vector, scales = vector.astype(np.float32), rng.random(16 * panels, np.float32)
    packed = pack_panels(torch.from_numpy(matrix.astype(np.int8))[:, :, None, None]).transpose(0, 1)
    lying = side_by_side(packed, 4).transpose(0, 1).contiguous().numpy()
    out = np.full(16 * panels, 0.25, np.float32)
    sizes = ctypes.c_int64(16 * panels), ctypes.c_int64(inputs)
    arithmetic.multiply_bytes(pointer(lying), sizes[0], pointer(vector), sizes[1], pointer(scales), pointer(out))
    error = 2e-4 * 127 * inputs * np.abs(vector).max() + 1e-5
    np.testing.assert_allclose(out, 0.25 + scales * (matrix @ vector), atol=error)


@pytest.mark.parametrize("values", [[np.nan, 0.5], [np.inf, 0.5], [0.0, 0.0]], ids=str)
def test_what_is_not_a_number_stays_so_and_nothing_is_nothing(arithmetic, values):
    shares, bank = np.array(values, np.float32), np.full((1, 16, 4), 127, np.int8)
    out, found, unit = np.empty(16, np.float32), np.empty(1, np.uint32), ctypes.c_float()
    sizes = ctypes.c_int64(16), ctypes.c_int64(2)
    arithmetic.mix_bytes(
        pointer(bank), sizes[0], pointer(shares), sizes[1], pointer(out), pointer(found), ctypes.byref(unit)
    )
    expected = 0.0 if not any(values) else np.nan
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(unit.value * out, expected)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
@torch.no_grad()
def test_a_layer_with_a_bank_of_bytes(data):
    draw = data.draw
    depthwise = draw(st.booleans())
    channels = draw(st.integers(1, 70))
    outputs = channels if depthwise else draw(st.integers(1, 70))
    torch.manual_seed(draw(st.integers(0, 100)))
    geometry = (draw(st.sampled_from([1, 3, (1, 3)])), draw(st.integers(1, 2)), draw(st.integers(0, 1)))
    kinds = dict(
        attention=draw(st.sampled_from(["softmax", "sigmoid"])), temperature=draw(st.sampled_from([1.0, 30.0]))
    )
    groups = channels if depthwise else 1
    conv = DynamicConv2d(channels, outputs, *geometry, groups=groups, num_kernels=draw(st.integers(1, 9)), **kinds)
    layer = ConvNormAct(conv, outputs, nn.Identity()).eval()
    x = torch.randn(2, channels, 9, 7) + torch.randn(channels, 1, 1)
    deployed, expected = deploy(layer, bank_dtype=torch.int8), layer(x)
    assert deployed.bank.dtype == (torch.int16 if groups > 1 else torch.int8)
    error = (deployed(x) - expected).square().mean().sqrt()
    assert error <= 0.04 * max(expected.square().mean().sqrt().item(), 1e-3)


@large_layers
@many_threads
def test_a_large_layer_with_a_bank_of_bytes_by_many_threads(layer, threads):
    assert_large_layer(layer, threads, 0.1, torch.int8)


@torch.no_grad()
def test_kernels_that_bytes_hold_lose_nothing():
    """One kernel, so that its share is exact, and weights that are whole numbers of one scale."""
    conv = DynamicConv2d(20, 33, 3, padding=1, num_kernels=1)
    conv.weight.copy_(torch.randint(-127, 128, conv.weight.shape))
    conv.weight[:, :, 0, 0, 0] = 127
    x = torch.randn(2, 20, 6, 5)
    expected = conv(x)
    found = deploy(conv, bank_dtype=torch.int8)(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("groups", [1, 20])
@torch.no_grad()
def test_a_weight_that_is_no_number_makes_no_numbers_of_its_output(groups, value):
    conv = DynamicConv2d(20, 20, 1, groups=groups)
    conv.weight[2, 17, 0] = value
    found = deploy(conv, bank_dtype=torch.int8)(torch.ones(1, 20, 4, 4))[0]
    assert not found[17].isfinite().any() and found[:17].isfinite().all() and found[18:].isfinite().all()
    conv.weight[2, 17, 0] = 1.0
    conv.attention.fc1.weight[3, 5] = value
    assert not deploy(conv, bank_dtype=torch.int8)(torch.ones(1, 20, 4, 4)).isfinite().all()


def test_bytes_have_a_scale_for_each_output_and_lie_side_by_side():
    kernels = torch.zeros(2, 3, 4, 1, 1)
    kernels[1, 0, 2], kernels[0, 1, 0] = -2.0, 0.5
    whole, scales = to_bytes(kernels)
    assert (
        whole[1, 0, 2] == -127 and whole[0, 1, 0] == 127 and scales.tolist() == pytest.approx([2 / 127, 0.5 / 127, 1])
    )
    lying = side_by_side(torch.arange(5 * 3).view(5, 3), 4)
    assert lying.shape == (2, 3, 4) and lying[0, 1].tolist() == [1, 4, 7, 10] and lying[1, 2].tolist() == [14, 0, 0, 0]


CONV = dict(type="dynamic")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A network's settings and its file with a bank of bytes."""
    config = settings_of(dict(type="mobilenet_v2", width=0.1, depth=0.1, conv=CONV), dict(HEAD, conv=CONV))
    path = tmp_path_factory.mktemp("bytes") / "pose.native"
    export_file(network_of(config, 1), config, path, "native", bank="int8")
    return config, path


def test_a_file_has_bytes_and_answers_as_the_network(written):
    config, path = written
    model, x = network_of(config, 1), torch.randn(3, 3, *reversed(config.data.input_size))
    with torch.no_grad():
        expected = model(x).numpy()
    (found,) = open_file(path)(x.numpy())
    assert np.square(found - expected).mean() < 0.01 * expected.var()
    kinds = {
        constant.dtype
        for step in every_step(load_program(path)[0])
        for constant in step.constants
        if constant is not None
    }
    assert kinds == {np.dtype(np.float32), np.dtype(np.int16), np.dtype(np.int8)}


def every_step(steps):
    for step in steps:
        yield step
        yield from every_step(step.shortcut)


@pytest.mark.parametrize(
    ("place", "change"),
    [
        (4, lambda bank: bank[:-1]),
        (4, lambda bank: bank[:, :-4]),
        (4, lambda bank: np.where(np.arange(bank.size).reshape(bank.shape) == 5, -128, bank).astype(np.int8)),
        (7, lambda scales: None),
        (7, lambda scales: scales[:-1]),
        (0, lambda matrix: matrix[:, :-4]),
        (0, lambda matrix: matrix.astype(np.float32)[:, :3].repeat(400, 1)),
        (8, lambda scales: None),
        (8, lambda scales: scales[:-1]),
        (2, lambda matrix: matrix.astype(np.int8)),
        (5, lambda bias: bias.astype(np.int8)),
    ],
)
def test_a_file_whose_bytes_do_not_fit_is_refused(written, tmp_path, place, change):
    steps, details = load_program(written[1])
    at = next(i for i, step in enumerate(steps) if step.kind == "dynamic" and step.constants[7] is not None)
    constants = list(steps[at].constants)
    changed = change(constants[place])
    constants[place] = None if changed is None else np.ascontiguousarray(changed)
    steps[at] = Step(steps[at].kind, steps[at].numbers, tuple(constants), steps[at].shortcut)
    save_program(tmp_path / "a.native", steps)
    add_details(tmp_path / "a.native", details)
    with pytest.raises(
        CheckpointError, match=r"a\.native: step \d+ \(dynamic\): (a layer's|an attention in bytes|a bank in bytes)"
    ):
        open_file(tmp_path / "a.native")


def test_the_tools_write_and_take_it(run_tool, tmp_path):
    project = write_project(tmp_path)
    arguments = [project / "tiny.py", project / "tiny.pth", "--format"]
    status, said, error = run_tool("export.py", *arguments, "native", "--bank", "int8")
    assert status == 0 and "at batch 1, 3, 8" in said, error
    assert "--bank int8: changes nothing, a static network has no bank" in error
    assert_tested_alike(run_tool, project, "tiny.pth", "tiny.native")
    status, said, error = run_tool("export.py", *arguments, "torch", "--bank", "bfloat16")
    assert status == 2 and "--bank bfloat16 is for native" in error
