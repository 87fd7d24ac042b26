"""Files of other runtimes answer as PyTorch does, say what is needed to use them, and stand in for the checkpoint."""

import json

import cv2
import numpy as np
import pytest
import torch
from small_project import run_tool
from test_deploy import trained
from test_export import NETWORKS, network_of, settings_of
from tiny import INPUT_SIZE, MODEL

from pose import Predictor
from pose.errors import CheckpointError
from pose.export import formats
from pose.export.errors import ExportError
from pose.export.formats import export_file
from pose.export.forms import BANKS, FORMS, in_forms, one_image
from pose.export.registry import FORMATS
from pose.export.writers import torch_program
from pose.inference.exported_network import ExportedNetwork
from pose.models.deploy.folding import deploy
from pose.models.dynamic.dcd import DCDConv2d
from pose.models.dynamic.dynamic_conv import DynamicConv2d
from pose.models.dynamic.dynamic_graph import OneImageDynamic
from pose.models.dynamic.folded_dcd import FoldedDCDConv2d
from pose.models.dynamic.graph_forms import GraphForms
from pose.options import OptionError
from pose.prediction import load_network
from pose.runtimes.files import open_file
from pose.runtimes.session import details_path

__all__ = ["run_tool"]
MODULES = {
    "openvino": ["openvino"],
    "ncnn": ["ncnn", "pnnx"],
    "mnn": ["MNN"],
    "onnx-single": ["onnx"],
    "torch": [],
}
"""What each format that takes seconds needs; the others, and whole networks, are in tests/slow."""


