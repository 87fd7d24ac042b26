"""Arithmetic in bfloat16 of native layers: against torch's rounding and plain products, where it runs and where not."""

import ctypes
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from large_layers import assert_large_layer, large_layers, many_threads
from native_arithmetic import arithmetic, pointer
from small_project import run_tool, write_project
from test_export import HEAD, network_of, settings_of
from torch import nn

from pose.errors import CheckpointError
from pose.export.errors import ExportError
from pose.export.formats import export_file
from pose.models.deploy.folding import deploy
from pose.models.dynamic.dynamic_conv import DynamicConv2d
from pose.models.layers import ConvNormAct
from pose.native.pairs import has_pairs, is_in_pairs, pair_program, to_bfloat16
from pose.native.program import Program, Step, in_order
from pose.native.program_file import add_details, load_program, save_program
from pose.native.rounding import is_convolution, is_depthwise, round_program
from pose.runtimes.files import open_file

pytestmark = pytest.mark.usefixtures("native_layers")
__all__ = ["arithmetic", "run_tool"]


NOT_NUMBERS = np.array([0x7FC00000, 0xFFC00000, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0xFF800001], np.uint32)
"""Bits of float32, some of which become others when they are rounded as those of numbers."""


def test_numbers_are_rounded_as_torch_rounds_them():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(size=1000), [0, -0.0, np.inf, -np.inf, 1 + 2**-8, 1 + 3 * 2**-8, 3e38]])
    values = values.astype(np.float32)
    expected = torch.from_numpy(values).bfloat16().view(torch.int16).numpy()
    np.testing.assert_array_equal(to_bfloat16(values), expected)
    back = to_bfloat16(NOT_NUMBERS.view(np.float32)).view(np.uint16).astype(np.uint32) << 16
    assert np.isnan(back.view(np.float32)).all()


@settings(max_examples=30, deadline=None, derandomize=True)
@given(count=st.integers(1, 25), channels=st.integers(1, 40), seed=st.integers(0, 1000))
def test_products_are_of_rounded_values_and_sums_are_not(arithmetic, count, channels, seed):
    rng = np.random.default_rng(seed)
    arrays = rng.normal(size=(count, channels)), rng.normal(size=(channels, 16)), rng.normal(size=16)
    pixels, weights, bias = (array.astype(np.float32) for array in arrays)
    y = np.empty((count, 16), np.float32)
    sizes = ctypes.c_int64(count), ctypes.c_int64(channels)
    arithmetic.multiply_rounded(pointer(pixels), *sizes, *map(pointer, (weights, bias, y)))
    rounded = [torch.from_numpy(array).bfloat16().double().numpy() for array in (pixels, weights)]
    np.testing.assert_allclose(y, rounded[0] @ rounded[1] + bias, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bits", NOT_NUMBERS, ids=hex)
@pytest.mark.parametrize("place", ["image", "weights"])
def test_what_is_not_a_number_stays_so(arithmetic, bits, place):
    pixels, weights = np.ones((3, 5), np.float32), np.ones((5, 16), np.float32)
    (pixels if place == "image" else weights).view(np.uint32)[1, 2] = bits
    y = np.empty((3, 16), np.float32)
    sizes = ctypes.c_int64(3), ctypes.c_int64(5)
    arithmetic.multiply_rounded(pointer(pixels), *sizes, *map(pointer, (weights, np.zeros(16, np.float32), y)))
    expected = np.full((3, 16), 5.0)
    expected[(1, ...) if place == "image" else (..., 2)] = np.nan
    np.testing.assert_array_equal(y, expected)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
@torch.no_grad()
def test_a_layer_in_bfloat16_is_the_layer_with_rounded_weights_on_rounded_images(data):
    draw = data.draw
    channels, outputs = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    torch.manual_seed(draw(st.integers(0, 100)))
    geometry = draw(st.sampled_from([1, 3, (1, 3)])), draw(st.integers(1, 2)), draw(st.integers(0, 2))
    conv = nn.Conv2d(channels, outputs, *geometry, draw(st.integers(1, 2)))
    if draw(st.booleans()):
        conv = DynamicConv2d(channels, outputs, *geometry, draw(st.integers(1, 2)), num_kernels=1)
    x = torch.randn(2, channels, 9, 11).bfloat16().float()
    images = x.permute(0, 2, 3, 1).contiguous().numpy()
    steps = pair_program(deploy(conv).steps())
    assert is_in_pairs(steps)
    found = Program(steps).run(images)
    conv.weight.copy_(conv.weight.bfloat16())
    expected = conv(x).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-5 * max(1.0, np.abs(expected).max()))


