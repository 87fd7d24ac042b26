"""ONNX files: the same poses as torch gives, without importing it; detectors of both kinds."""

import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
import torch
from spot import spot
from torch import nn

from pose.config import TestSettings
from pose.datasets.images import warp
from pose.errors import CheckpointError, PoseError
from pose.geometry import crop_affine
from pose.inference.detector import load_detector
from pose.inference.exported_network import normalize
from pose.inference.networks import TorchNetwork
from pose.inference.onnx_detector import OnnxDetector
from pose.inference.predictor import Predictor
from pose.onnx_format import METADATA_KEY, NetworkMetadata
from pose.prediction import MEAN, STD, to_input
from pose.skeleton import COCO

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
helper, numpy_helper, FLOAT, INT64 = onnx.helper, onnx.numpy_helper, onnx.TensorProto.FLOAT, onnx.TensorProto.INT64

SIZE, HEATMAP = (48, 64), (12, 16)
PICTURE = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
BOXES = [[10, 10, 60, 70, 0.9], [40, 5, 70, 80, 0.5], [0, 0, 30, 30, 0.7]]


def save(path, nodes, inputs, outputs, constants=None, metadata=None):
    """A model file; constants by name become initialisers."""
    graph = helper.make_graph(
        nodes, "graph",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in outputs],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, str(path))
    return path


@pytest.fixture(scope="module")
def convolution():
    torch.manual_seed(0)
    return nn.Conv2d(3, 17, 4, 4)


@pytest.fixture(scope="module")
def network_file(convolution, tmp_path_factory):
    """A 'pose network' of one convolution, as tools/export.py would write it."""
    weights = {"weight": convolution.weight.detach().numpy(), "bias": convolution.bias.detach().numpy()}
    node = helper.make_node("Conv", ["images", "weight", "bias"], ["heatmaps"], strides=[4, 4])
    known = NetworkMetadata(COCO, SIZE, HEATMAP, MEAN, STD, asdict(TestSettings())).to_json()
    return save(
        tmp_path_factory.mktemp("onnx") / "pose.onnx", [node], [("images", FLOAT, ["n", 3, 64, 48])],
        [("heatmaps", FLOAT, ["n", 17, 16, 12])], weights, {METADATA_KEY: known},
    )  # fmt: skip


def test_the_same_poses_as_torch(network_file, convolution):
    expected = Predictor(TorchNetwork(convolution, COCO, SIZE, TestSettings(), "cpu"))(PICTURE, BOXES)
    found = Predictor.from_onnx(network_file, "cpu")(PICTURE, BOXES)
    np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=1e-4)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    assert np.ptp(found.keypoints[..., :2], axis=(0, 1)).min() > 20