def small_network():
    """A dynamic network of a few layers that is not its initialization, and its settings."""
    settings = settings_of(**MODEL)
    torch.manual_seed(1)
    with torch.no_grad():
        return trained(settings.build_model(), 1), settings


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Exports the same dynamic network in a format, once; skips where its runtime is not installed."""
    (model, settings), folder, done = small_network(), tmp_path_factory.mktemp("formats"), {}

    def write(name):
        for module in MODULES[name]:
            pytest.importorskip(module)
        if name not in done:
            done[name] = folder / f"{name}{FORMATS[name].suffix}"
            assert export_file(model, settings, done[name], name) <= 1e-4
        return model, settings, done[name]

    return write


@pytest.mark.parametrize("name", MODULES)
def test_a_file_answers_as_pytorch_at_any_batch_size(written, name):
    model, settings, path = written(name)
    x = torch.randn(3, 3, INPUT_SIZE[1], INPUT_SIZE[0])
    with torch.no_grad():
        expected = model(x)
    assert np.abs(open_file(path)(x.numpy())[0] - expected.numpy()).max() < 1e-4
    torch.testing.assert_close(load_network(settings, path)(x), expected, rtol=0, atol=1e-4)  # what the test tool does


@pytest.mark.parametrize("name", MODULES)
def test_a_predictor_takes_a_file(written, name):
    model, settings, path = written(name)
    image = np.random.default_rng(0).integers(0, 255, (90, 60, 3), np.uint8)
    poses = Predictor.from_file(path)(image)
    assert poses.keypoints.shape == (1, 17, 3) and np.isfinite(poses.keypoints).all()
    assert poses.skeleton == settings.skeleton()


@pytest.mark.parametrize("name", ["onnx-single", "openvino"])
def test_a_file_may_end_in_keypoints_in_pixels_of_the_crop(written, tmp_path, name):
    model, settings, heatmaps = written(name)
    path = tmp_path / f"keypoints{FORMATS[name].suffix}"
    assert export_file(model, settings, path, name, output="keypoints") <= 1e-4
    crops = np.random.default_rng(0).integers(0, 255, (3, INPUT_SIZE[1], INPUT_SIZE[0], 3), np.uint8)
    (answer,) = open_file(path)(crops)
    assert answer.shape == (3, 17, 3)
    points, scores = ExportedNetwork(path)(crops)
    expected = ExportedNetwork(heatmaps)(crops)
    np.testing.assert_allclose(scores, expected[1], atol=1e-4)
    assert (np.abs(points - expected[0]).max(2) < 1e-3).mean() > 0.95  # an equal peak may be found at either place


def test_what_cannot_end_in_keypoints_names_what_can(tmp_path):
    with pytest.raises(OptionError, match="ncnn: gives heatmaps; keypoints are for onnx, onnx-single, openvino"):
        export_file(*small_network(), tmp_path / "a.param", "ncnn", output="keypoints")


@pytest.mark.parametrize("forms", [
    GraphForms(), GraphForms(depthwise="chain"), GraphForms(linear="convolution"), GraphForms(computed_bias=False),
    GraphForms(batch="any"), GraphForms(mixing="sum"),
    GraphForms(depthwise="chain", pointwise="product", averages="kept", parts="slices"),
    GraphForms(pointwise="product", channels_last=True, constant_pixels=8), GraphForms(decomposed="constant"),
    GraphForms(depthwise="chain", averages="kept", decomposed="constant"),
])  # fmt: skip
@pytest.mark.parametrize("name", ["condconv", "joint", "lambda_only", "narrow"])
def test_every_form_of_a_network_computes_the_same(name, forms):
    model = network_of(settings_of(*NETWORKS[name]))
    network = in_forms(deploy(model, fused=False, channels_last=False), forms)
    x = torch.randn(3 if forms.batch == "any" else 1, 3, INPUT_SIZE[1], INPUT_SIZE[0])
    with torch.no_grad():
        torch.testing.assert_close(network(x), model(x), rtol=0, atol=1e-4)


@pytest.mark.parametrize("forms", [
    GraphForms(), GraphForms(linear="convolution"), GraphForms(computed_bias=False), GraphForms(decomposed="constant"),
])  # fmt: skip
@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("size", [2, 60], ids=["factors", "one kernel"])
def test_a_decomposed_layer_answers_the_same_by_factors_and_by_one_kernel(size, blocks, forms):
    torch.manual_seed(0)
    x = torch.randn(1, 16, size, size)
    with torch.no_grad():
        layer = FoldedDCDConv2d(DCDConv2d(16, 24, 3, padding=1, num_blocks=blocks).eval()).eval()
        assert layer.assembling_is_less(size, size) == (size == 60)
        found = in_forms(torch.nn.Sequential(layer), forms)(x)
        torch.testing.assert_close(found, layer(x), rtol=0, atol=1e-5)


DECOMPOSED = [
    dict(), dict(num_blocks=2, stride=2), dict(use_lambda=False), dict(use_phi=False), dict(kernel_size=1),
    dict(padding=0), dict(padding_mode="reflect"), dict(groups=16), dict(groups=16, stride=2, use_lambda=False),
    dict(groups=16, use_phi=False, bias=False),
]  # fmt: skip
"""Decomposed layers; but for joint fusion every kind of residual, size and padding."""


@pytest.mark.parametrize("options", DECOMPOSED, ids=str)
def test_a_decomposed_layer_has_no_computed_kernel_in_executorch(options):
    torch.manual_seed(0)
    arguments = {"kernel_size": 3, "padding": options.get("kernel_size", 3) // 2, **options}
    norm, x = torch.nn.BatchNorm2d(16), torch.randn(1, 16, 10, 9)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.running_mean.normal_()
        layer = DCDConv2d(16, 16, **arguments).eval()
        for value in layer.parameters():
            value.add_(0.1 * torch.randn_like(value))
        expected = norm.eval()(layer(x))
        folded = torch.nn.Sequential(layer.fold(norm))
        for form, computed in (("fewest", True), ("constant", False)):
            network = in_forms(folded, FORMS["executorch"]._replace(decomposed=form)).eval()
            torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-4)
            graph = torch.export.export(network, (x,)).graph
            kernels = [node.args[1].op for node in graph.nodes if node.target == torch.ops.aten.conv2d.default]
            assert any(op != "placeholder" for op in kernels) == computed, form
    assert FORMS["executorch"].decomposed == "constant"


JOINT = [dict(), dict(num_blocks=2, stride=2), dict(padding=0, dilation=2), dict(padding_mode="reflect"),
         dict(use_lambda=False, bias=False), dict(normalize=False)]  # fmt: skip


@pytest.mark.parametrize("options", JOINT, ids=str)
@pytest.mark.parametrize("runtime", ["litert", "executorch", "ncnn", "openvino"])
def test_a_joint_layer_has_no_tensor_of_more_than_four_dimensions(options, runtime):
    """ncnn has none, and LiteRT's converter refuses those of seven."""
    torch.manual_seed(0)
    layer = DCDConv2d(8, 12, 3, **{"padding": 1, "fusion": "joint", **options}).eval()
    norm, x = torch.nn.BatchNorm2d(12).eval(), torch.randn(1, 8, 10, 9)
    with torch.no_grad():
        for module in (norm, *layer.modules()):
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_()
                module.weight.uniform_(0.5, 2)
        for value in layer.parameters():
            value.add_(0.1 * torch.randn_like(value))
        network = in_forms(torch.nn.Sequential(layer.fold(norm)), FORMS[runtime]).eval()
        torch.testing.assert_close(network(x), norm(layer(x)), rtol=0, atol=1e-4)
        graph = torch.export.export(network, (x,)).graph
    assert (
        max(len(node.meta["val"].shape) for node in graph.nodes if isinstance(node.meta.get("val"), torch.Tensor)) == 4
    )


@pytest.mark.parametrize("field", GraphForms._fields)
def test_every_form_is_some_runtimes(field):
    found = {getattr(forms, field) for forms in (*FORMS.values(), *BANKS.values())}
    assert len(found) > 1


