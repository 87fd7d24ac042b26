"""Two results files of the same pictures: what differs, how surely, and where to look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from pycocotools.coco import COCO

from pose.evaluation.analysis.error_types import KINDS, classify, person_similarity
from pose.evaluation.bootstrap import ap_over_images, image_scores
from pose.evaluation.matching import match, read_truth
from pose.evaluation.pck import distances
from pose.evaluation.results import Results
from pose.evaluation.significance import LEVEL, Interval, each_over_images
from pose.skeleton import Skeleton
from pose.tables import table_lines

NEAR = 0.1
"""A keypoint is correct within this fraction of the longer side of the annotated box."""


@dataclass(frozen=True)
class Side:
    """One of the two.

    Args:
        ap: Over persons of every size.
        shares: (K,) of labelled keypoints that are correct, those of persons not found being wrong; NaN for none.
        counts: Keypoints of each of :data:`~pose.evaluation.analysis.error_types.KINDS`, ``false persons`` and
            ``missed persons``.
    """

    ap: float
    shares: np.ndarray
    counts: Mapping[str, int]


@dataclass(frozen=True)
class TwoResults:
    """What :func:`compare_results` finds; every difference is the second less the first.

    Args:
        keypoints: The K keypoints' names.
        sides: The first and the second.
        ap: The difference in AP.
        shares: Difference in each keypoint's share of correct ones.
        image_ids: (P,) pictures with persons that count, from the one where the second is worse by most to the one
            where it is better by most.
        gains: (P,) difference in the mean OKS of each picture's persons, 0 for one that is not found.
    """

    keypoints: tuple[str, ...]
    sides: tuple[Side, Side]
    ap: Interval
    shares: tuple[Interval, ...]
    image_ids: np.ndarray
    gains: np.ndarray


def compare_results(
    first: Results, second: Results, annotations: COCO, skeleton: Skeleton, resamples: int = 1000
) -> TwoResults:
    """Compares two programs' results for the same annotations.

    Args:
        first, second: The persons that each program found.
        annotations: The annotation file.
        skeleton: Gives K and the OKS sigmas.
        resamples: Draws of pictures for the intervals.

    Raises:
        DataError: The annotations do not fit the skeleton.
    """
    truth = read_truth(annotations, skeleton)
    counted = np.flatnonzero(truth.counts)
    scores, correct, person_oks, counts = [], [], [], []
    for results in (first, second):
        scores.append(image_scores(results, annotations, skeleton))
        matches = match(results, annotations, skeleton)
        near = (distances(results, truth, matches) <= NEAR).astype(np.float64)
        correct.append(np.where(truth.labeled, near, np.nan)[counted])
        reached = np.zeros(len(truth))
        reached[matches.persons] = person_similarity(results, truth, matches, skeleton)
        person_oks.append(reached[counted])
        kinds = classify(results, truth, matches, skeleton)
        counts.append(
            {kind: int((kinds == number).sum()) for number, kind in enumerate(KINDS)}
            | {"false persons": len(matches.false_rows), "missed persons": len(matches.missed)}
        )
    image_ids, rows = np.unique(truth.image_ids[counted], return_inverse=True)
    gains = np.bincount(rows, person_oks[1] - person_oks[0], len(image_ids)) / np.bincount(rows, minlength=1)
    order = np.argsort(gains, kind="stable")
    shares = (Interval(np.nan, np.nan, np.nan),) * skeleton.num_keypoints
    if len(counted):
        shares = each_over_images(correct[1][None], correct[0][None], truth.image_ids[counted], resamples)
    one, other = (
        Side(own.average_precision(), _shares(right), count)
        for own, right, count in zip(scores, correct, counts, strict=True)
    )
    ap = ap_over_images(scores[1:], scores[:1], resamples)
    return TwoResults(skeleton.keypoints, (one, other), ap, shares, image_ids[order], gains[order])


def format_comparison(found: TwoResults, names: tuple[str, str]) -> str:
    """Tables in Markdown, figures in hundredths; what the intervals hold and what they do not."""
    first, second = found.sides
    rows = [["AP", _hundredths(first.ap), _hundredths(second.ap), *_difference(found.ap)]]
    each = zip(found.keypoints, first.shares, second.shares, found.shares, strict=True)
    rows += [[name, _hundredths(one), _hundredths(other), *_difference(gain)] for name, one, other, gain in each]
    errors = [
        [kind, f"{first.counts[kind]:,}", f"{second.counts[kind]:,}", f"{second.counts[kind] - first.counts[kind]:+,}"]
        for kind in first.counts
    ]
    return "\n".join(
        [
            *table_lines(["", *names, "difference", f"{LEVEL:.0%} interval"], rows),
            "",
            f"AP: OKS, persons of every size. Keypoints: share within {NEAR:g} of the box's longer side, persons not "
            f"found being wrong. Figures x 100; the difference is {names[1]} less {names[0]}. Intervals: bootstrap of "
            "whole pictures, both on the same draws: other pictures, the same results. What another training run would "
            "give is not in them, and nothing is corrected for looking at several figures.",
            "",
            *table_lines(["keypoints and persons", *names, "difference"], errors),
        ]
    )


def _shares(correct: np.ndarray) -> np.ndarray:
    labeled = (~np.isnan(correct)).sum(axis=0)
    return np.where(labeled > 0, np.nansum(correct, axis=0) / np.maximum(labeled, 1), np.nan)


def _hundredths(value: float) -> str:
    return "n/a" if np.isnan(value) or value < 0 else f"{100 * value:.1f}"


def _difference(gain: Interval) -> tuple[str, str]:
    if np.isnan(gain.mean):
        return "n/a", ""
    return f"{100 * gain.mean:+.1f}", f"{100 * gain.low:+.1f} to {100 * gain.high:+.1f}"
