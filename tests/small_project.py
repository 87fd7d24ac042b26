"""A project to test tools on: drawn people, and a network whose answers their annotations say, give or take pixels."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pose.checkpoint import save_checkpoint
from pose.config import load_settings
from pose.datasets.synthetic.dataset import write_dataset
from pose.engine.evaluate import open_test_set
from pose.engine.predict import predict

MODEL = dict(backbone=dict(type="mobilenet_v2", width=0.1), head=dict(type="bottleneck"))
ANNOTATIONS = "annotations/person_keypoints_val2017.json"
DETECTIONS = "person_detection_results/synthetic_val2017_detections.json"
TOOLS = Path(__file__).parents[1] / "tools"


def write_project(folder: Path) -> Path:
    """Writes the configuration ``tiny.py``, the weights ``tiny.pth`` and the folder ``data``."""
    write_dataset(folder / "data", train_images=0, val_images=4, seed=3)
    data = dict(root=str(folder / "data"), val=dict(boxes=DETECTIONS), input_size=(32, 64), workers=0)
    (folder / "tiny.py").write_text(f"model = {MODEL!r}\ndata = {data!r}\n")
    torch.manual_seed(0)
    settings = load_settings(folder / "tiny.py")
    model = settings.build_model()
    for values in model.parameters():
        if values.ndim > 1:
            torch.nn.init.kaiming_normal_(values)  # peaks everywhere, where fresh weights are flat
    list(model.parameters())[-2].data *= 0.3  # scores on both sides of the thresholds
    save_checkpoint(folder / "tiny.pth", {"model": model.state_dict()})
    loader = open_test_set(settings, settings.data.val, "annotated").loader
    answers = predict(model, loader, settings.test, "cpu")
    truth = json.loads((folder / "data" / ANNOTATIONS).read_text())
    rng = np.random.default_rng(0)
    for annotation in truth["annotations"]:
        keypoints = answers.keypoints[answers.annotation_ids == annotation["id"]]
        keypoints[..., :2] += rng.normal(0, 3, keypoints[..., :2].shape)
        keypoints[..., 2] = 2
        annotation.update(keypoints=keypoints.flatten().tolist() or [0] * 51, num_keypoints=17 * len(keypoints))
    (folder / "data" / ANNOTATIONS).write_text(json.dumps(truth))
    return folder


@pytest.fixture
def run_tool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, str, str]]:
    """Runs a tool of tools/ with arguments and returns its exit status, standard output and standard error."""

    def run(name: str, *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            runpy.run_path(str(TOOLS / name), run_name="__main__")
        return exit_.value.code, *capsys.readouterr()

    return run


def assert_tested_alike(run_tool: Callable[..., tuple[int, str, str]], project: Path, *names: str) -> None:
    """The test tool finds persons by two files of a project, and says the same of both."""
    figures = []
    for name in names:
        out = project / f"tested_{name}.json"
        arguments = ["--boxes", "annotated", "--device", "cpu", "--out", out]
        status, _, error = run_tool("test.py", project / "tiny.py", project / name, *arguments)
        assert status == 0, error
        figures.append(json.loads(out.with_suffix(".protocol.json").read_text())["figures"])
    assert figures[0]["AP"] > 0.1
    assert figures[1] == pytest.approx(figures[0], abs=1e-3)