def test_few_pixels_are_multiplied_by_all_kernels_and_many_by_a_mixed_one():
    layer = DynamicConv2d(8, 16, 1).eval().fold()
    mixed = []
    with torch.no_grad():
        form = OneImageDynamic(layer, GraphForms(pointwise="product", constant_pixels=6))
        form._kernel = lambda shares, kernel=form._kernel: mixed.append(shares) or kernel(shares)
        for height, width, count in ((2, 3, 0), (1, 7, 1)):
            x = torch.randn(1, 8, height, width)
            torch.testing.assert_close(form(x), layer(x), rtol=0, atol=1e-5)
            assert len(mixed) == count
    with torch.no_grad():  # strides and windows are no matrix products
        for options in (dict(stride=2), dict(padding=1), dict(groups=8)):
            layer = DynamicConv2d(8, 16, 1, **options).eval().fold()
            x = torch.randn(1, 8, 2, 3)
            form = OneImageDynamic(layer, GraphForms(constant_pixels=6, channels_last=True))
            torch.testing.assert_close(form(x), layer(x), rtol=0, atol=1e-5)


def test_a_network_in_a_form_leaves_the_network_as_it_was():
    model, _ = small_network()
    deployed = deploy(model, fused=False, channels_last=False)
    one_image(deployed, "ncnn")
    x = torch.randn(3, 3, INPUT_SIZE[1], INPUT_SIZE[0])
    with torch.no_grad():
        torch.testing.assert_close(deployed(x), model(x), rtol=0, atol=1e-4)  # a batch, which the form is not for


@pytest.mark.parametrize("name", ["openvino", "torch"])
def test_a_file_without_its_names_is_refused(written, tmp_path, name):
    path = written(name)[2]
    alone = tmp_path / path.name
    alone.write_bytes(path.read_bytes())
    with pytest.raises(CheckpointError, match="json: missing; it belongs to"):
        open_file(alone)
    details_path(alone).write_text("{}")
    with pytest.raises(CheckpointError, match="cannot be used"):
        open_file(alone)
    known = json.loads(details_path(path).read_text())
    assert json.loads(known["pose"])["skeleton"]["keypoints"][0] == "nose"


@pytest.mark.parametrize("suffix", [".pt2", ".xml", ".param"])
def test_a_broken_file_is_one_line(written, tmp_path, suffix):
    name = next(name for name in MODULES if FORMATS[name].suffix == suffix)
    details = details_path(written(name)[2]).read_bytes()
    path = tmp_path / f"broken{suffix}"
    details_path(path).write_bytes(details)
    path.write_text("no network")
    with pytest.raises(CheckpointError, match=r"broken\."):
        open_file(path)


def test_what_answers_differently_or_does_not_convert_leaves_nothing(tmp_path, monkeypatch):
    model, settings = small_network()
    monkeypatch.setattr(formats, "compare", lambda *arguments: 2e-4)
    with pytest.raises(ExportError, match=r"differ from PyTorch's by 0\.0002"):
        export_file(model, settings, tmp_path / "a.pt2", "torch")
    convert = torch.export.export

    def converter(refuses):
        def write(network, *arguments, **options):
            if refuses(network):
                raise RuntimeError("aten::thing is not known")
            return convert(network, *arguments, **options)

        return write

    def has_the_last_layer(network):
        return any(getattr(part, "out_channels", 0) > 1000 for part in network.modules())

    for refuses, told in (
        (
            has_the_last_layer,
            r"PyTorch refuses head\.conv \(Conv2d\), alone as well \(aten::thing is not known\); --format",
        ),
        (lambda network: hasattr(network, "backbone"), "refuses the network, though each part of it alone converts"),
    ):
        monkeypatch.setattr("torch.export.export", converter(refuses))
        with pytest.raises(ExportError, match=told):
            export_file(model, settings, tmp_path / "a.pt2", "torch")
    assert not list(tmp_path.iterdir())


def test_a_format_that_is_unknown_and_a_wrong_ending_are_told(tmp_path):
    with pytest.raises(OptionError, match="unknown 'openvio': did you mean 'openvino'"):
        export_file(*small_network(), tmp_path / "a.xml", "openvio")
    with pytest.raises(CheckpointError, match="not an exported network"):
        open_file(tmp_path / "a.tflit")


def test_the_demo_draws_with_a_file(written, tmp_path, run_tool):
    path = written("torch")[2]
    cv2.imwrite(str(tmp_path / "me.png"), np.random.default_rng(0).integers(0, 255, (90, 60, 3), np.uint8))
    status, _, error = run_tool("demo.py", path, tmp_path / "me.png", "--out", tmp_path / "poses")
    assert status == 0, error
    assert (tmp_path / "poses" / "me.png").is_file()


def test_a_program_that_cannot_be_written_ends_no_process(tmp_path):
    with pytest.raises(OSError, match="none"):
        torch_program.write(torch.nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8), tmp_path / "none" / "a.pt2")
