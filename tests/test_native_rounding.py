"""Arithmetic in 8 bits of native layers: products against plain loops, layers against torch, files and tools."""

import ctypes
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from large_layers import assert_large_layer, large_layers, many_threads
from native_arithmetic import arithmetic, pointer
from small_project import ANNOTATIONS, run_tool, write_project
from test_export import HEAD, network_of, settings_of
from torch import nn

from pose.errors import CheckpointError
from pose.export.errors import ExportError
from pose.export.formats import export_file
from pose.models.deploy.folding import deploy
from pose.models.dynamic.dynamic_conv import DynamicConv2d
from pose.models.layers import ConvNormAct
from pose.models.native import ACTIVATIONS
from pose.native.program import Program, Step, in_order
from pose.native.program_file import add_details, load_program, save_program
from pose.native.rounding import levels_of, round_program, to_blocks, worth_rounding
from pose.runtimes.files import open_file

pytestmark = pytest.mark.usefixtures("native_layers")
__all__ = ["arithmetic", "run_tool"]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(count=st.integers(1, 25), words=st.integers(1, 9), seed=st.integers(0, 1000))
def test_products_of_bytes_are_exact(arithmetic, count, words, seed):
    rng = np.random.default_rng(seed)
    pixels = rng.choice([0, 255, 17], (count, words, 4)).astype(np.uint8)
    pairs = np.array([[64, 64], [-64, -64], [127, 1], [-127, -1], [127, -127], [-127, 127], [3, -5]], np.int8)
    weights = rng.choice(pairs, (words, 16, 2)).reshape(words, 16, 4)
    scale, bias = rng.random(16, np.float32) / 2**10, rng.random(16, np.float32)
    y = np.empty((count, 16), np.float32)
    sizes = ctypes.c_int64(count), ctypes.c_int64(words)
    arithmetic.multiply_pixels(pointer(pixels), *sizes, *map(pointer, (weights, scale, bias, y)))
    sums = np.zeros((count, 16), np.int64)
    for word in range(words):
        for i in range(4):
            sums += pixels[:, word, i, None].astype(np.int64) * weights[word, :, i]
    np.testing.assert_allclose(y, sums * scale + bias, rtol=1e-5, atol=1e-4)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
@torch.no_grad()
def test_a_layer_in_8_bits_is_the_layer_with_rounded_weights_on_rounded_images(data):
    draw = data.draw
    channels, outputs = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    torch.manual_seed(draw(st.integers(0, 100)))
    kernel, stride, padding = draw(st.sampled_from([1, 3, (1, 3)])), draw(st.integers(1, 2)), draw(st.integers(0, 2))
    conv = nn.Conv2d(channels, outputs, kernel, stride, padding, draw(st.integers(1, 2)))
    activation = draw(st.sampled_from([nn.Identity, nn.ReLU, nn.ReLU6, nn.Hardswish]))()
    x = torch.randn(2, channels, 9, 11) + draw(st.sampled_from([-0.5, 0.0, 3.0]))
    (step,) = deploy(nn.Sequential(conv, nn.Identity()))[0].steps()
    assert step.constants[0] is not None
    unit, zero = levels = levels_of(x.min().item(), x.max().item())
    taps = conv.kernel_size[0] * conv.kernel_size[1]
    whole, worth = to_blocks(step.constants[0], taps, channels)
    assert np.abs(whole).max() <= 127
    constants = (whole, worth, step.constants[1], levels)
    numbers = (*step.numbers[:-1], ACTIVATIONS[type(activation)])
    images = x.permute(0, 2, 3, 1).contiguous().numpy()
    found = Program([Step("static_bytes", numbers, constants)]).run(images)
    scale = torch.from_numpy(worth)[:outputs, None, None, None]
    conv.weight.copy_((conv.weight / scale).round() * scale)
    seen = ((x / unit + zero + 0.5).floor().clamp(0, 255) - zero) * unit
    expected = activation(conv(seen)).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-2 * max(1.0, np.abs(expected).max()))
    assert np.abs(found - expected).mean() <= 1e-3 * max(
        1.0, np.abs(expected).max()
    )  # a value may be between two bytes


