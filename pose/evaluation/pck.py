"""PCK, the share of correct keypoints: a measure that needs no sigmas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from pycocotools.coco import COCO

from pose.evaluation.matching import Matches, Truth, match, read_truth
from pose.evaluation.results import Predictions, Results
from pose.skeleton import Skeleton

FRACTIONS = (0.05, 0.1, 0.2)
"""A keypoint is correct within this fraction of the longer side of the annotated box."""


LENGTH_FRACTIONS = {"torso": 0.2, "head": 0.5}
"""The customary fractions of body lengths: PCK of Leeds Sports Pose (Yang and Ramanan, TPAMI 2013, as later papers
measure it there) and PCKh of MPII (Andriluka et al., CVPR 2014). 0.2 for every other length."""


@dataclass(frozen=True)
class LengthPck:
    """The share of correct keypoints in units of each person's own body length.

    Args:
        length: Its name in the skeleton's ``lengths``.
        fraction: A keypoint within this fraction of the length is correct.
        keypoints: The K keypoints' names.
        correct: (P, K) of the persons that have the length labelled, in the file's order: 1 for a correct keypoint,
            0 for a wrong one, NaN for one that is not labelled. The other persons do not count.
        image_ids: (P,) their pictures.
    """

    length: str
    fraction: float
    keypoints: tuple[str, ...]
    correct: np.ndarray
    image_ids: np.ndarray

    @property
    def shares(self) -> dict[str, float]:
        """Share of correct keypoints by keypoint name; -1 for one that is nowhere labelled."""
        known = ~np.isnan(self.correct)
        counts = known.sum(axis=0)
        shares = np.where(counts > 0, np.nansum(self.correct, axis=0) / np.maximum(counts, 1), -1.0)
        return dict(zip(self.keypoints, shares.tolist(), strict=True))

    @property
    def name(self) -> str:
        """What figures are called by, e.g. ``PCK@0.2 torso``."""
        return f"PCK@{self.fraction:g} {self.length}"

    @property
    def mean(self) -> float:
        """The mean of the keypoints' shares, as it is published; -1 where there is none."""
        known = [share for share in self.shares.values() if share >= 0]
        return float(np.mean(known)) if known else -1.0


def length_pck(
    results: Results, annotations: COCO, skeleton: Skeleton, annotation_ids: np.ndarray | None = None
) -> list[LengthPck]:
    """PCK in units of each of the skeleton's ``lengths``, over the labelled keypoints of persons that have it labelled.

    Args:
        results: The persons.
        annotations: The annotation file.
        skeleton: Names the lengths.
        annotation_ids: (N,) whom each row of ``results`` was predicted for, and nobody else counts; None finds out by
            OKS, and keypoints of persons not found are wrong.

    Returns:
        A measure for each length that anybody has labelled.

    Raises:
        DataError: The annotations do not fit the skeleton.
    """
    truth = read_truth(annotations, skeleton)
    if annotation_ids is None:
        matches = match(results, annotations, skeleton)
    else:
        rows_of = {number: row for row, number in enumerate(truth.ids.tolist())}
        persons = np.array([rows_of[number] for number in annotation_ids.tolist()], np.int64)
        matches = Matches(np.arange(len(persons)), persons, np.zeros(0, np.int64), np.zeros(0, np.int64))
        truth = replace(truth, counts=np.isin(np.arange(len(truth)), persons))
    errors = pixel_errors(results, truth, matches)
    measures = [_in_units_of(name, errors, truth, skeleton) for name in skeleton.lengths]
    return [measure for measure in measures if len(measure.correct)]


def predicted_length_pck(
    predictions: Predictions, results: Results, annotations: COCO, skeleton: Skeleton
) -> list[LengthPck]:
    """:func:`length_pck` of a test: by annotation where its boxes are the annotations' own, which is how it is
    published, else by whom the scored and suppressed ``results`` match.

    Raises:
        DataError: The annotations do not fit the skeleton.
    """
    if predictions.annotation_ids is None or (predictions.annotation_ids < 0).any():
        return length_pck(results, annotations, skeleton)
    everyone = Results(predictions.image_ids, predictions.keypoints, predictions.box_scores)
    return length_pck(everyone, annotations, skeleton, predictions.annotation_ids)


def _in_units_of(name: str, errors: np.ndarray, truth: Truth, skeleton: Skeleton) -> LengthPck:
    first, second = skeleton.lengths[name]
    lengths = np.linalg.norm(truth.keypoints[:, first, :2] - truth.keypoints[:, second, :2], axis=-1)
    usable = truth.counts & truth.labeled[:, first] & truth.labeled[:, second] & (lengths > 0)
    fraction = LENGTH_FRACTIONS.get(name, 0.2)
    correct = (errors[usable] <= fraction * lengths[usable, None]).astype(np.float64)
    correct[~truth.labeled[usable]] = np.nan
    return LengthPck(name, fraction, skeleton.keypoints, correct, truth.image_ids[usable])


def format_length_pck(measures: Sequence[LengthPck], skeleton: Skeleton) -> str:
    """A printable table, left and right together; empty without measures."""
    if not measures:
        return ""
    names, mirrored = skeleton.keypoints, skeleton.flip_index.tolist()
    groups = [(names[index], names[other]) for index, other in enumerate(mirrored) if index <= other]
    lines = []
    for measure in measures:
        shares = measure.shares
        cells = [f"{measure.name} ({len(measure.correct):,} persons): mean {measure.mean:.3f}"]
        for group in groups:
            label = group[0].removeprefix("left_").removeprefix("right_")
            known = [shares[name] for name in group if shares[name] >= 0]
            cells.append(f"{label} {np.mean(known):.3f}" if known else f"{label} n/a")
        lines.append("  ".join(cells))
    return "\n".join(lines)


def pixel_errors(results: Results, truth: Truth, matches: Matches) -> np.ndarray:
    """(G, K) pixels from every annotated person's keypoints to the predicted ones; infinite for persons not found."""
    found = np.full(truth.labeled.shape, np.inf)
    offset = results.keypoints[matches.rows, :, :2] - truth.keypoints[matches.persons, :, :2]
    found[matches.persons] = np.linalg.norm(offset, axis=-1)
    return found


def distances(results: Results, truth: Truth, matches: Matches) -> np.ndarray:
    """(G, K) of every annotated person's keypoints in units of the box's longer side; infinite for those not found."""
    found = pixel_errors(results, truth, matches)
    return found / np.maximum(truth.boxes[:, 2:].max(axis=1, initial=0), np.spacing(1))[:, None]


def correct_shares(lengths: np.ndarray, fractions: Sequence[float] = FRACTIONS) -> tuple[float, ...]:
    """Shares of (N,) distances within each fraction; -1 for none at all."""
    return tuple(float((lengths <= fraction).mean()) if len(lengths) else -1.0 for fraction in fractions)


def pck(results: Results, annotations: COCO, skeleton: Skeleton) -> dict[str, float]:
    """``PCK@0.05`` and so on, over all labelled keypoints; those of persons not found are wrong.

    Raises:
        DataError: The annotations do not fit the skeleton.
    """
    truth = read_truth(annotations, skeleton)
    lengths = distances(results, truth, match(results, annotations, skeleton))
    shares = correct_shares(lengths[truth.labeled & truth.counts[:, None]])
    return {f"PCK@{fraction:g}": share for fraction, share in zip(FRACTIONS, shares, strict=True)}
