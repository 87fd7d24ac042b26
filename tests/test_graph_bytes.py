"""Banks of bytes in graphs of other runtimes: what they compute, that they stay bytes, and what is refused."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from small_project import run_tool, write_project
from test_export import HEAD, INPUT_SIZE, MODEL, NETWORKS, network_of, settings_of

from pose.export import batch_scan
from pose.export.banks import check_found
from pose.export.errors import ExportError
from pose.export.formats import export_file
from pose.export.forms import BANKS as FORM_BANKS
from pose.export.forms import FORMS, in_forms
from pose.export.onnx_file import export_onnx
from pose.export.registry import FORMATS
from pose.export.writers.executorch import drop_unused
from pose.models.deploy.folding import deploy
from pose.models.dynamic.dcd import DCDConv2d
from pose.models.dynamic.dynamic_conv import DynamicConv2d
from pose.models.dynamic.graph_bytes import BANKS, IntegerBank, LinearBank, quantized_matrices
from pose.models.dynamic.graph_forms import GraphForms
from pose.options import OptionError
from pose.runtimes.files import open_file

__all__ = ["run_tool"]


def crops(count=1):
    return torch.randn(count, 3, INPUT_SIZE[1], INPUT_SIZE[0], generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("bank", BANKS)
@pytest.mark.parametrize("name", ["condconv", "joint", "narrow"])
def test_a_network_with_a_bank_of_bytes_answers_nearly_the_same(name, bank):
    model = network_of(settings_of(*NETWORKS[name]))
    network = in_forms(deploy(model, fused=False, channels_last=False), GraphForms(bank=bank))
    x = crops()
    with torch.no_grad():
        expected, found = model(x), network(x)
    difference = (found - expected).abs().max()
    assert (found - expected).square().mean() < 1e-3 * expected.var()
    assert difference < 1e-4 if bank == "linear" else difference > 0  # nothing is rounded before its quantizer does


@pytest.mark.parametrize(("channels", "count"), [((4, 8), 4), ((3, 6), 3), ((3, 5), 4), ((4, 4), 1)])
def test_a_bank_in_rows_mixes_the_same_kernels(channels, count):
    layer = DynamicConv2d(*channels, 1, num_kernels=count).eval().fold()
    shares = torch.rand(1, count)
    with torch.no_grad():
        torch.testing.assert_close(LinearBank(layer)(shares), layer.kernels(shares)[0][0])


def test_each_layer_says_which_of_its_matrices_become_bytes():
    """Whatever the numbers of kernels beside it: a bank of 8 is as narrow as an attention's second matrix."""
    layers = {
        "two": DynamicConv2d(8, 8, 3, num_kernels=2),
        "eight": DynamicConv2d(8, 8, 1, num_kernels=8),
        "sigmoid": DynamicConv2d(8, 8, 1, attention="sigmoid"),
        "grouped": DynamicConv2d(8, 8, 3, groups=2),
        "depthwise": DynamicConv2d(8, 8, 3, groups=8),
        "decomposed": DCDConv2d(8, 8, 3),
        "static": torch.nn.Conv2d(8, 8, 1),
        "other": torch.nn.Linear(8, 8),
    }
    network = deploy(torch.nn.ModuleDict(layers).eval(), fused=False, channels_last=False)
    branch = "decomposed.layer.branch.branch"
    products = quantized_matrices(in_forms(network, FORM_BANKS["litert"]))
    assert sorted(list(product) for product in products) == sorted([
        *(["two.bank.weight"], ["two.layer.w1"]),
        *(["eight.bank.weight", "eight.whole"], ["eight.layer.w1"]),
        ["sigmoid.bank.weight", "sigmoid.whole"],
        *(["grouped.layer.w1"], ["depthwise.layer.w1"]),
        *([f"{branch}.{name}.weight"] for name in ("reduce", "gate", "to_lambda", "to_phi")),
    ])  # fmt: skip
    check_found(products, {"eight.whole", *(name for product in products for name in product if "whole" not in name)},
                Path("a"), "it")  # fmt: skip
    with pytest.raises(
        ExportError, match=r"a: it has changed eight\.bank\.weight or eight\.whole, which is to be in 8 b"
    ):
        check_found(
            products, {name for product in products for name in product if "eight." not in name}, Path("a"), "it"
        )
    for forms in (FORMS["litert"], FORM_BANKS["openvino"], FORM_BANKS["onnxruntime"]):
        assert not quantized_matrices(in_forms(network, forms))  # in float32, and where they are bytes already


def written(tmp_path, name, model=MODEL, **options):
    """A small network's settings, the network, and its file with a bank of bytes."""
    settings = settings_of(**model)
    network, path = network_of(settings, 1), tmp_path / f"{name}{FORMATS[name].suffix}"
    if name == "onnx":
        export_onnx(network, settings, path, bank="int8", **options)
    else:
        export_file(network, settings, path, name, bank="int8", **options)
    return settings, network, path


