"""AP of resampled pictures: how far a difference in AP would move with other test pictures.

The matching of a results file is done once, by pycocotools. A resample then only weighs its pictures, and AP follows
from weighted sums, the very ones that pycocotools' accumulate takes over a data set with pictures repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools.coco import COCO

from pose.evaluation.matching import run_coco_eval
from pose.evaluation.results import Results
from pose.evaluation.significance import Interval, image_draws, of_draws
from pose.skeleton import Skeleton

RECALLS = np.linspace(0, 1, 101)
"""Where COCO reads the precision."""


@dataclass(frozen=True)
class ImageScores:
    """What AP needs to know of a results file, for any weights of the pictures.

    Args:
        image_ids: (P,) of all pictures, ascending.
        persons: (P,) annotated persons that count, on each.
        images: (D,) rows of ``image_ids``: the picture of each found person, the best score first.
        right: (T, D) bool: matched at each of T thresholds of OKS.
        wrong: (T, D) bool: matched to nobody there; who is neither is of an annotation that does not count.
    """

    image_ids: np.ndarray
    persons: np.ndarray
    images: np.ndarray
    right: np.ndarray
    wrong: np.ndarray

    def average_precision(self, weights: np.ndarray | None = None) -> float:
        """COCO's AP over all sizes where each picture is there as often as ``weights`` (P,) says, once by default.

        -1 where no person counts.
        """
        weights = np.ones(len(self.image_ids)) if weights is None else weights
        persons = weights @ self.persons
        if not persons:
            return -1.0
        own = weights[self.images]
        precisions = [_precision(own, *each, persons) for each in zip(self.right, self.wrong, strict=True)]
        return float(np.mean(precisions))


def image_scores(results: Results, annotations: COCO, skeleton: Skeleton) -> ImageScores:
    """Matches results with annotations, as pycocotools does for persons of every size.

    Raises:
        DataError: The annotations do not fit the skeleton.
    """
    evaluator = run_coco_eval(results, annotations, skeleton)
    image_ids = np.array(evaluator.params.imgIds, np.int64)
    thresholds = len(evaluator.params.iouThrs)
    persons = np.zeros(len(image_ids), np.int64)
    scores, images = [np.zeros(0)], [np.zeros(0, np.int64)]
    matched, ignored = [np.zeros((thresholds, 0), bool)], [np.zeros((thresholds, 0), bool)]
    for row, image in enumerate(evaluator.evalImgs):  # one category, one size: an entry a picture
        if image is None:
            continue
        persons[row] = np.count_nonzero(np.asarray(image["gtIgnore"]) == 0)
        scores.append(np.asarray(image["dtScores"], np.float64))
        images.append(np.full(len(image["dtScores"]), row, np.int64))
        matched.append(np.asarray(image["dtMatches"], np.float64).reshape(thresholds, -1) > 0)
        ignored.append(np.asarray(image["dtIgnore"], np.float64).reshape(thresholds, -1) > 0)
    order = np.argsort(-np.concatenate(scores), kind="mergesort")  # as pycocotools breaks ties
    found, out = np.concatenate(matched, axis=1)[:, order], np.concatenate(ignored, axis=1)[:, order]
    return ImageScores(image_ids, persons, np.concatenate(images)[order], found & ~out, ~found & ~out)


def ap_over_images(ours: Sequence[ImageScores], theirs: Sequence[ImageScores], resamples: int = 1000) -> Interval:
    """Percentile bootstrap over pictures of a difference in AP, both sides on the same draws.

    Args:
        ours: The scores of S seeds of one network; AP is their mean.
        theirs: The scores of the network that is subtracted, with as many seeds.
        resamples: Draws of as many pictures.

    Returns:
        The difference; NaN where no person counts.

    Raises:
        ValueError: They are not of the same pictures.
    """
    sides = [*ours, *theirs]
    if not ours or len(ours) != len(theirs) or any(not _same_images(sides[0], side) for side in sides[1:]):
        raise ValueError("needs results of both networks on the same pictures, as many of each")
    if not sides[0].persons.any():
        return Interval(float("nan"), float("nan"), float("nan"))
    draws = image_draws(len(sides[0].image_ids), resamples)
    draws = draws[(draws @ sides[0].persons) > 0]
    values = np.array([[side.average_precision(weights) for side in sides] for weights in draws])
    return of_draws(values[:, : len(ours)].mean(axis=1) - values[:, len(ours) :].mean(axis=1))


def _same_images(one: ImageScores, other: ImageScores) -> bool:
    return np.array_equal(one.image_ids, other.image_ids) and np.array_equal(one.persons, other.persons)


def _precision(weights: np.ndarray, right: np.ndarray, wrong: np.ndarray, persons: float) -> float:
    """The mean over :data:`RECALLS` of the precision, made to fall with the recall, at one threshold."""
    hits = np.cumsum(weights * right)
    precision = hits / np.maximum(hits + np.cumsum(weights * wrong), np.spacing(1))
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(hits / persons, RECALLS, side="left")
    return float(np.append(falling, 0.0)[places].mean())