@large_layers
@many_threads
@pytest.mark.parametrize("bank", [torch.float32, torch.bfloat16], ids=str)
def test_a_large_layer_in_bfloat16_by_many_threads(layer, threads, bank):
    assert_large_layer(layer, threads, 0.02, bank, lambda steps, _: pair_program(steps))


@torch.no_grad()
def test_a_kernel_of_more_values_than_32_bits_hold_the_sum_of_is_in_bfloat16_too():
    conv = nn.Conv2d(8192, 16, 3)
    steps = pair_program(deploy(conv).steps())
    assert is_in_pairs(steps)
    images = np.random.default_rng(0).normal(size=(1, 3, 3, 8192)).astype(np.float32)
    assert not any(step.in_bytes for step in round_program(deploy(conv).steps(), images, 9.0))
    rounded = torch.from_numpy(images.transpose(0, 3, 1, 2)).bfloat16().float()
    conv.weight.copy_(conv.weight.bfloat16())
    np.testing.assert_allclose(Program(steps).run(images).ravel(), conv(rounded).numpy().ravel(), atol=1e-4)


@pytest.fixture(scope="module")
def network():
    """A network and its settings."""
    conv = dict(type="dynamic")
    config = settings_of(dict(type="mobilenet_v2", width=0.1, depth=0.1, conv=conv), dict(HEAD, conv=conv))
    return network_of(config, 1), config


@pytest.mark.parametrize("bank", [torch.float32, torch.int8], ids=str)
@torch.no_grad()
def test_a_network_in_bfloat16_answers_about_as_in_float32(network, bank):
    x = torch.randn(3, 3, *reversed(network[1].data.input_size))
    steps, images = deploy(network[0], bank_dtype=bank).steps(), x.permute(0, 2, 3, 1).contiguous().numpy()
    expected, found = (Program(each).run(images) for each in (steps, pair_program(steps)))
    assert 0 < np.square(found - expected).mean() < 0.02**2 * expected.var()


def test_a_processor_without_it_refuses_to_write_and_to_open(network, tmp_path, run_tool, monkeypatch):
    model, config = network
    monkeypatch.setattr("pose.runtimes.native.has_pairs", lambda: False)
    monkeypatch.setattr("pose.export.writers.native.has_pairs", lambda: False)
    with pytest.raises(ExportError, match=r"a\.native: this processor has no instructions for bfloat16"):
        export_file(model, config, tmp_path / "a.native", "native", bfloat16=True)
    export_file(model, config, tmp_path / "a.native", "native")
    steps, details = load_program(tmp_path / "a.native")
    save_program(tmp_path / "b.native", pair_program(steps))
    add_details(tmp_path / "b.native", details)
    with pytest.raises(
        CheckpointError, match=r"b\.native: computes in bfloat16, and this processor has no instructions"
    ):
        open_file(tmp_path / "b.native")
    project = write_project(tmp_path / "project")
    arguments = [project / "tiny.py", project / "tiny.pth", "--bfloat16"]
    assert run_tool("export.py", *arguments)[0] == 2
    with pytest.raises(ExportError, match="no instructions for bfloat16"):
        crops = torch.randn(2, 3, *reversed(config.data.input_size))
        export_file(model, config, tmp_path / "c.native", "native", bfloat16=True, calibration_crops=crops)


