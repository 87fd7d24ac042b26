"""tools/test.py: from drawn people to the ten figures, their stamp and a results file; one line for bad input."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
import torch
from pycocotools.coco import COCO
from small_project import ANNOTATIONS, DETECTIONS, TOOLS, run_tool, write_project

from pose.checkpoint import load_checkpoint, save_checkpoint
from pose.config import load_settings
from pose.engine.evaluate import read_truth
from pose.evaluation.coco_eval import FIGURES, evaluate, format_figures
from pose.evaluation.protocol import ESTIMATED_SIGMAS, NOT_COMPARABLE, TestProtocol
from pose.files import sha256
from pose.skeleton import COCO as SKELETON

__all__ = ["run_tool"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return write_project(tmp_path_factory.mktemp("project"))


@pytest.fixture
def tool(project, run_tool, tmp_path):
    """Runs the tool and returns its exit status, standard output and standard error."""

    def run(*arguments, checkpoint=project / "tiny.pth", out=tmp_path / "out" / "results.json"):
        return run_tool("test.py", project / "tiny.py", checkpoint, *arguments, "--out", out, "--device", "cpu")

    return run


@pytest.mark.parametrize("boxes", ["annotated", "detected"])
def test_the_printed_figures_are_those_of_the_results_file(project, tool, tmp_path, boxes):
    status, printed, error = tool(*(["--boxes", "annotated"] if boxes == "annotated" else []))
    assert (status, error) == (0, "")
    out = tmp_path / "out" / "results.json"
    truth = COCO(str(project / "data" / ANNOTATIONS))
    results = truth.loadRes(str(out)).dataset["annotations"]
    assert len(results) == len(json.loads(out.read_text())) > 0
    figures = evaluate(json.loads(out.read_text()), project / "data" / ANNOTATIONS)
    assert format_figures(figures) in printed
    saved = json.loads((tmp_path / "out" / "results.protocol.json").read_text())
    assert saved["figures"] == figures and list(figures) == list(FIGURES)
    assert 0.05 < figures["AP"] < 1
    protocol = TestProtocol.from_dict(saved["protocol"])
    assert protocol.describe() in printed
    assert (NOT_COMPARABLE in printed) == (boxes == "annotated")


def test_the_stamp_names_the_files_and_every_choice(project, tool, tmp_path):
    options = ["test.flip_shift=2", "test.decode=dark", "test.nms=soft", "test.nms_threshold=0.8", "test.rescore=False"]
    status, printed, _ = tool("--cfg-options", *options, "test.rescore_threshold=0.1", "data.box_threshold=0.3")
    assert status == 0
    saved = json.loads((tmp_path / "out" / "results.protocol.json").read_text())["protocol"]
    detections = json.loads((project / "data" / DETECTIONS).read_text())
    wanted = {
        "boxes": "synthetic_val2017_detections.json",
        "boxes_sha256": sha256(project / "data" / DETECTIONS),
        "boxes_count": sum(box["score"] >= 0.3 for box in detections),
        "box_threshold": 0.3,
        "flip": True,
        "flip_shift": 2,
        "decode": "dark",
        "rescore": False,
        "rescore_threshold": 0.1,
        "nms": "soft",
        "nms_threshold": 0.8,
        "backend": "pycocotools",
        "skeleton": "coco",
        "sigmas_estimated": False,
        "model": str(project / "tiny.py"),
        "checkpoint": "tiny.pth",
        "checkpoint_sha256": sha256(project / "tiny.pth"),
        "annotations": "person_keypoints_val2017.json",
        "annotations_sha256": sha256(project / "data" / ANNOTATIONS),
    }
    assert {name: saved[name] for name in wanted} == wanted
    assert set(saved) == {*wanted, "areas_from_boxes", "notices", "versions"}
    assert saved["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert "not as published: decode dark" in printed


def test_areas_from_boxes_and_who_was_left_out_are_in_the_stamp(project, tool, tmp_path):
    path = tmp_path / "data" / "annotations" / "person_keypoints_val2017.json"
    path.parent.mkdir(parents=True)
    truth = json.loads((project / "data" / ANNOTATIONS).read_text())
    people = [person for person in truth["annotations"] if person["num_keypoints"]]
    for person in people[1:]:
        del person["area"]
    people[0]["area"] = 0
    truth["annotations"] += [{"id": 9999, "image_id": people[0]["image_id"], "category_id": 5}]
    path.write_text(json.dumps(truth))
    detections = json.loads((project / "data" / DETECTIONS).read_text())
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps([*detections, {**detections[0], "bbox": [1, 2, 0, 3]}]))
    options = ["--boxes", boxes, "--cfg-options", f"data.val.annotations={path}"]
    status, printed, error = tool(*options)
    assert (status, error) == (0, "")
    saved = json.loads((tmp_path / "out" / "results.protocol.json").read_text())["protocol"]
    assert saved["areas_from_boxes"] == len(people) - 1
    assert "areas from boxes: OKS forgives by the boxes' areas" in printed
    left_out = "\n".join(saved["notices"])
    for line in (
        f"person_keypoints_val2017.json: {len(people) - 1} persons without an area",
        "person_keypoints_val2017.json: 1 persons of area 0 or less: neither train nor are looked for",
        "1 annotations of category 5 are left out",
        f"boxes.json: 1 of {len(detections) + 1} boxes are left out",
    ):
        assert line in left_out and line in printed
    assert TestProtocol.from_dict(saved).describe() in printed
    for person in people:
        person["area"] = 0
    path.write_text(json.dumps(truth))
    status, _, error = tool(*options)
    assert status == 2 and f"area is 0 on all {len(people)} persons with labelled keypoints" in error


def test_each_choice_reaches_the_network_s_answers(tool, tmp_path):
    out = tmp_path / "out" / "results.json"
    assert tool()[0] == 0
    published = out.read_text()
    for option in ("flip=False", "flip_shift=0", "flip_shift=2", "decode=none", "decode=second_highest", "decode=dark",
                   "rescore=False", "rescore_threshold=0.9", "nms_threshold=0.05"):  # fmt: skip
        status, _, error = tool("--cfg-options", f"test.{option}")
        assert (status, error) == (0, ""), option
        assert out.read_text() != published, option
    assert tool("--cfg-options", "test.backend=faster-coco-eval", "test.batch_size=5")[0] == 0
    assert out.read_text() == published


def test_no_box_at_all_is_an_ap_of_zero(tool, tmp_path):
    (tmp_path / "none.json").write_text("[]")
    status, printed, _ = tool("--boxes", tmp_path / "none.json")
    assert status == 0 and " 0.000 " in printed


def test_annotations_are_read_again_only_when_they_change(project, tmp_path):
    settings = load_settings(project / "tiny.py")
    path = tmp_path / "annotations.json"
    path.write_text((project / "data" / ANNOTATIONS).read_text())
    settings = replace(settings, data=replace(settings.data, val=replace(settings.data.val, annotations=str(path))))
    os.utime(path, (1, 1))
    first = read_truth(settings, settings.data.val)
    assert read_truth(settings, settings.data.val) is first
    os.utime(path, (2, 2))
    assert read_truth(settings, settings.data.val) is not first


def test_a_skeleton_without_sigmas_gets_pck_and_a_warning(project, tool, tmp_path):
    fields = {name: value for name, value in asdict(SKELETON).items() if not name.startswith("sigmas")}
    (tmp_path / "mine.json").write_text(json.dumps(fields | {"name": "mine"}))
    options = ["--cfg-options", f"data.skeleton={tmp_path / 'mine.json'}"]
    status, printed, _ = tool("--boxes", "annotated", *options)
    assert status == 0 and ESTIMATED_SIGMAS in printed and "OKS of mine" in printed
    saved = json.loads((tmp_path / "out" / "results.protocol.json").read_text())
    assert saved["protocol"]["sigmas_estimated"] and 0 < saved["figures"]["PCK@0.05"] < saved["figures"]["PCK@0.2"] <= 1
    assert f"PCK@0.1 {saved['figures']['PCK@0.1']:.3f}" in printed
    assert "PCK" not in tool("--boxes", "annotated")[1]


def elsewhere(folder):
    (folder / "elsewhere.json").write_text(
        json.dumps([{"image_id": 77, "category_id": 1, "bbox": [1, 1, 9, 9], "score": 1.0}])
    )
    return ["--boxes", folder / "elsewhere.json"], {}


def truncated(folder):
    save_checkpoint(folder / "cut.pth", {"model": {"weight": torch.zeros(1000)}})
    (folder / "cut.pth").write_bytes((folder / "cut.pth").read_bytes()[:2000])
    return [], {"checkpoint": folder / "cut.pth"}


def of_another_model(folder):
    save_checkpoint(folder / "other.pth", {"model": torch.nn.Linear(2, 3).state_dict()})
    return [], {"checkpoint": folder / "other.pth"}


def of_another_width(folder):
    return ["--cfg-options", "model.backbone.width=1.0"], {}


def blocked(folder):
    (folder / "file").touch()
    return [], {"out": folder / "file" / "results.json"}


def absent(option, name):
    return lambda folder: (["--cfg-options", f"data.{option}={name}"], {})


@pytest.mark.parametrize(
    ("prepare", "named"),
    [
        (elsewhere, "elsewhere.json"),
        (truncated, "cut.pth"),
        (of_another_model, "other.pth"),
        (of_another_width, "tiny.pth"),
        (blocked, "file"),
        (lambda folder: ([], {"out": folder}), "is a folder"),
        (lambda folder: ([], {"checkpoint": folder / "no.pth"}), "no.pth"),
        (absent("val.annotations", "no.json"), "no.json"),
        (absent("val_images", "nowhere"), "nowhere"),
        (lambda folder: (["--boxes", folder / "no_boxes.json"], {}), "no_boxes.json"),
        (lambda folder: (["--cfg-options", "test.flip_shift=3"], {}), "flip_shift must be one of 0, 1, 2"),
        (lambda folder: (["--cfg-options", "test.flop=True"], {}), "did you mean 'flip'"),
    ],
)
def test_bad_input_is_one_line_and_loses_nothing(tool, tmp_path, prepare, named):
    before = tmp_path / "out" / "results.json"
    before.parent.mkdir()
    before.write_text("what was there")
    arguments, changes = prepare(tmp_path)
    status, printed, error = tool(*arguments, **changes)
    assert (status, printed) == (2, "")
    assert error.count("\n") == 1 and error.startswith("error: ") and named in error
    assert before.read_text() == "what was there"


def test_a_network_that_answers_with_no_numbers_is_named(project, tool, tmp_path):
    weights = load_checkpoint(project / "tiny.pth")["model"]
    name = next(name for name in weights if name.endswith("running_var"))
    save_checkpoint(tmp_path / "sick.pth", {"model": {**weights, name: -torch.ones_like(weights[name])}})
    for more in ([], ["--save-predictions", tmp_path / "kept.npz"]):
        status, _, error = tool(*more, checkpoint=tmp_path / "sick.pth")
        assert status == 2 and "sick.pth: the network answers with NaN" in error and error.count("\n") == 1
    command = [sys.executable, str(TOOLS / "serve.py"), project / "tiny.py", tmp_path / "sick.pth", "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2 and "answers with NaN" in done.stderr and "in a browser" not in done.stdout
