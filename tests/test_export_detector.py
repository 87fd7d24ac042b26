"""The person detector as a file finds what it finds in PyTorch, and a picture becomes poses without torch."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from test_core_install import ABSENT, EXTRAS
from tiny import INPUT_SIZE, MODEL

from pose.checkpoint import save_checkpoint
from pose.config import make_settings
from pose.detection.detector import PersonDetector
from pose.detection.exported import ExportedDetector
from pose.detection.settings import make_detector_settings
from pose.errors import CheckpointError
from pose.inference.detector import load_detector
from pose.options import OptionError

pytest.importorskip("onnx")

from pose.export import detector_file  # noqa: E402
from pose.export.errors import ExportError  # noqa: E402
from pose.export.onnx_file import export_onnx  # noqa: E402


@pytest.fixture(scope="module", params=["person.onnx", "person.native"])
def detectors(tmp_path_factory, request):
    """A checkpoint of a small detector that finds something, and its file."""
    if request.param == "person.native":
        request.getfixturevalue("native_layers")
    folder = tmp_path_factory.mktemp("detector")
    settings = make_detector_settings(dict(model=dict(width=0.25), test=dict(input_area=128 * 96, threshold=0.1)))
    torch.manual_seed(0)
    network = settings.build_model()
    torch.nn.init.normal_(network.final.weight, std=0.3)
    torch.nn.init.zeros_(network.final.bias[:1])
    save_checkpoint(folder / "person.pth", {"model": network.state_dict(), "settings": settings.to_dict()})
    assert detector_file.export_detector(folder / "person.pth", folder / request.param) <= 0.05
    return folder / "person.pth", folder / request.param


@pytest.mark.parametrize("size", [(60, 90), (128, 96), (300, 40), (33, 400)])
def test_a_file_finds_the_same_boxes(detectors, size):
    image = np.random.default_rng(1).integers(0, 255, (size[1], size[0], 3), np.uint8)
    expected = PersonDetector.from_checkpoint(detectors[0], native=False)(image)
    found = load_detector(str(detectors[1]))(image)
    assert len(expected) > 3
    np.testing.assert_allclose(found, expected, atol=1e-2)
    assert len(load_detector(str(detectors[1]), threshold=0.99)(image)) < len(expected)


def test_a_picture_becomes_poses_without_torch(detectors, tmp_path):
    settings = make_settings(dict(model=MODEL, data=dict(input_size=INPUT_SIZE)))
    export_onnx(settings.build_model(), settings, tmp_path / "pose.onnx")
    cv2.imwrite(str(tmp_path / "me.png"), np.random.default_rng(0).integers(0, 255, (90, 60, 3), np.uint8))
    root = Path(__file__).resolve().parents[1]
    arguments = ["demo", "pose.onnx", "me.png", "--detector", str(detectors[1])]
    code = ABSENT.format(names=set(EXTRAS)) + f"sys.argv = {arguments!r}\n"
    code += f"runpy.run_path({str(root / 'tools' / 'demo.py')!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(json.loads((tmp_path / "poses" / "keypoints.json").read_text())) > 1


def test_what_answers_differently_is_not_written(detectors, tmp_path, monkeypatch):
    monkeypatch.setattr(detector_file, "compare", lambda *arguments: 1.0)
    with pytest.raises(ExportError, match="differ from PyTorch's by 1 pixels"):
        detector_file.export_detector(detectors[0], tmp_path / detectors[1].name)
    assert not list(tmp_path.iterdir())


def test_what_is_no_such_detector_or_asks_for_other_things_is_told(detectors):
    with pytest.raises(OptionError, match="finds persons alone, no 'dog'"):
        load_detector(str(detectors[1]), class_name="dog")
    with pytest.raises(OptionError, match="--detector-pixels"):
        load_detector(str(detectors[1]), pixels="rgb")
    with pytest.raises(CheckpointError, match="not found"):
        ExportedDetector("none.onnx")
