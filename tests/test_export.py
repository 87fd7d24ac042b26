"""Exported files answer as PyTorch does at any batch size, say all that is needed to use them, and need no torch."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_project import assert_tested_alike, run_tool, write_project
from test_deploy import trained

from pose import heatmap
from pose.command_line import parse_options
from pose.config import Settings, TestSettings, load_settings, make_settings
from pose.errors import CheckpointError, MissingExtra
from pose.export.head import KeypointNetwork
from pose.export.onnx_file import ExportError, export_onnx
from pose.export.registry import RUNTIMES
from pose.export.runtimes import OPENERS
from pose.models.dynamic.dynamic_conv import DynamicConv2d
from pose.models.dynamic.dynamic_graph import OneImageDynamic
from pose.models.dynamic.folded import FoldedDynamicConv2d
from pose.models.dynamic.graph_forms import GraphForms
from pose.prediction import predict_crops
from pose.skeleton import COCO

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from pose.export.int8 import training_crops  # noqa: E402
from pose.inference.exported_network import ExportedNetwork  # noqa: E402
from pose.onnx_format import METADATA_KEY  # noqa: E402
from pose.prediction import load_network  # noqa: E402

__all__ = ["run_tool"]
ROOT = Path(__file__).parents[1]
INPUT_SIZE = (32, 64)
HEAD = dict(type="bottleneck", stages=((8, 8, 1),) * 3)
MODEL = dict(
    backbone=dict(type="mobilenet_v2", width=0.1, depth=0.1, conv=dict(type="dynamic")),
    head=dict(HEAD, conv=dict(type="dynamic")),
)


def settings_of(backbone: dict, head: dict, **test) -> Settings:
    return make_settings(
        dict(model=dict(backbone=backbone, head=head), data=dict(input_size=INPUT_SIZE), test=dict(test))
    )


def network_of(settings: Settings, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    with torch.no_grad():
        model = trained(settings.build_model(), seed)
    torch.nn.init.normal_(model.head.final.weight, std=0.1)
    return model


def random_crops(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, INPUT_SIZE[1], INPUT_SIZE[0], 3), np.uint8)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple[torch.nn.Module, Settings, Path]:
    settings = settings_of(**MODEL)
    # seed 0 has a keypoint of its own mirror on the middle line, where flip averaging makes both neighbours equal
    model, path = network_of(settings, 1), tmp_path_factory.mktemp("export") / "pose.onnx"
    assert export_onnx(model, settings, path) <= 1e-4
    return model, settings, path


NETWORKS = dict(
    dynamic=(dict(type="resnet", depth=10, conv=dict(type="dynamic")), dict(type="deconv", channels=(8, 8, 8))),
    condconv=(
        dict(type="mobilenet_v2", width=0.1, depth=0.1, conv=dict(type="condconv")),
        dict(HEAD, conv=dict(type="dcd", roles=["depthwise", "project"])),
    ),
    joint=(
        dict(type="resnet", depth=10, conv=dict(type="dcd", fusion="joint", num_blocks=2)),
        dict(type="deconv", channels=(8, 8, 8)),
    ),
    lambda_only=(
        dict(type="mobilenet_v2", width=0.1, depth=0.1, conv=dict(type="dcd", use_phi=False)),
        dict(HEAD, conv=dict(type="dcd", num_blocks=2)),
    ),
    narrow=(MODEL["backbone"], MODEL["head"]),
)


@pytest.mark.parametrize(
    ("name", "runtime"),
    [(name, "onnxruntime") for name in NETWORKS if name != "narrow"]
    + [(name, runtime) for name in ("condconv", "narrow") for runtime in ("openvino", "onnxruntime-here")],
)
def test_every_kind_of_layer_answers_the_same_at_batch_1_3_and_8(tmp_path, name, runtime):
    settings = settings_of(*NETWORKS[name])
    assert export_onnx(network_of(settings), settings, tmp_path / "pose.onnx", runtime=runtime) <= 1e-4


@pytest.mark.parametrize("copied", [None, 768])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("options", [dict(), dict(stride=2), dict(dilation=2), dict(padding_mode="reflect")])
@pytest.mark.parametrize(("kernel_size", "side"), [(3, 8), (3, 60), (5, 8), (5, 60)])
def test_a_depthwise_chain_answers_as_its_layer(kernel_size, side, options, bias, copied):
    torch.manual_seed(0)
    conv = DynamicConv2d(6, 6, kernel_size, padding=kernel_size // 2, groups=6, bias=bias, **options)
    layer, x = FoldedDynamicConv2d(conv).eval(), torch.randn(1, 6, side, side)
    with torch.no_grad():
        form = OneImageDynamic(layer, GraphForms(depthwise="chain", copied_pixels=copied))
        torch.testing.assert_close(form(x), layer(x), rtol=0, atol=1e-5)


def operations(graph) -> list[str]:
    """Of a graph and those inside it."""
    inner = [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]
    return [f"{node.domain}:{node.op_type}" for node in graph.node] + sum(map(operations, inner), [])


def test_dynamic_networks_run_image_by_image_and_static_ones_as_they_are(tmp_path, exported):
    assert operations(onnx.load(exported[2]).graph).count(":Scan") == 1
    static = settings_of(dict(MODEL["backbone"], conv=dict(type="static")), HEAD)
    for runtime in RUNTIMES:
        export_onnx(network_of(static), static, tmp_path / "pose.onnx", runtime=runtime)
        found = operations(onnx.load(tmp_path / "pose.onnx").graph)
        assert set(found) <= {f":{name}" for name in ("Conv", "Clip", "Add", "Resize", "Constant", "Relu", "Concat")}


@pytest.mark.parametrize("output", ["heatmaps", "keypoints"])
def test_a_file_for_this_processor_is_refused_by_others(tmp_path, output):
    settings = settings_of(dict(MODEL["backbone"], width=0.25), dict(HEAD, conv=dict(type="dynamic")))
    path = tmp_path / "pose.onnx"
    export_onnx(network_of(settings), settings, path, output, "onnxruntime-here")
    assert "com.microsoft.nchwc:Conv" in operations(onnx.load(path).graph)
    points, scores = ExportedNetwork(path)(random_crops(3))
    assert points.shape == (3, 17, 2) and scores.shape == (3, 17)
    file = onnx.load(path)
    for entry in file.metadata_props:
        if entry.key == METADATA_KEY:
            known = json.loads(entry.value)
            entry.value = json.dumps(dict(known, probe=[1.1 * value for value in known["probe"]]))
    onnx.save(file, path)
    with pytest.raises(CheckpointError, match="exported for another kind of processor"):
        ExportedNetwork(path)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("count", [1, 5])
def test_the_network_of_a_file_finds_the_keypoints_that_pytorch_finds(exported, flip, count):
    model, settings, path = exported
    crops = random_crops(count)
    test = TestSettings(flip=flip)
    expected = predict_crops(model, torch.from_numpy(crops), COCO.flip_index, test, "cpu")
    network = ExportedNetwork(path)
    network.metadata.test["flip"] = flip
    points, scores = network(crops)
    np.testing.assert_allclose(scores, expected[1], atol=1e-4)
    moved = np.abs(points - expected[0]).max(axis=2) >= 1e-3
    assert (
        moved.sum(axis=1).max() <= 1 and moved.sum(axis=0).max() <= 1
    )  # two random peaks may be equal but for rounding
    assert network.input_size == INPUT_SIZE and network.heatmap_size == (8, 16) and network.skeleton == COCO


def test_the_metadata_says_how_to_use_the_file(exported):
    model, settings, path = exported
    properties = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    pose = json.loads(properties["pose"])
    assert pose["input_size"] == list(INPUT_SIZE)
    assert pose["mean"] == [0.485, 0.456, 0.406] and pose["std"] == [0.229, 0.224, 0.225]
    for name in ("keypoints", "flip_pairs", "limbs", "sigmas"):
        assert pose["skeleton"][name] == json.loads(json.dumps(getattr(COCO, name)))
    assert pose["test"]["decode"] == "sign" and pose["test"]["flip"] is True
    assert json.loads(properties["model"])["backbone"]["conv"]["type"] == "dynamic"
    assert (properties["output"], properties["channels"]) == ("heatmaps", "RGB")


def test_a_file_may_end_in_keypoints(tmp_path, exported):
    model, settings, path = exported
    keypoints = tmp_path / "keypoints.onnx"
    export_onnx(model, settings, keypoints, "keypoints")
    crops = random_crops(3)
    points, scores = ExportedNetwork(keypoints)(crops)
    expected = ExportedNetwork(path)(crops)
    np.testing.assert_allclose(scores, expected[1], atol=1e-5)
    assert (np.abs(points - expected[0]).max(axis=2) < 1e-3).mean() > 0.98
    session = onnxruntime.InferenceSession(keypoints, providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"crops": np.ascontiguousarray(crops[..., ::-1])})  # RGB, as phones have it
    assert answer.shape == (3, 17, 3) and answer[..., :2].max() > 16  # beyond the heatmap's 8 x 16: the crop's pixels
    np.testing.assert_allclose(answer[..., :2], 4 * points, atol=1e-3)


@pytest.mark.parametrize("decode", heatmap.DECODERS)
@pytest.mark.parametrize(("flip", "shift"), [(False, 1), (True, 0), (True, 2)])
def test_the_head_decodes_as_the_protocol_does(decode, flip, shift):
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(40, 17, 8, 6, generator=generator)
    if decode == "dark":  # peaks in the middle, at edges and in corners; the second derivatives of noise are any number
        peaks = torch.rand(40, 17, 2, generator=generator) * torch.tensor([27.0, 35.0]) - 2
        maps = maps.abs() * 1e-3 + heatmap.encode(peaks, torch.ones(40, 17), (6, 8))[0]
    maps[0, 0] = -1 - maps[0, 0].abs()

    def network(x):
        return torch.cat([maps, maps.roll(3, 1)]) if flip else maps

    points, scores = KeypointNetwork(network, COCO, flip, shift, decode)(torch.zeros(40, 3, 4, 4))
    averaged = heatmap.average_flip(maps, maps.roll(3, 1), COCO.flip_index, shift) if flip else maps
    expected = heatmap.decode(averaged, decode)
    torch.testing.assert_close(points, expected[0])
    torch.testing.assert_close(scores, expected[1])


def test_a_decoder_that_no_graph_has_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("pose.export.head.DECODERS", ("none", "sign"))
    settings = settings_of(**MODEL, decode="dark")
    with pytest.raises(ExportError, match="test.decode must be one of none, sign to be exported, got 'dark'"):
        export_onnx(network_of(settings), settings, tmp_path / "pose.onnx", "keypoints")


def test_a_file_that_answers_differently_is_not_written(tmp_path, monkeypatch):
    settings = settings_of(**MODEL)
    monkeypatch.setattr("pose.export.onnx_file.compare", lambda *arguments: 2e-4)
    with pytest.raises(ExportError, match="differ from PyTorch's by 0.0002"):
        export_onnx(network_of(settings), settings, tmp_path / "pose.onnx")
    assert not list(tmp_path.iterdir())


def test_torch_is_not_needed_to_run_a_file(exported):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np; from pose.inference.exported_network import ExportedNetwork\n"
        f"points, scores = ExportedNetwork({str(exported[2])!r})(np.zeros((2, 64, 32, 3), np.uint8))\n"
        "print(points.shape, scores.shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "(2, 17, 2) (2, 17)", done.stderr


def test_the_test_tool_takes_a_file_in_place_of_the_checkpoint(tmp_path, exported):
    model, settings, path = exported
    loaded = load_network(settings, path)
    x = torch.randn(3, 3, INPUT_SIZE[1], INPUT_SIZE[0])
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), model(x), rtol=0, atol=1e-4)
    other = make_settings(dict(model=settings.model, data=dict(input_size=(64, 64))))
    with pytest.raises(CheckpointError, match="its input size is not the configuration's"):
        load_network(other, path)
    torch.save(model.state_dict(), tmp_path / "pose.pth")
    torch.testing.assert_close(load_network(settings, tmp_path / "pose.pth").state_dict(), model.state_dict())


@pytest.mark.parametrize("name", OPENERS)
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_both_runtimes_read_files_made_for_either(tmp_path, name, runtime):
    pytest.importorskip(name)
    settings = settings_of(**MODEL)
    model = network_of(settings)
    export_onnx(model, settings, tmp_path / "pose.onnx", runtime=runtime)
    opened = OPENERS[name](tmp_path / "pose.onnx")
    for batch in (1, 3):
        x = torch.randn(batch, 3, INPUT_SIZE[1], INPUT_SIZE[0])
        with torch.no_grad():
            torch.testing.assert_close(opened(x), model(x), rtol=0, atol=1e-4)


def test_a_runtime_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtra, match=r"needs openvino, .* pip install '\.\[openvino\]'"):
        OPENERS["openvino"]("pose.onnx")


def test_the_test_tool_says_the_same_of_a_file_and_of_its_checkpoint(tmp_path, run_tool):
    project = write_project(tmp_path)
    assert run_tool("export.py", project / "tiny.py", project / "tiny.pth")[0] == 0
    assert_tested_alike(run_tool, project, "tiny.pth", "tiny.onnx")


def test_a_static_network_may_be_of_8_bits(tmp_path, run_tool):
    project = write_project(tmp_path)
    options = ["data.train.annotations=annotations/person_keypoints_val2017.json", "data.train.images=val2017"]
    exact, path = tmp_path / "exact.onnx", tmp_path / "int8.onnx"
    arguments = [project / "tiny.py", project / "tiny.pth", "--cfg-options", *options, "--out"]
    assert run_tool("export.py", *arguments, exact)[0] == 0
    status, said, error = run_tool("export.py", *arguments, path, "--int8", 4, "--int8-test", 0)
    assert status == 0, error
    assert {":QuantizeLinear", ":DequantizeLinear"} <= set(operations(onnx.load(path).graph))
    assert path.stat().st_size < 0.6 * exact.stat().st_size
    weights = [onnx.numpy_helper.to_array(value) for value in onnx.load(path).graph.initializer if value.data_type == 3]
    assert all(abs(value.astype(int)).max() <= 64 for value in weights) and len(weights) > 5  # 7 bits, see int8.py
    settings = load_settings(project / "tiny.py", parse_options(options))
    crops = training_crops(settings, 4)
    expected, found = (load_network(settings, file)(crops) for file in (exact, path))
    assert (found - expected).square().mean() < 0.02 * expected.var()
    assert run_tool("export.py", *arguments, path, "--int8", 0)[0] == 2


def test_8_bits_that_cost_half_a_point_get_no_name(tmp_path, run_tool, monkeypatch):
    project = write_project(tmp_path)
    options = ["data.train.annotations=annotations/person_keypoints_val2017.json", "data.train.images=val2017"]
    arguments = ["export.py", project / "tiny.py", project / "tiny.pth", "--cfg-options", *options, "--int8", 4]
    monkeypatch.setattr("pose.export.int8.MOST_LOST", -1.1)  # any AP is too low, the network's own as well
    status, _, error = run_tool(*arguments, "--int8-test", 2)
    assert status == 2 and re.search(
        r"tiny\.onnx: quantized, AP falls from 0\.\d+ to 0\.\d+ on up to 2 persons of .*; not written", error
    )
    assert not list(project.glob("*.onnx")) and not list(project.glob(".*"))
    monkeypatch.setattr("pose.export.int8.MOST_LOST", 1.1)
    status, said, error = run_tool(*arguments)
    assert status == 0, error
    assert re.search(r"AP of up to 500 test persons: 0\.\d+ in 8 bits, 0\.\d+ before", said)


def test_the_benchmark_of_exported_networks_writes_its_table(tmp_path, monkeypatch):
    tool = runpy.run_path(str(ROOT / "tools" / "benchmark_export.py"))
    document, options = tmp_path / "export.md", "--runtimes onnxruntime --widths 0.1 --batch 2 --rounds 2 --runs 1"
    monkeypatch.setattr("sys.argv", ["benchmark_export.py", *options.split(), "--write", str(document)])
    monkeypatch.setattr("pose.export.proof.CHECKED_BATCHES", (1,))
    for name in ("dynamic", "dynamic, for OpenVINO", "decomposed"):
        tool["NETWORKS"].pop(name)
    with pytest.raises(SystemExit, match="0"):
        tool["main"]()
    text = document.read_text()
    assert "**ONNX Runtime: MobileNetV2 x0.1, Type-B, batch 2, 256 x 192**" in text
    assert "| dynamic, native in PyTorch |" in text
    assert "| static |" in text and "| dynamic, for this processor |" in text
