"""Proofs on drawn persons that run in every clone: figures as pycocotools has them, the whole way of a keypoint."""

import json
from pathlib import Path

import pytest
from small_project import run_tool
from test_coco_eval import BOTH_BACKENDS
from test_coordinates import one_pixel_aside, round_trip

from pose.evaluation.coco_eval import FIGURES, evaluate, score
from pose.evaluation.results import read_results

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