def assert_nearly(path, network):
    x = crops(3)
    with torch.no_grad():
        expected = network(x).numpy()
    (found,) = open_file(path)(x.numpy())
    assert np.square(found - expected).mean() < 0.01 * expected.var()
    assert np.abs(found - expected).max() > 1e-5  # it is rounded


def test_an_onnx_file_has_products_of_bytes(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    _, network, path = written(tmp_path, "onnx")
    assert_nearly(path, network)
    file = onnx.load(str(path))
    assert {entry.domain: entry.version for entry in file.opset_import}["com.microsoft"] == 1
    (scan,) = (node for node in file.graph.node if node.op_type == "Scan")
    body = scan.attribute[0].g if scan.attribute[0].name == "body" else scan.attribute[1].g
    kinds = [node.op_type for node in body.node]
    assert kinds.count("MatMulIntegerToFloat") > 3 and kinds.count("MatMulNBits") > 3
    types = {entry.data_type for entry in body.initializer}
    assert {onnx.TensorProto.INT8, onnx.TensorProto.UINT8} <= types


def test_openvino_keeps_the_bytes(tmp_path):
    openvino = pytest.importorskip("openvino")
    settings, network, path = written(tmp_path, "openvino")
    assert_nearly(path, network)
    exact = tmp_path / "exact.xml"
    export_file(network, settings, exact, "openvino")
    assert path.with_suffix(".bin").stat().st_size < 0.7 * exact.with_suffix(".bin").stat().st_size
    network = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    gathers = [
        str(node.output(0).get_element_type())
        for node in network.get_runtime_model().get_ops()
        if node.get_rt_info()["layerType"].astype(str) == "Gather"
    ]
    assert gathers and all("int8" in kind for kind in gathers)  # it has not made float32 of them ahead


def test_shares_of_a_sigmoid_overflow_no_sum(tmp_path):
    """All kernels at their largest, all shares 1: two neighbors of 127 would be more than 16 bits hold."""
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    layer = DynamicConv2d(4, 8, 1, num_kernels=4, attention="sigmoid").eval().fold()
    layer.bank.fill_(1)
    form = IntegerBank(layer).eval()
    graph = batch_scan.trace(form, torch.ones(1, 4), ["shares"], ["kernel"], free=False)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    (kernel,) = session.run(None, {"shares": np.ones((1, 4), np.float32)})
    np.testing.assert_allclose(kernel, 4, rtol=1e-5)


def test_a_static_network_has_no_bank(tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model = dict(backbone=dict(type="mobilenet_v2", width=0.1, depth=0.1), head=HEAD)
    _, network, path = written(tmp_path, "onnx", model)
    x = crops()
    with torch.no_grad():
        np.testing.assert_allclose(open_file(path)(x.numpy())[0], network(x).numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("ncnn", {}, "has no bank of int8; --bank int8 is for onnx, openvino, litert, executorch, native"),
        ("openvino", {"output": "keypoints"}, "--bank int8 is for heatmaps, without --int8"),
        ("openvino", {"calibration_crops": torch.zeros(1)}, "--bank int8 is for heatmaps, without --int8"),
        ("onnx", {"runtime": "onnxruntime-here"}, "--runtime onnxruntime or openvino"),
    ],
)
def test_what_has_no_bank_of_bytes_is_refused(tmp_path, name, options, said):
    pytest.importorskip("onnx")
    with pytest.raises(OptionError, match=re.escape(said)):
        written(tmp_path, name, **options)
    assert not list(tmp_path.iterdir())


def test_a_bank_of_bytes_that_costs_half_a_point_gets_no_name(tmp_path, run_tool, monkeypatch):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    project = write_project(tmp_path)
    arguments = ["export.py", project / "tiny.py", project / "tiny.pth", "--bank", "int8"]
    monkeypatch.setattr("pose.commands.export.is_dynamic", lambda model: True)  # the tool's own word for it
    monkeypatch.setattr("pose.export.int8.MOST_LOST", -1.1)  # any AP is too low, the network's own as well
    status, _, error = run_tool(*arguments, "--int8-test", 2)
    assert status == 2 and "quantized, AP falls from" in error
    assert not list(project.glob("*.onnx"))
    monkeypatch.setattr("pose.export.int8.MOST_LOST", 1.1)
    status, said, error = run_tool(*arguments, "--int8-test", 2)
    assert status == 0 and "in 8 bits" in said, error
    status, _, error = run_tool(*arguments, "--format", "torch")
    assert status == 2 and "has no bank of int8" in error


def test_constants_that_a_graph_does_not_use_are_dropped():
    """Else ExecuTorch writes a bank twice, in bytes and in float32."""
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2))
    network.register_buffer("bank", torch.ones(9))
    network.get_submodule("0").register_buffer("within", torch.ones(9))
    graph, x = torch.export.export(network, (torch.randn(1, 2),)).module(), torch.randn(1, 2)
    before = graph(x)
    assert {"bank", "0.within"} <= set(graph.state_dict())
    drop_unused(graph)
    assert set(graph.state_dict()) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    torch.testing.assert_close(graph(x), before)
