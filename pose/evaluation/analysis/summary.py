"""Where the points are lost: error classes and what correcting each would give, per-keypoint and per-group figures.

The error classes are those of Ronchi and Perona, ICCV 2017 (arXiv 1707.05388). Every AP is pycocotools', over
persons of all sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from pycocotools.coco import COCO

from pose.evaluation.analysis.error_types import KINDS, classify, corrected, person_similarity
from pose.evaluation.analysis.groups import GROUPINGS, GroupFigures, group_figures
from pose.evaluation.matching import (
    Matches,
    Truth,
    average_precision,
    match,
    read_truth,
    run_coco_eval,
)
from pose.evaluation.pck import correct_shares, distances
from pose.evaluation.results import Results
from pose.skeleton import Skeleton

CURVE_OKS = (0.5, 0.75, 0.9)
"""Thresholds of the precision-recall curves."""

CALIBRATION_BINS = 10


@dataclass(frozen=True)
class KeypointFigures:
    """One keypoint over a data set.

    Args:
        name: The keypoint's name.
        labeled: How many counted persons have it.
        ap: AP where this keypoint alone is labelled, of the persons who have it and the false ones; -1 where
            nobody has it.
        pck: Share of ``labeled`` that is within each of :data:`pose.evaluation.pck.FRACTIONS`; one of a missed
            person is not.
        kinds: How many are of each of :data:`~pose.evaluation.analysis.error_types.KINDS`, of matched persons.
    """

    name: str
    labeled: int
    ap: float
    pck: tuple[float, ...]
    kinds: Mapping[str, int]


@dataclass(frozen=True)
class Calibration:
    """How far scores are to be believed: equally many items a bin, by rising score.

    Args:
        scores: (B,) mean score of each bin.
        correct: (B,) what was really reached: mean OKS of persons, share of near joints.
    """

    scores: np.ndarray
    correct: np.ndarray


@dataclass(frozen=True)
class Analysis:
    """What :func:`analyze` finds.

    Args:
        truth, results, matches: What was compared.
        person_oks: (P,) OKS of each match.
        kinds: (P, K) indices into :data:`~pose.evaluation.analysis.error_types.KINDS`, -1 where unlabelled.
        counts: Keypoints of each kind, ``false persons`` and ``missed persons``.
        ap: AP of the results as they are.
        ap_without: What correcting gives: each of the kinds, ``all keypoints``, ``scores``, ``false persons``,
            ``missed persons``, ``everything``.
        keypoints: Figures of each of the K keypoints.
        groups: Rows by the names of :data:`~pose.evaluation.analysis.groups.GROUPINGS`.
        recall: (101,) and precision: (len(CURVE_OKS), 101), -1 where nobody counts.
        persons, joints: Calibration of the person scores (OKS reached, 0 for a false person) and of the joint
            scores (share at least ``NEAR`` its place).
    """

    truth: Truth
    results: Results
    matches: Matches
    person_oks: np.ndarray
    kinds: np.ndarray
    counts: Mapping[str, int]
    ap: float
    ap_without: Mapping[str, float]
    keypoints: tuple[KeypointFigures, ...]
    groups: Mapping[str, tuple[GroupFigures, ...]]
    recall: np.ndarray
    precision: np.ndarray
    persons: Calibration
    joints: Calibration


def analyze(results: Results, annotations: COCO, skeleton: Skeleton) -> Analysis:
    """Compares results with annotations in every way; some dozens of evaluations, so minutes for a full val2017.

    Raises:
        DataError: The annotations do not fit the skeleton.
    """
    truth = read_truth(annotations, skeleton)
    matches = match(results, annotations, skeleton)
    kinds = classify(results, truth, matches, skeleton)
    person_oks = person_similarity(results, truth, matches, skeleton)
    counts = {kind: int((kinds == number).sum()) for number, kind in enumerate(KINDS)}
    counts |= {"false persons": len(matches.false_rows), "missed persons": len(matches.missed)}
    evaluator = run_coco_eval(results, annotations, skeleton)
    thresholds = evaluator.params.iouThrs.round(2).tolist()
    precision = evaluator.eval["precision"][[thresholds.index(oks) for oks in CURVE_OKS], :, 0, 0, 0]
    return Analysis(
        truth=truth,
        results=results,
        matches=matches,
        person_oks=person_oks,
        kinds=kinds,
        counts=counts,
        ap=average_precision(evaluator),
        ap_without=_ap_without(results, annotations, skeleton, truth, matches, kinds, person_oks),
        keypoints=_keypoint_figures(results, annotations, skeleton, truth, matches, kinds),
        groups={
            name: group_figures(grouping(truth), results, annotations, skeleton, truth, matches)
            for name, grouping in GROUPINGS.items()
        },
        recall=evaluator.params.recThrs,
        precision=precision,
        persons=person_calibration(results, matches, person_oks),
        joints=_joint_calibration(results, matches, kinds),
    )


def _ap_without(
    results: Results,
    annotations: COCO,
    skeleton: Skeleton,
    truth: Truth,
    matches: Matches,
    kinds: np.ndarray,
    person_oks: np.ndarray,
) -> dict[str, float]:
    """AP after correcting one thing at a time, each in the results as they are, and everything at once."""
    exact = corrected(results, truth, matches, kinds > 0)
    ideal = _scored_by(exact, matches, np.ones(len(matches.rows)))
    changed = {
        kind: corrected(results, truth, matches, kinds == number) for number, kind in enumerate(KINDS) if number
    } | {
        "all keypoints": exact,
        "scores": _scored_by(results, matches, person_oks),
        "false persons": _without_false_persons(results, matches),
        "missed persons": _with_missed(results, truth, matches),
        "everything": _with_missed(_without_false_persons(ideal, matches), truth, matches),
    }
    return {name: average_precision(run_coco_eval(other, annotations, skeleton)) for name, other in changed.items()}


def _scored_by(results: Results, matches: Matches, person_oks: np.ndarray) -> Results:
    """Every match's OKS as its score, 0 for all others: the best order of the same persons."""
    scores = np.zeros(len(results))
    scores[matches.rows] = person_oks
    return replace(results, scores=scores)


