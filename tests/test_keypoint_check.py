"""Proofs that run in every clone, on drawn persons: figures as pycocotools has them, the whole way of a keypoint."""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval
from small_project import run_tool
from test_coco_eval import BOTH_BACKENDS
from test_coordinates import one_pixel_aside, round_trip

from pose.evaluation.coco_eval import FIGURES, evaluate, load_annotations, score
from pose.evaluation.results import Predictions, read_results, write_results

__all__ = ["run_tool"]

CHECK = Path(__file__).parent / "data" / "keypoint_check"
ANNOTATIONS, RESULTS = CHECK / "annotations.json", CHECK / "results.json"
KNOWN = json.loads((CHECK / "figures.json").read_text())


@pytest.mark.parametrize("backend", BOTH_BACKENDS)
def test_figures_are_those_that_pycocotools_gave(backend):
    figures = evaluate(read_results(RESULTS, num_keypoints=17), ANNOTATIONS, backend=backend)
    assert tuple(figures) == FIGURES == tuple(KNOWN)
    assert figures == pytest.approx(KNOWN, abs=1e-5)


def test_the_tool_prints_them(run_tool):
    status, printed, error = run_tool("score_results.py", RESULTS, ANNOTATIONS, "--backend", "pycocotools")
    assert (status, error) == (0, "")
    assert printed.splitlines()[-1].split() == [f"{value:.3f}" for value in KNOWN.values()]


def test_the_check_has_what_makes_figures_differ():
    persons = json.loads(ANNOTATIONS.read_text())["annotations"]
    labeled = [person for person in persons if person["num_keypoints"]]
    for low, high in ((0, 32**2), (32**2, 96**2), (96**2, 1e9)):
        assert sum(low < person["area"] < high for person in labeled) >= 10
    assert any(person["iscrowd"] for person in persons)
    assert any(not person["iscrowd"] and not person["num_keypoints"] for person in persons)
    assert any(0 < person["num_keypoints"] < 17 for person in persons)
    assert len(set(KNOWN.values())) == len(KNOWN) and all(0.2 < value < 0.9 for value in KNOWN.values())


@pytest.mark.parametrize(("flip", "average_precision"), [(False, 0.980), (True, 0.990)])
def test_true_keypoints_survive_the_round_trip(flip, average_precision):
    """What 48 x 64 heatmaps leave of perfect predictions; drawn persons are larger than COCO's, and lose less."""
    predictions = round_trip(ANNOTATIONS, flip)
    assert len(predictions) == 122
    figures, _ = score(predictions, ANNOTATIONS)
    assert figures["AP"] == pytest.approx(average_precision, abs=0.002)
    assert figures["AP50"] == pytest.approx(1, abs=0.002)


def test_one_heatmap_pixel_aside_costs_a_tenth_of_the_figure():
    aside = one_pixel_aside(round_trip(ANNOTATIONS, flip=False))
    assert score(aside, ANNOTATIONS)[0]["AP"] < 0.9


# --- the reference: many predictions, of drawn persons and of real ones


def drawn_boxes(truth, rng):
    """Two detections around each drawn person, one of them half out of place."""
    detections = []
    for person in truth.dataset["annotations"]:
        x, y, width, height = person["bbox"]
        for share in (0.05, 0.3):
            moved = [x + share * width, y + share * height, width, height]
            detections.append({"image_id": person["image_id"], "bbox": moved, "score": rng.uniform(share, 1)})
    return detections


@pytest.fixture(scope="module", params=["drawn", "real"])
def reference(request):
    """The 265 real images and a prediction for each of their 8,129 published detections; or what every clone has.

    A detection that covers an annotated person takes its keypoints, moved by noise in
    proportion to the box; any other gets them at random within the box.
    """
    rng = np.random.default_rng(0)
    if request.param == "drawn":
        truth = load_annotations(ANNOTATIONS)
        detections = drawn_boxes(truth, rng)
    else:
        folder = request.getfixturevalue("shared_data") / "coco_eval_reference"
        truth = load_annotations(folder / "person_keypoints_val2017_half.json")
        detections = json.loads((folder / "COCO_val2017_detections_AP_H_56_person_half.json").read_text())
    boxes = np.array([entry["bbox"] for entry in detections])
    keypoints = np.concatenate(
        [boxes[:, None, :2] + rng.random((len(boxes), 17, 2)) * boxes[:, None, 2:], rng.random((len(boxes), 17, 1))],
        axis=2,
    )
    for i, entry in enumerate(detections):
        for annotation in truth.imgToAnns[entry["image_id"]]:
            x, y, width, height = annotation["bbox"]
            inside = np.minimum([x + width, y + height], boxes[i, :2] + boxes[i, 2:]) - np.maximum([x, y], boxes[i, :2])
            if annotation["num_keypoints"] and (inside > 0).all() and inside.prod() > 0.6 * width * height:
                size = np.sqrt(width * height)
                real = np.array(annotation["keypoints"]).reshape(17, 3)
                keypoints[i, real[:, 2] > 0, :2] = real[real[:, 2] > 0, :2]
                keypoints[i, :, :2] += rng.normal(0, 0.03, (17, 2)) * size
                break
    return truth, Predictions(
        image_ids=np.array([entry["image_id"] for entry in detections]),
        keypoints=keypoints,
        boxes=boxes,
        box_scores=np.array([entry["score"] for entry in detections]),
        areas=boxes[:, 2:].prod(axis=1) * 1.25**2,
    )


def test_figures_are_those_of_plain_pycocotools(reference, capsys):
    truth, predictions = reference
    figures, results = score(predictions, truth)
    assert capsys.readouterr().out == ""
    found = truth.loadRes(results.records())
    coco_eval = COCOeval(truth, found, "keypoints")
    coco_eval.evaluate(), coco_eval.accumulate(), coco_eval.summarize()
    assert len(results) < len(predictions)  # the suppression dropped some
    assert 0.2 < figures["AP"] < 0.9
    assert list(figures.values()) == coco_eval.stats.tolist()
    assert evaluate(results.records(), truth) == figures


def test_backends_agree(reference):
    pytest.importorskip("faster_coco_eval")
    truth, predictions = reference
    for nms in ("greedy", "off"):
        ours = score(predictions, truth, nms=nms)[0]
        other = score(predictions, truth, nms=nms, backend="faster-coco-eval")[0]
        assert other == pytest.approx(ours, abs=1e-6)


def test_nothing_passed_in_is_changed(reference):
    truth, predictions = reference
    before = json.dumps(truth.dataset)
    figures, results = score(predictions, truth)
    records = results.records()
    copies = json.dumps(records)
    assert evaluate(records, truth) == figures
    assert json.dumps(records) == copies
    assert json.dumps(truth.dataset) == before


def test_a_written_file_gives_the_same_figures(reference, tmp_path):
    truth, predictions = reference
    figures, results = score(predictions, truth)
    write_results(tmp_path / "new" / "results.json", results.records())
    assert read_results(tmp_path / "new" / "results.json", 17, truth.imgs) == results.records()
    assert evaluate(read_results(tmp_path / "new" / "results.json"), truth) == figures