def test_where_the_processor_has_it_a_file_is_written_and_opened(network, tmp_path, monkeypatch):
    """Elsewhere by what a processor without it computes."""
    if not has_pairs():
        monkeypatch.setattr("pose.runtimes.native.has_pairs", lambda: True)
        monkeypatch.setattr("pose.export.writers.native.has_pairs", lambda: True)
    model, config = network
    export_file(model, config, tmp_path / "a.native", "native", bank="int8", bfloat16=True)
    export_file(model, config, tmp_path / "b.native", "native", bank="int8")
    steps = load_program(tmp_path / "a.native")[0]
    assert is_in_pairs(steps)
    x = torch.randn(3, 3, *reversed(config.data.input_size))
    with torch.no_grad():
        expected = model(x).numpy()
    (found,), (before,) = (open_file(tmp_path / f"{name}.native")(x.numpy()) for name in "ab")
    assert np.square(found - expected).mean() < 0.01 * expected.var()
    assert 0 < np.square(found - before).mean() < 0.02**2 * expected.var()


@torch.no_grad()
def test_what_8_bits_would_spoil_is_in_bfloat16(network, tmp_path, monkeypatch):
    for module in "runtimes", "export.writers":
        monkeypatch.setattr(f"pose.{module}.native.has_pairs", lambda: True)
    model, config = network
    crops = torch.randn(4, 3, *reversed(config.data.input_size))
    options = dict(bank="int8", calibration_crops=crops)
    export_file(model, config, tmp_path / "a.native", "native", bfloat16=True, **options)
    export_file(model, config, tmp_path / "b.native", "native", **options)
    both, alone = (list(in_order(load_program(tmp_path / f"{name}.native")[0])) for name in "ab")
    assert [step.in_bytes for step in both] == [step.in_bytes for step in alone] and is_in_pairs(both)
    convolutions = [step for step in both if is_convolution(step) and not is_depthwise(step)]
    assert all(step.in_bytes for step in convolutions)
    expected, (found,) = model(crops).numpy(), open_file(tmp_path / "a.native")(crops.numpy())
    assert np.square(found - expected).mean() < 0.03 * expected.var()


@pytest.mark.parametrize(
    ("number", "place", "change"),
    [
        (0, 0, lambda weights: np.ascontiguousarray(weights[:, :-32])),
        (0, 0, lambda weights: weights.astype(np.float32)),
        (0, 1, lambda bias: bias[:-1]),
        (1, 4, lambda bank: np.ascontiguousarray(bank[:, :-16])),
    ],
)
def test_what_does_not_fit_is_refused(number, place, change):
    with torch.no_grad():
        steps = pair_program(deploy(nn.Sequential(nn.Conv2d(3, 8, 1), DynamicConv2d(8, 20, 1))).steps())
    constants = list(steps[number].constants)
    constants[place] = change(constants[place])
    steps[number] = Step(steps[number].kind, steps[number].numbers, tuple(constants))
    with pytest.raises(RuntimeError, match="another size or type"):
        Program(steps)


@torch.no_grad()
def test_a_program_runs_in_several_threads_of_the_caller_at_once():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 40, 3, padding=1), nn.Conv2d(40, 40, 5, padding=2, groups=40), DynamicConv2d(40, 33, 1)]
    network = nn.Sequential(*(ConvNormAct(conv, conv.out_channels, nn.ReLU()) for conv in layers)).eval()
    images = np.random.default_rng(0).normal(size=(16, 24, 20, 3)).astype(np.float32)
    steps = deploy(network, bank_dtype=torch.int8).steps()
    for form in (steps, round_program(steps, images, 9.0), pair_program(steps)):
        program = Program(form)
        alone = program.run(images)
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda n, run=program.run: run(images[n : n + 1], 1 + n % 2), range(16)))
        np.testing.assert_allclose(np.concatenate(found), alone, rtol=0, atol=1e-4 * np.abs(alone).max())
