"""Weights that come with the repository: put there by a tool, found by the demo, refused when they changed."""

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from small_project import TOOLS, write_project
from small_project import run_tool as run_tool

import pose
from pose import Predictor, weights
from pose.checkpoint import load_checkpoint, load_weights, save_checkpoint
from pose.config import load_settings
from pose.datasets.coco import read_annotations
from pose.detection.settings import load_detector_settings
from pose.engine import evaluate
from pose.engine.evaluate import make_test_loader
from pose.engine.predict import predict
from pose.errors import CheckpointError
from pose.evaluation.coco_eval import load_annotations
from pose.evaluation.pck import length_pck
from pose.evaluation.results import Results
from pose.files import sha256
from pose.inference.boxes import whole_image
from pose.inference.detector import load_detector
from pose.options import OptionError


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose weights are in a folder of its own."""
    write_project(tmp_path)
    monkeypatch.setattr(weights, "FOLDER", tmp_path / "weights")
    monkeypatch.setattr(weights, "ROOT", tmp_path)
    return tmp_path


@pytest.fixture
def ship(project, run_tool):
    def ship(name, *options):
        return run_tool("ship_weights.py", project / "tiny.py", project / "tiny.pth", "--name", name, "--about",
                        "a test", *options)  # fmt: skip

    return ship


def test_weights_are_kept_in_half_precision_and_found(project, ship):
    status, out, error = ship("first")
    assert status == 0, error
    found = weights.shipped()
    assert found[:4] == ("first", project / "tiny.py", project / "weights" / "first.pth", "coco")
    half, whole = load_checkpoint(found.checkpoint)["model"], load_checkpoint(project / "tiny.pth")["model"]
    assert half.keys() == whole.keys()
    for name, value in whole.items():
        assert half[name].dtype != torch.float32
        torch.testing.assert_close(half[name].to(value.dtype), value, rtol=1e-3, atol=1e-6)
    assert f"{found.checkpoint.stat().st_size / 1e6:.1f} MB" in out


def test_the_default_stays_until_another_is_asked_for(ship):
    for name, *options in (("first",), ("second",), ("third", "--default")):
        ship(name, *options)
        assert weights.shipped().name == {"second": "first"}.get(name, name)
    assert weights.shipped("second").name == "second"
    before = weights.shipped("second").checkpoint.read_bytes()
    status, _, error = ship("second")
    assert status == 2 and "take another name, or add --replace" in error
    assert weights.shipped("second").checkpoint.read_bytes() == before
    assert ship("second", "--replace")[0] == 0
    with pytest.raises(OptionError, match="no weights 'secand' .*did you mean 'second'"):
        weights.shipped("secand")


def test_weights_are_exported_by_their_name(ship, run_tool, tmp_path):
    assert ship("first")[0] == 0
    out = tmp_path / "first.pt2"
    status, said, error = run_tool("export.py", "--weights", "first", "--format", "torch", "--out", out)
    assert status == 0 and str(out) in said, error
    for wrong, message in (
        (["--weights", "frist"], "no weights 'frist' .*did you mean 'first'"),
        (["--weights", "first", "a.py"], "leave them out"),
        (["a.py"], "needs CONFIG and CHECKPOINT, or --weights NAME"),
    ):
        status, _, error = run_tool("export.py", *wrong)
        assert status == 2 and re.search(message, error)


def test_what_cannot_be_shipped_is_refused_before_anything_is_written(project, ship, run_tool, tmp_path_factory):
    status, _, error = ship("../elsewhere")
    assert status == 2 and "letters, digits" in error
    outside = tmp_path_factory.mktemp("outside") / "tiny.py"
    outside.write_text((project / "tiny.py").read_text())
    command = ["ship_weights.py", outside, project / "tiny.pth", "--name", "x", "--about", "x"]
    status, _, error = run_tool(*command)
    assert status == 2 and "is not in this repository" in error
    contents = load_checkpoint(project / "tiny.pth")
    save_checkpoint(project / "last.pth", {**contents, "optimizer": {}})
    contents["model"]["head.final.bias"][0] = 1e6
    save_checkpoint(project / "large.pth", contents)
    for name, message in (("last", "take the best.pth"), ("large", "too large for half precision")):
        command[1:3] = project / "tiny.py", project / f"{name}.pth"
        status, _, error = run_tool(*command)
        assert status == 2 and message in error
    assert not (project / "weights").exists()


def test_a_detector_is_kept_with_its_threshold_and_without_the_places_of_its_data(project, run_tool):
    (project / "detector.py").write_text("model = dict(width=0.35, channels=(8, 8, 8), blocks=1)\n")
    settings = load_detector_settings(project / "detector.py", {"data.root": "/elsewhere", "test.threshold": 0.41})
    torch.manual_seed(0)
    contents = {"model": settings.build_model().state_dict(), "settings": settings.to_dict()}
    save_checkpoint(project / "detector.pth", contents)
    command = ("ship_weights.py", project / "detector.py", project / "detector.pth", "--name", "person", "--about", "-")
    status, _, error = run_tool(*command, "--detector", "--default")
    assert status == 0, error
    found = weights.shipped_detector()
    assert found.name == "person" and found.config == project / "detector.py"
    kept = load_checkpoint(found.checkpoint)["settings"]
    assert kept["test"]["threshold"] == 0.41 and kept["data"]["root"] == "data/people"
    status, _, error = run_tool(*command, "--detector")
    assert status == 2 and "add --replace" in error


def test_changed_and_missing_weights_are_refused(project, ship):
    with pytest.raises(CheckpointError, match="give CONFIG and CHECKPOINT"):
        weights.shipped()
    ship("first")
    path = project / "weights" / "first.pth"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match="missing or changed; `git checkout"):
        weights.shipped()


def test_the_demo_needs_no_network_named(project, ship, run_tool):
    ship("first")
    image = np.random.default_rng(0).integers(0, 255, (90, 60, 3), np.uint8)
    cv2.imwrite(str(project / "me.png"), image)
    status, out, error = run_tool("demo.py", project / "me.png", "--out", project / "poses", "--device", "cpu")
    assert status == 0, error
    assert "network: first, a test" in out and (project / "poses" / "me.png").is_file()
    status, _, error = run_tool(
        "demo.py", project / "tiny.py", project / "tiny.pth", "--out", project / "named", "--device", "cpu",
        project / "me.png",
    )  # fmt: skip
    assert status == 0, error
    ours, named = (json.loads((project / name / "keypoints.json").read_text()) for name in ("poses", "named"))
    one, other = (np.array(each[0]["keypoints"]).reshape(-1, 3) for each in (ours, named))
    assert np.abs(one[:, 2] - other[:, 2]).max() < 0.01  # the same network but for its precision


@pytest.mark.parametrize("given", [["tiny.py", "me.png"], [], ["a.jpg", "b.jpg"], ["net.onnx"]])
def test_what_is_missing_is_said(given, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["demo.py", *given])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_path(str(TOOLS / "demo.py"), run_name="__main__")
    assert exit_.value.code == 2
    assert "needs INPUT, CONFIG CHECKPOINT INPUT or FILE.onnx INPUT" in capsys.readouterr().err


def test_the_repositorys_own_weights_are_whole():
    found = weights.shipped()
    settings = load_settings(found.config, {"data.skeleton": found.skeleton})
    load_weights(settings.build_model(), found.checkpoint)


def test_the_repositorys_own_weights_find_people(shared_data):
    found = weights.shipped()
    assert found.name == "base"
    changes = {
        "data.root": str(shared_data / "coco_sample"),
        "data.test.annotations": "annotations/person_keypoints_val2017.json",
        "data.test.images": "val2017",
        "data.workers": 0,
        "data.crop_cache": None,
    }
    settings = load_settings(found.config, changes)
    model = settings.build_model()
    load_weights(model, found.checkpoint)
    test_set = evaluate.open_test_set(settings, settings.data.tested, "annotated")
    assert len(test_set.persons) == 73
    figures = evaluate.test(model.eval(), test_set, settings, torch.device("cpu")).figures
    assert figures["AP"] > 0.42 and figures["AP50"] > 0.65  # 0.448 and 0.704; on the 3,232 of the card 0.404 and 0.710


def test_the_small_weights_find_leeds_sports_people(shared_data):
    found = weights.shipped("lsp_small")
    changes = {
        "data.root": str(shared_data / "lsp"),
        "data.skeleton": found.skeleton,
        "data.workers": 0,
        "data.crop_cache": None,
    }
    settings = load_settings(found.config, changes)
    split = settings.data.tested
    model = settings.build_model()
    load_weights(model, found.checkpoint)
    people = read_annotations(settings.data.path(split.annotations), settings.skeleton()).take(slice(0, 100))
    predictions = predict(model, make_test_loader(settings, split, people), settings.test, "cpu")
    results = Results(predictions.image_ids, predictions.keypoints, predictions.box_scores)
    truth = load_annotations(settings.data.path(split.annotations))
    torso, _ = length_pck(results, truth, settings.skeleton(), predictions.annotation_ids)
    assert len(torso.correct) == 100 and torso.mean > 0.45  # 0.512 over all 1,000


class HalfDetector:
    """Stands for a trained detector: the left half of any image, and its right half with a low score."""

    opened = ()

    @classmethod
    def from_checkpoint(cls, path, device="cpu", threshold=None, native=False):
        cls.opened = (*cls.opened, Path(path).name)
        detector = cls()
        detector.threshold = 0.5 if threshold is None else threshold
        return detector

    def __call__(self, image):
        half, height = image.shape[1] / 2, image.shape[0]
        boxes = np.array([[0, 0, half, height, 0.8], [half, 0, half, height, 0.3]])
        return boxes[boxes[:, 4] >= self.threshold]


@pytest.fixture
def shipped_detector(project, ship, monkeypatch):
    """A network and a detector in the index."""
    ship("first")
    (project / "weights" / "halves.pth").write_bytes(b"weights")
    index = json.loads((project / "weights" / "index.json").read_text())
    entry = {"file": "halves.pth", "sha256": sha256(project / "weights" / "halves.pth"), "config": "tiny.py",
             "about": "a test"}  # fmt: skip
    index |= {"detectors": {"halves": entry}, "default_detector": "halves"}
    (project / "weights" / "index.json").write_text(json.dumps(index))
    monkeypatch.setitem(sys.modules, "pose.detection.detector", SimpleNamespace(PersonDetector=HalfDetector))
    return project / "weights" / "halves.pth"


def test_a_shipped_detector_finds_the_boxes_unless_others_are_asked_for(shipped_detector, project, run_tool):
    image = np.random.default_rng(0).integers(0, 255, (90, 60, 3), np.uint8)
    assert Predictor.from_weights(device="cpu")(image).boxes.tolist() == [[0, 0, 30, 90]]
    whole = Predictor.from_weights(device="cpu", detector=whole_image)
    assert whole(image).boxes.tolist() == [[0, 0, 60, 90]]
    cv2.imwrite(str(project / "me.png"), image)
    for options, boxes in (
        ((), [[0, 0, 30, 90]]),
        (("--box-threshold", "0.2"), [[0, 0, 30, 90], [30, 0, 30, 90]]),
        (("--detector", "halves"), [[0, 0, 30, 90]]),
        (("--boxes", "whole"), [[0, 0, 60, 90]]),
    ):
        status, out, error = run_tool("demo.py", project / "me.png", "--out", project / "poses", "--device", "cpu",
                                      *options, "--cfg-options", "test.nms=off")  # fmt: skip
        assert status == 0, error
        assert "each whole picture" not in out
        assert [record["box"] for record in json.loads((project / "poses/keypoints.json").read_text())] == boxes
    status, out, error = run_tool("demo.py", project / "tiny.py", project / "tiny.pth", project / "me.png", "--out",
                                  project / "poses", "--device", "cpu")  # fmt: skip
    assert status == 0, error
    assert "each whole picture" in out  # of a network of one's own, nobody knows whose keypoints it finds


def test_a_changed_detector_is_refused_and_a_missing_one_named(shipped_detector, project):
    shipped_detector.write_bytes(b"others")
    with pytest.raises(CheckpointError, match="halves.pth: missing or changed"):
        Predictor.from_weights(device="cpu")
    (project / "weights" / "index.json").unlink()
    with pytest.raises(OptionError, match="no detector comes with"):
        load_detector("shipped")


def test_readmes_first_lines_of_python_draw_a_picture(tmp_path):
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    lines = re.search(r"```python\n(.*?)```", readme, flags=re.DOTALL)[1].strip().splitlines()
    assert len([line for line in lines if line.strip()]) == 4
    image = np.random.default_rng(0).integers(0, 255, (90, 60, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "me.jpg"), image)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    code = "\n".join(lines)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    assert cv2.imread(str(tmp_path / "drawn.jpg")).shape == image.shape
    assert code in pose.__doc__
