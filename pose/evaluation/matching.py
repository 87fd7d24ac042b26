"""Which predicted person is which annotated one, by pycocotools' own matching, as arrays to analyse."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pose.evaluation.coco_backend import copied_annotations, extents, make_evaluator
from pose.evaluation.results import Results
from pose.skeleton import Skeleton

MATCH_OKS = 0.1
"""OKS from which a predicted person is taken for an annotated one, however badly placed (Ronchi and Perona)."""


@dataclass(frozen=True)
class Truth:
    """G annotated persons.

    Args:
        ids: (G,) of their annotations.
        image_ids: (G,).
        keypoints: (G, K, 3) x, y in pixels and COCO's visibility.
        boxes: (G, 4) x, y, width, height in pixels.
        areas: (G,) pixels^2.
        counts: (G,) bool: persons that figures are about; the others are crowds and persons without labels.
    """

    ids: np.ndarray
    image_ids: np.ndarray
    keypoints: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    counts: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def labeled(self) -> np.ndarray:
        """(G, K) bool."""
        return self.keypoints[..., 2] > 0


@dataclass(frozen=True)
class Matches:
    """How predicted and annotated persons belong together.

    Args:
        rows: (P,) rows of results, each found to be the annotated person beside it in ``persons``.
        persons: (P,) rows of the truth.
        false_rows: (F,) rows of results on no annotated person, or a second time on one.
        missed: (M,) rows of the truth that nothing was found for.
    """

    rows: np.ndarray
    persons: np.ndarray
    false_rows: np.ndarray
    missed: np.ndarray


def read_truth(annotations: COCO, skeleton: Skeleton) -> Truth:
    """The annotated persons as arrays.

    Raises:
        DataError: An annotation lacks what the evaluation needs, or has another number of keypoints.
    """
    persons = copied_annotations(annotations, skeleton)["annotations"]
    return Truth(
        ids=np.array([person["id"] for person in persons], np.int64),
        image_ids=np.array([person["image_id"] for person in persons], np.int64),
        keypoints=np.array([person["keypoints"] for person in persons], np.float64).reshape(
            len(persons), skeleton.num_keypoints, 3
        ),
        boxes=np.array([person["bbox"] for person in persons], np.float64).reshape(len(persons), 4),
        areas=np.array([person["area"] for person in persons], np.float64),
        counts=np.array([person["num_keypoints"] > 0 and not person["iscrowd"] for person in persons], bool),
    )


def run_coco_eval(
    results: Results,
    annotations: COCO,
    skeleton: Skeleton,
    labeled: np.ndarray | None = None,
    counts: np.ndarray | None = None,
    thresholds: Sequence[float] | None = None,
) -> COCOeval:
    """pycocotools' evaluation over persons of every size, evaluated and accumulated.

    The ids of its detections and annotations are their rows plus 1.

    Args:
        results: The persons.
        annotations: The annotation file.
        skeleton: Gives K and the OKS sigmas.
        labeled: (G, K) bool, the labels that count; None for all that there are.
        counts: (G,) bool, the persons that count; results on others are neither right nor wrong. None for all.
        thresholds: The thresholds of OKS; None for COCO's ten.
    """
    annotated = copied_annotations(annotations, skeleton)
    for row, person in enumerate(annotated["annotations"]):
        person["id"] = row + 1
        if labeled is not None:
            keypoints = np.reshape(person["keypoints"], (-1, 3)) * labeled[row][:, None]
            person.update(keypoints=keypoints.ravel(), num_keypoints=int((keypoints[:, 2] > 0).sum()))
        if counts is not None and not counts[row]:
            person["num_keypoints"] = 0  # this, not the labels, makes pycocotools leave a person out
    evaluator = make_evaluator(results, extents(results.keypoints), annotated, skeleton)
    evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0, 1e10]], ["all"]
    if thresholds is not None:
        evaluator.params.iouThrs = np.array(thresholds, np.float64)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator


def average_precision(evaluator: COCOeval) -> float:
    """AP over the evaluator's thresholds; -1 where no person counts."""
    return _mean_of_known(evaluator.eval["precision"])


def average_recall(evaluator: COCOeval) -> float:
    """AR over the evaluator's thresholds; -1 where no person counts."""
    return _mean_of_known(evaluator.eval["recall"])


def match(results: Results, annotations: COCO, skeleton: Skeleton) -> Matches:
    """Matches best score first, each to the free annotated person of highest OKS, from :data:`MATCH_OKS` on.

    Persons that the evaluator does not look at, beyond the 20 best of an image or on crowds, are in no list.
    """
    evaluator = run_coco_eval(results, annotations, skeleton, thresholds=[MATCH_OKS])
    pairs: list[tuple[int, int]] = []
    false_rows: list[int] = []
    missed: list[int] = []
    for image in filter(None, evaluator.evalImgs):
        pairs += _ids(image, "dt", image["dtMatches"][0] > 0, image["dtMatches"][0])
        false_rows += [row for row, _ in _ids(image, "dt", image["dtMatches"][0] == 0)]
        missed += [row for row, _ in _ids(image, "gt", image["gtMatches"][0] == 0)]
    found = np.array(sorted(pairs), np.int64).reshape(len(pairs), 2) - 1
    return Matches(found[:, 0], found[:, 1], np.sort(_rows(false_rows)), np.sort(_rows(missed)))


def _ids(
    image: dict[str, Any], side: str, wanted: np.ndarray, partners: np.ndarray | None = None
) -> list[tuple[int, int]]:
    """Ids of one image that are wanted and not ignored, with their partners'."""
    ignored = np.ravel(image[f"{side}Ignore"]).astype(bool)
    ids = np.array(image[f"{side}Ids"], np.int64)
    partners = np.zeros(len(ids)) if partners is None else partners
    chosen = wanted & ~ignored
    return list(zip(ids[chosen].tolist(), partners[chosen].astype(np.int64).tolist(), strict=True))


def _rows(ids: list[int]) -> np.ndarray:
    return np.array(ids, np.int64) - 1


def _mean_of_known(values: np.ndarray) -> float:
    known = values[values > -1]
    return float(known.mean()) if known.size else -1.0