@pytest.mark.parametrize("bank", [torch.float32, torch.bfloat16, torch.int8], ids=str)
@pytest.mark.parametrize(("kernel", "channels"), [(1, 50), (3, 24), (3, 7)])
@torch.no_grad()
def test_a_dynamic_layer_in_8_bits(kernel, channels, bank):
    layer = ConvNormAct(DynamicConv2d(channels, 41, kernel, padding=kernel // 2, temperature=1.0), 41, nn.ReLU()).eval()
    x = torch.randn(4, channels, 9, 7) + torch.randn(channels, 1, 1)
    images = x.permute(0, 2, 3, 1).contiguous().numpy()
    steps = round_program(deploy(layer, bank_dtype=bank).steps(), images, 1.0)
    assert len(steps[0].constants) == 10
    expected = layer(x).permute(0, 2, 3, 1).numpy()
    assert np.square(Program(steps).run(images) - expected).mean() <= 0.04**2 * np.square(expected).mean()


@large_layers
@many_threads
@pytest.mark.parametrize("bank", [torch.float32, torch.int8], ids=str)
def test_a_large_layer_in_8_bits_by_many_threads(layer, threads, bank):
    assert_large_layer(layer, threads, 0.1, bank, lambda steps, images: round_program(steps, images, 9.0))


@pytest.mark.parametrize(("least", "greatest", "zero"), [(0, 6, 0), (-1, 1, 128), (2, 4, 0), (-3, -1, 255), (0, 0, 0)])
def test_a_range_becomes_bytes_that_have_zero(least, greatest, zero):
    unit, found = levels_of(least, greatest)
    assert found == zero and unit > 0


def two_layers():
    """A static and a dynamic layer, and images."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), DynamicConv2d(8, 20, 1)))
    return model, np.random.default_rng(0).normal(size=(3, 6, 5, 3)).astype(np.float32)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("bank", [torch.float32, torch.bfloat16, torch.int8], ids=str)
@pytest.mark.parametrize(("number", "kind"), [(1, "static"), (3, "dynamic")])
@torch.no_grad()
def test_weights_that_are_no_numbers_are_refused_by_name(number, kind, bank, value):
    model, images = two_layers()
    layer = [model[0], *model[1]][number - 1]
    layer.weight.view(-1)[5] = value
    steps = deploy(model, bank_dtype=bank).steps()
    assert not np.isfinite(Program(steps).run(images)).all()
    with pytest.raises(RuntimeError, match=rf"^step {number} \({kind}\): a layer's weights are not all finite"):
        round_program(steps, images)
    around = [Step("begin", shortcut=tuple(steps)), *steps, Step("end")]
    with pytest.raises(RuntimeError, match=rf"^step 1 \(begin\): step {number} \({kind}\): a layer's weights are not"):
        round_program(around, images)


@torch.no_grad()
def test_who_waits_at_a_terminal_sees_progress(monkeypatch, capsys):
    model, images = two_layers()
    steps = deploy(model).steps()
    round_program(steps, images)
    assert not capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    round_program(steps, images)
    said = capsys.readouterr().err
    assert "finding ranges: " in said and "rounding layers: " in said


@torch.no_grad()
def test_images_and_values_that_are_no_numbers_are_refused():
    model, images = two_layers()
    for place in model[0].bias, model[1][0].bias:  # the sum of two finite numbers is none
        place.fill_(3e38)
        with pytest.raises(RuntimeError, match="what the layers make of the images .* not all finite"):
            round_program(deploy(model).steps(), images)
        place.zero_()
    for value in np.nan, np.inf:
        images[1, 2, 3, 1] = value
        with pytest.raises(RuntimeError, match="the images to round layers with are not all finite"):
            round_program(deploy(model).steps(), images)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@torch.no_grad()
def test_an_image_that_has_no_numbers_is_answered_with_none_and_the_others_as_ever(value):
    model, images = two_layers()
    program = Program(round_program(deploy(model).steps(), images, 9.0))
    expected, bad = program.run(images), images.copy()
    bad[1, 2, 3, 1] = value
    for threads in 1, 2:
        found = program.run(bad, threads)
        assert np.isnan(found[1]).all()
        np.testing.assert_allclose(found[[0, 2]], expected[[0, 2]], atol=1e-5)


@pytest.mark.parametrize(
    ("errors", "costs", "tolerance", "kept"),
    [
        ((0.5, 0.25, 0.25), (1, 1, 1), 1.0, {0, 1, 2}),  # together no more than 1 squared
        ((0.5, 0.375, 0.375), (1, 1, 1), 1.0, {1, 2}),  # none is too much alone: all together are
        ((0.5, 0.375, 0.375), (9, 1, 1), 1.0, {0, 1}),  # the first is worth what it spoils
        ((0.25, 0.5, 0.75), (1, 9, 1), 0.75, {1}),  # the second comes first for its cost, and leaves no room
        ((0.0, 0.0, 0.0), (1, 1, 1), 0.0, {0, 1, 2}),
        ((1e-9, 1e-9, 1e-9), (1, 1, 1), 0.0, set()),
        ((0.01, np.nan, 0.01), (1, 1, 1), 9.0, {0, 2}),
        ((np.nan, np.nan, np.nan), (1, 1, 1), 9.0, set()),
    ],
)
def test_layers_are_chosen_by_what_they_spoil_together_for_what_they_cost(errors, costs, tolerance, kept):
    names = [4, 7, 2]
    found = worth_rounding(dict(zip(names, errors, strict=True)), dict(zip(names, costs, strict=True)), tolerance)
    assert found == {names[place] for place in kept}


DYNAMIC = dict(type="dynamic")


@pytest.fixture(scope="module", params=["static", "dynamic"])
def network(request):
    """A network, its settings and crops."""
    conv = dict(type=request.param)
    config = settings_of(dict(type="mobilenet_v2", width=0.1, depth=0.1, conv=conv), dict(HEAD, conv=conv))
    return network_of(config, 1), config, torch.randn(12, 3, *reversed(config.data.input_size))


def in_bytes(steps):
    return [step.in_bytes for step in in_order(steps)]


@torch.no_grad()
def test_layers_stay_float_until_answers_change_by_little_enough(network):
    model, _, crops = network
    images = crops.permute(0, 2, 3, 1).contiguous().numpy()
    steps = deploy(model, bank_dtype=torch.int8).steps()
    exact, counts = Program(steps).run(images), []
    for tolerance in (0.0, 0.02, 0.1):
        rounded = round_program(steps, images, tolerance)
        counts.append(sum(in_bytes(rounded)))
        error = np.sqrt(np.square(Program(rounded).run(images) - exact).mean()) / exact.std()
        assert error <= 2 * tolerance
    assert counts[0] <= counts[1] <= counts[2] and counts[0] < counts[2] > 5


def test_a_file_in_8_bits_answers_about_as_the_network(network, tmp_path):
    model, config, crops = network
    export_file(model, config, tmp_path / "a.native", "native", bank="int8", calibration_crops=crops)
    export_file(model, config, tmp_path / "b.native", "native")
    assert any(in_bytes(load_program(tmp_path / "a.native")[0]))
    assert (tmp_path / "a.native").stat().st_size < 0.8 * (tmp_path / "b.native").stat().st_size
    with torch.no_grad():
        expected = model(crops).numpy()
    (found,) = open_file(tmp_path / "a.native")(crops.numpy())
    assert np.sqrt(np.square(found - expected).mean()) <= 0.1 * expected.std()


def test_a_network_that_8_bits_spoil_is_not_written(network, tmp_path, monkeypatch):
    model, config, crops = network
    monkeypatch.setattr("pose.native.rounding.levels_of", lambda *_: np.array([9.0, 128.0], np.float32))
    monkeypatch.setattr("pose.export.writers.native.round_program", lambda *steps: round_program(*steps, 1e9))
    told = r"/a\.native: quantized, the heatmaps of keypoint \d+ differ by .* of their size, more than 0.5; not written"
    with pytest.raises(ExportError, match=told):
        export_file(model, config, tmp_path / "a.native", "native", calibration_crops=crops)
    assert not list(tmp_path.iterdir())


def changed(steps, kind, place, value):
    """The steps with one constant of the first layer of a kind in 8 bits changed."""
    at = next(i for i, step in enumerate(steps) if step.kind == kind and any(in_bytes([step])))
    constants = list(steps[at].constants)
    constants[place] = value(constants[place])
    return [*steps[:at], Step(kind, steps[at].numbers, tuple(constants), steps[at].shortcut), *steps[at + 1 :]]


@pytest.mark.parametrize(
    ("kind", "place", "value"),
    [
        ("static_bytes", 0, lambda weights: np.ascontiguousarray(weights[:, :-64])),
        ("static_bytes", 0, lambda weights: weights.astype(np.float32)),
        ("static_bytes", 0, lambda weights: np.full_like(weights, 65)),
        ("static_bytes", 0, lambda weights: np.full_like(weights, -65)),
        ("static_bytes", 1, lambda scales: scales[:-1]),
        ("static_bytes", 2, lambda bias: None),
        ("static_bytes", 3, lambda levels: np.array([0.0, 0.0], np.float32)),
        ("static_bytes", 3, lambda levels: np.array([np.nan, 0.0], np.float32)),
        ("static_bytes", 3, lambda levels: np.array([0.1, 256.0], np.float32)),
        ("static_bytes", 3, lambda levels: levels[:1]),
        ("dynamic", 9, lambda levels: None),
        ("dynamic", 9, lambda levels: np.array([0.1, 0.5], np.float32)),
    ],
)
def test_a_file_whose_bytes_do_not_fit_is_refused(kind, place, value, tmp_path):
    conv = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), DynamicConv2d(8, 20, 1, num_kernels=2))
    images = np.random.default_rng(0).random((2, 64, 64, 3), np.float32)
    with torch.no_grad():
        steps = round_program(deploy(conv).steps(), images, 9.0)
    config = settings_of(dict(type="mobilenet_v2", width=0.1, depth=0.1), HEAD)
    export_file(network_of(config), config, tmp_path / "good.native", "native")
    save_program(tmp_path / "a.native", changed(steps, kind, place, value))
    add_details(tmp_path / "a.native", load_program(tmp_path / "good.native")[1])
    with pytest.raises(CheckpointError, match=rf"a\.native: step \d \({kind}\): a layer's"):
        open_file(tmp_path / "a.native")


def test_the_tools_write_and_take_it(run_tool, tmp_path):
    project = write_project(tmp_path)
    options = [f"data.train.annotations={ANNOTATIONS}", "data.train.images=val2017"]
    arguments = [project / "tiny.py", project / "tiny.pth", "--cfg-options", *options, "--format", "native"]
    status, said, error = run_tool("export.py", *arguments, "--int8", 4, "--int8-test", 0)
    assert status == 0 and "exported" in said, error
    assert any(in_bytes(load_program(project / "tiny.native")[0]))
    assert run_tool("test.py", project / "tiny.py", project / "tiny.native")[0] == 0
    assert run_tool("export.py", *arguments, "--int8", 0)[0] == 2
