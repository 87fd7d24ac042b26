"""How good boxes are: COCO's box evaluation by pycocotools, and the share of persons that are found."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pose.datasets.coco import PERSON

FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""COCO's twelve, in pycocotools' order; s, m and l are small, medium and large persons."""

MATCH = 0.5
"""IoU from which a box has found a person, where one figure is asked for."""


def evaluate_boxes(truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Figures of boxes on annotated pictures.

    Args:
        truth: A COCO file's contents. Every annotation that is no crowd is a person, labelled keypoints or not;
            boxes in crowds do not count.
        results: COCO's results format: ``image_id``, ``category_id``, ``bbox``, ``score``; all on pictures of truth.

    Returns:
        :data:`FIGURES`, and ``recall`` and ``recall_keypoints``: the share of persons, and of those with labelled
        keypoints, that a box of IoU .5 and more has found, with at most 100 boxes a picture; ``recall_keypoints_s``,
        ``_m`` and ``_l`` of those of each size; -1 where there is no such person.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = {"info": {}, "categories": [{"id": PERSON, "name": "person"}], **truth}
        reference.createIndex()
        evaluation = COCOeval(reference, reference.loadRes(list(results)) if results else COCO(), "bbox")
        evaluation.params.catIds = [PERSON]
        evaluation.params.imgIds = sorted(reference.imgs)
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
    labelled = np.array([person.get("num_keypoints", 0) > 0 for person in persons], bool)
    area = np.array([person["area"] for person in persons], float)
    groups = {"recall": np.ones(len(hit), bool), "recall_keypoints": labelled}
    limits = dict(zip("sml", evaluation.params.areaRng[1:], strict=True))
    for name, (low, high) in limits.items():
        groups[f"recall_keypoints_{name}"] = labelled & (area >= low) & (area < high)
    return {name: float(hit[rows].mean()) if rows.any() else -1.0 for name, rows in groups.items()}


def precision_recall(
    truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], thresholds: Sequence[float]
) -> list[tuple[float, float, float]]:
    """Precision and recall at IoU .5 of the boxes from each score on.

    Args:
        truth, results: See :func:`evaluate_boxes`.
        thresholds: The scores.

    Returns:
        For each: the threshold, precision and recall; boxes in crowds count for neither.
    """
    rows = []
    for threshold in thresholds:
        kept = [result for result in results if result["score"] >= threshold]
        right, wrong, persons = _count(truth, kept)
        rows.append((float(threshold), right / max(right + wrong, 1), right / max(persons, 1)))
    return rows


def _count(truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> tuple[int, int, int]:
    """Boxes that found a person, those that found none, and persons."""
    if not results:
        return 0, 0, sum(not annotation.get("iscrowd", 0) for annotation in truth["annotations"])
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = {"info": {}, "categories": [{"id": PERSON, "name": "person"}], **truth}
        reference.createIndex()
        evaluation = COCOeval(reference, reference.loadRes(list(results)), "bbox")
        evaluation.params.catIds, evaluation.params.imgIds = [PERSON], sorted(reference.imgs)
        evaluation.params.iouThrs = np.array([MATCH])
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
    right = wrong = persons = 0
    for image in evaluation.evalImgs:
        if image is not None:
            matched, ignored = image["dtMatches"][0] > 0, image["dtIgnore"][0].astype(bool)
            right += int((matched & ~ignored).sum())
            wrong += int((~matched & ~ignored).sum())
            persons += int((~image["gtIgnore"].astype(bool)).sum())
    return right, wrong, persons
