"""How good boxes are: COCO's box evaluation by pycocotools, and the share of persons that are found."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pose.evaluation.coco_backend import numbered
from pose.skeleton import PERSON_CATEGORY

FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""COCO's twelve, in pycocotools' order; s, m and l are small, medium and large persons."""

RECALLS = ("recall", "recall_keypoints", *(f"recall_keypoints_{size}" for size in "sml"))
"""The shares of persons found that follow them."""

MATCH = 0.5
"""IoU from which a box has found a person, where one figure is asked for."""


def evaluate_boxes(
    truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], category: int = PERSON_CATEGORY
) -> dict[str, float]:
    """Figures of boxes on annotated pictures.

    Args:
        truth: A COCO file's contents. Every annotation of the category that is no crowd is a person, labelled keypoints
            or not; boxes in crowds do not count.
        results: COCO's results format: ``image_id``, ``category_id``, ``bbox``, ``score``; all on pictures of truth.
        category: The persons' in both; what is of others does not count.

    Returns:
        :data:`FIGURES` and :data:`RECALLS`. ``recall`` and ``recall_keypoints`` are the share of persons, and of those
        with labelled keypoints, that a box of IoU .5 and more has found, with at most 100 boxes a picture;
        ``recall_keypoints_s``, ``_m`` and ``_l`` of those of each size; -1 where there is no such person.
    """
    evaluation, reference = _evaluation(truth, results, category)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    figures = dict(zip(FIGURES, map(float, evaluation.stats), strict=True))
    return {**figures, **_recalls(evaluation, reference)}


def _recalls(evaluation: COCOeval, reference: COCO) -> dict[str, float]:
    """Shares of persons found, from pycocotools' own matches."""
    level = int(np.flatnonzero(np.isclose(evaluation.params.iouThrs, MATCH))[0])
    everything = list(evaluation.params.areaRng[0])
    found: dict[int, bool] = {}
    for image in evaluation.evalImgs:
        if image is not None and image["aRng"] == everything:
            for identity, match, ignored in zip(
                image["gtIds"], image["gtMatches"][level], image["gtIgnore"], strict=True
            ):
                if not ignored:
                    found[identity] = match > 0
    persons = [reference.anns[identity] for identity in found]
    hit = np.array(list(found.values()), bool)
    labeled = np.array([person.get("num_keypoints", 0) > 0 for person in persons], bool)
    area = np.array([person["area"] for person in persons], float)
    groups = {"recall": np.ones(len(hit), bool), "recall_keypoints": labeled}
    limits = dict(zip("sml", evaluation.params.areaRng[1:], strict=True))
    for name, (low, high) in limits.items():
        groups[f"recall_keypoints_{name}"] = labeled & (area >= low) & (area < high)
    return {name: float(hit[rows].mean()) if rows.any() else -1.0 for name, rows in groups.items()}


def precision_recall(
    truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    thresholds: Sequence[float],
    category: int = PERSON_CATEGORY,
) -> list[tuple[float, float, float]]:
    """Precision and recall at IoU .5 of the boxes from each score on.

    A box takes a person as COCO's evaluation has it, the best box first, so that leaving out the worse changes
    nothing for the others.

    Args:
        truth, results, category: See :func:`evaluate_boxes`.
        thresholds: The scores.

    Returns:
        For each: the threshold, precision and recall; boxes in crowds count for neither.
    """
    annotated = [each for each in truth["annotations"] if each["category_id"] == category]
    persons = sum(not annotation.get("iscrowd", 0) for annotation in annotated)
    scores, right = np.empty(0), np.empty(0, bool)
    if results:
        scores, right = _hits(truth, results, category)
    rows = []
    for threshold in thresholds:
        kept = right[scores >= threshold]
        rows.append((float(threshold), float(kept.sum() / max(len(kept), 1)), float(kept.sum() / max(persons, 1))))
    return rows


def best_threshold(truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> float:
    """The score from which on precision and recall have the greatest harmonic mean (F1), to a hundredth."""
    rows = precision_recall(truth, results, np.arange(0.05, 0.96, 0.01).round(2).tolist())
    return max(rows, key=lambda row: 2 * row[1] * row[2] / max(row[1] + row[2], 1e-9))[0]


def _hits(
    truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], category: int
) -> tuple[np.ndarray, np.ndarray]:
    """The scores of all boxes outside crowds, and whether each has found a person."""
    evaluation, _ = _evaluation(truth, results, category)
    evaluation.params.iouThrs = np.array([MATCH])
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
    images = [image for image in evaluation.evalImgs if image is not None]
    if not images:  # nothing is of the category
        return np.empty(0), np.empty(0, bool)
    scores = np.concatenate([np.array(image["dtScores"], float) for image in images])
    right = np.concatenate([image["dtMatches"][0] > 0 for image in images])
    counts = ~np.concatenate([image["dtIgnore"][0].astype(bool) for image in images])
    return scores[counts], right[counts]


def _evaluation(truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], category: int) -> tuple[COCOeval, COCO]:
    """pycocotools' evaluation of persons' boxes, not yet run, and its reference."""
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = {
            "info": {},
            **truth,
            "annotations": numbered(truth["annotations"]),
            "categories": [{"id": category, "name": "person"}],
        }
        reference.createIndex()
        found = reference.loadRes(list(results)) if results else COCO()
        evaluation = COCOeval(reference, found, "bbox")
    evaluation.params.catIds, evaluation.params.imgIds = [category], sorted(reference.imgs)
    return evaluation, reference