def _without_false_persons(results: Results, matches: Matches) -> Results:
    return results.select(np.delete(np.arange(len(results)), matches.false_rows))


def _with_missed(results: Results, truth: Truth, matches: Matches) -> Results:
    """The results and, with the best score, the missed persons exactly as annotated."""
    best = results.scores.max(initial=1.0)
    return Results(
        np.concatenate([results.image_ids, truth.image_ids[matches.missed]]),
        np.concatenate([results.keypoints, truth.keypoints[matches.missed]]),
        np.concatenate([results.scores, np.full(len(matches.missed), best)]),
    )


def _keypoint_figures(
    results: Results, annotations: COCO, skeleton: Skeleton, truth: Truth, matches: Matches, kinds: np.ndarray
) -> tuple[KeypointFigures, ...]:
    lengths = distances(results, truth, matches)
    shown = truth.labeled & truth.counts[:, None]
    rows = []
    for joint, name in enumerate(skeleton.keypoints):
        only = np.zeros_like(shown)
        only[:, joint] = True
        owners = matches.rows[shown[matches.persons, joint]]
        own = results.select(np.concatenate([owners, matches.false_rows]))
        rows.append(
            KeypointFigures(
                name=name,
                labeled=int(shown[:, joint].sum()),
                ap=average_precision(run_coco_eval(own, annotations, skeleton, labeled=only)),
                pck=correct_shares(lengths[shown[:, joint], joint]),
                kinds={kind: int((kinds[:, joint] == number).sum()) for number, kind in enumerate(KINDS)},
            )
        )
    return tuple(rows)


def person_calibration(results: Results, matches: Matches, person_oks: np.ndarray) -> Calibration:
    """Person scores against the OKS reached, (P,) for the matches and 0 for the false persons."""
    reached = np.concatenate([person_oks, np.zeros(len(matches.false_rows))])
    return _calibration(results.scores[np.concatenate([matches.rows, matches.false_rows])], reached)


def _joint_calibration(results: Results, matches: Matches, kinds: np.ndarray) -> Calibration:
    labeled = kinds >= 0
    return _calibration(results.keypoints[matches.rows, :, 2][labeled], (kinds[labeled] <= KINDS.index("jitter")))


def _calibration(scores: np.ndarray, reached: np.ndarray) -> Calibration:
    order = np.argsort(scores, kind="stable")
    parts = [part for part in np.array_split(order, CALIBRATION_BINS) if len(part)]
    return Calibration(
        np.array([scores[part].mean() for part in parts]), np.array([reached[part].mean() for part in parts])
    )