def test_torch_is_not_imported(network_file):
    code = (
        "import sys; sys.modules['torch'] = sys.modules['torchvision'] = None\n"
        "import numpy as np; from pose import Predictor\n"
        "image = np.zeros((50, 60, 3), np.uint8)\n"
        f"assert Predictor.from_onnx({str(network_file)!r})(image).keypoints.shape == (1, 17, 3)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_crops_without_torch_are_the_same_numbers():
    affines = crop_affine([[40, 40], [100, 20.5]], [[50, 70], [20, 30]], SIZE, [0, 20])
    plain = np.stack([warp(PICTURE, affine, SIZE) for affine in affines])
    mean, std = (255 * np.array(values, np.float32) for values in (MEAN, STD))
    expected = to_input(torch.from_numpy(plain), "cpu").numpy()
    np.testing.assert_allclose(normalize(plain, mean, std), expected, atol=1e-6)


def test_files_that_are_no_pose_network_are_named(tmp_path, network_file):
    (tmp_path / "text.onnx").write_text("no network")
    identity = helper.make_node("Identity", ["a"], ["b"])
    shapes = [("a", FLOAT, ["n", 3, 64, 48])], [("b", FLOAT, ["n", 3, 64, 48])]
    save(tmp_path / "other.onnx", [identity], *shapes)
    save(tmp_path / "old.onnx", [identity], *shapes, metadata={METADATA_KEY: '{"skeleton": {}}'})
    for name in ("none.onnx", "text.onnx", "other.onnx", "old.onnx"):
        with pytest.raises(CheckpointError, match=name):
            Predictor.from_onnx(tmp_path / name)


def yolo_file(path, rows, transposed=False):
    """Gives ``rows`` (n, 4 + C) whatever the picture, for an input of 64 x 64."""
    rows = np.array(rows, np.float32)
    rows = rows if transposed else rows.T
    nodes = [
        helper.make_node("ReduceMin", ["images"], ["least"], keepdims=0),
        helper.make_node("Mul", ["least", "zero"], ["nothing"]),
        helper.make_node("Add", ["rows", "nothing"], ["out"]),
    ]
    constants = {"rows": rows[None], "zero": np.zeros((), np.float32)}
    return save(path, nodes, [("images", FLOAT, [1, 3, 64, 64])], [("out", FLOAT, [1, *rows.shape])], constants)


YOLO_ROWS = [
    [16, 12, 16, 20, 0.6, 0.1],  # a person
    [16, 13, 16, 20, 0.8, 0.1],  # the same again, better
    [40, 20, 8, 8, 0.7, 0.9],  # something else
    [40, 20, 8, 8, 0.3, 0.1],  # too doubtful
    [62, 10, 16, 20, 0.55, 0.1],  # half outside
] + [[0, 0, 0, 0, 0, 0]] * 4  # fmt: skip


@pytest.mark.parametrize("transposed", [False, True])
def test_yolo_boxes_are_those_of_the_picture(tmp_path, transposed):
    """A picture of 128 x 96 goes in at half its size."""
    detector = load_detector(str(yolo_file(tmp_path / "a.onnx", YOLO_ROWS, transposed)))
    found = detector(np.zeros((96, 128, 3), np.uint8))
    np.testing.assert_allclose(found, [[16, 6, 32, 40, 0.8], [108, 0, 20, 40, 0.55]], atol=1e-5)
    assert detector(np.zeros((1, 1, 3), np.uint8)).shape[1] == 5


def test_torchvision_s_lists_in_any_order(tmp_path):
    constants = {
        "b": np.array([[5, 5, 25, 45], [0, 0, 9, 9], [50, 20, 300, 60], [1, 1, 5, 5]], np.float32),
        "l": np.array([1, 2, 1, 1]),
        "s": np.array([0.6, 0.99, 0.9, 0.2], np.float32),
        "zero": np.zeros((), np.float32),
    }
    nodes = [
        helper.make_node("ReduceMin", ["images"], ["least"], keepdims=0),
        helper.make_node("Mul", ["least", "zero"], ["nothing"]),
        helper.make_node("Add", ["b", "nothing"], ["boxes"]),
        helper.make_node("Identity", ["l"], ["labels"]),
        helper.make_node("Add", ["s", "nothing"], ["scores"]),
    ]
    outputs = [("labels", INT64, [4]), ("scores", FLOAT, [4]), ("boxes", FLOAT, [4, 4])]
    path = save(tmp_path / "a.onnx", nodes, [("images", FLOAT, [3, "h", "w"])], outputs, constants)
    found = OnnxDetector(path)(spot(40, 40))
    np.testing.assert_allclose(found, [[50, 20, 70, 40, 0.9], [5, 5, 20, 40, 0.6]], atol=1e-6)


def test_files_that_are_no_detector_are_named(tmp_path, network_file):
    (tmp_path / "text.onnx").write_text("no detector")
    identity = [helper.make_node("Identity", [name], [name + "2"]) for name in "ab"]
    inputs = [(name, FLOAT, [1, 3, 8, 8]) for name in "ab"]
    save(tmp_path / "two.onnx", identity, inputs, [(name + "2", FLOAT, [1, 3, 8, 8]) for name in "ab"])
    for name in ("none.onnx", "text.onnx", "two.onnx"):
        with pytest.raises(PoseError, match=name):
            load_detector(str(tmp_path / name))
