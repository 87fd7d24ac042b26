"""ONNX files of pose networks: the same poses as torch gives, without importing it."""

import json
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import nn

from pose.config import TestSettings
from pose.datasets.images import warp
from pose.errors import CheckpointError
from pose.geometry import crop_affine
from pose.inference.networks import TorchNetwork
from pose.inference.predictor import Predictor
from pose.onnx_format import METADATA_KEY, NetworkMetadata
from pose.prediction import MEAN, STD, to_input
from pose.runtimes.pixels import normalize
from pose.skeleton import COCO

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx_files import FLOAT, save  # noqa: E402 - needs onnx

helper = onnx.helper

SIZE, HEATMAP = (48, 64), (12, 16)
IMAGE = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
BOXES = [[10, 10, 60, 70, 0.9], [40, 5, 70, 80, 0.5], [0, 0, 30, 30, 0.7]]


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
    expected = Predictor(TorchNetwork(convolution, COCO, SIZE, TestSettings(), "cpu"))(IMAGE, BOXES)
    found = Predictor.from_onnx(network_file, "cpu")(IMAGE, BOXES)
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
    plain = np.stack([warp(IMAGE, affine, SIZE) for affine in affines])
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


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"input_size": [32, None]}, "input_size holds None"),
        ({"heatmap_size": [0, 16]}, "heatmap_size holds 0"),
        ({"input_size": [32, 10**30]}, "input_size holds 10{30}"),
        ({"test": {"flip": True, "flip_shift": 1, "decode": "dark", "batch_size": None}}, "batch_size holds None"),
        ({"test": {"flip": True, "flip_shift": 1, "decode": "dark", "nms_threshold": [None]}}, "nms_threshold is"),
    ],
)
def test_metadata_of_other_types_are_refused(change, error):
    test = {"flip": True, "flip_shift": 1, "decode": "dark", "nms_threshold": 0.9}
    known = NetworkMetadata(COCO, (32, 64), (8, 16), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), test)
    assert NetworkMetadata.from_json(known.to_json()).input_size == (32, 64)
    with pytest.raises((TypeError, ValueError), match=error):
        NetworkMetadata.from_json(json.dumps(json.loads(known.to_json()) | change))
