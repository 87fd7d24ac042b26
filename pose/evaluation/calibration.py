"""Joint scores that mean something: from a network's raw scores to the probability that a joint is right.

A raw score is a heatmap's peak, which says more of the network than of the joint. On persons that the network was not
trained on, each joint gets a monotone map from its raw score to the share of joints of that score that are within a
tenth of the box's longer side of their place (PCK 0.1): isotonic regression by pool-adjacent-violators (Barlow et al.,
'Statistical Inference under Order Restrictions', 1972; for classifiers Zadrozny and Elkan, KDD 2002), kept as a few
knots of a piecewise linear function. It is for what people see, joint scores and what is drawn: person scores and
every figure of a test stay what raw scores make them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from pose.errors import CheckpointError, DataError
from pose.skeleton import Skeleton

FRACTION = 0.1
"""A joint is right within this fraction of the longer side of the person's box."""

KNOTS = 16
"""Points of a joint's map that are fitted, at most."""

LEAST_PER_KNOT = 20
"""Labeled joints behind each knot, at least."""

SHARE = 0.85
"""The share of drawn joints that are to be right, where nobody chooses another."""


@dataclass(frozen=True)
class JointCalibration:
    """A monotone map from raw joint scores to probabilities for each of K joints.

    Args:
        scores: (K, M) raw scores of the maps' knots, not falling along M.
        probabilities: (K, M) what they become, in [0, 1], not falling along M; beyond the knots it stays.
        threshold: The probability from which a joint is worth drawing.
        flip: Whether the raw scores are of heatmaps averaged with the mirrored crop's; the map holds for no others.

    Raises:
        ValueError: The shapes differ, or a number is out of order or out of range.
    """

    scores: np.ndarray
    probabilities: np.ndarray
    threshold: float
    flip: bool

    def __post_init__(self) -> None:
        for name in ("scores", "probabilities"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.float64))
        if self.scores.ndim != 2 or self.scores.shape != self.probabilities.shape or not self.scores.size:
            raise ValueError(
                f"a calibration needs two arrays (K, M), got {self.scores.shape} and {self.probabilities.shape}"
            )
        for values in (self.scores, self.probabilities):
            if not np.isfinite(values).all() or (np.diff(values, axis=1) < 0).any():
                raise ValueError("a calibration's knots must be finite and must not fall")
        if not (self.probabilities >= 0).all() or not (self.probabilities <= 1).all() or not 0 <= self.threshold <= 1:
            raise ValueError("a calibration's probabilities must be in [0, 1]")

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Raw joint scores (..., K) to probabilities (..., K), float64.

        The maps lie side by side on one axis, each shifted by more than the range of scores, so that one call of
        np.interp reads them all.
        """
        low, high = self.scores[:, 0], self.scores[:, -1]
        shift = np.arange(len(self.scores)) * (high.max() - low.min() + 1)
        places = np.clip(np.asarray(scores, np.float64), low, high) + shift
        return np.interp(places, (self.scores + shift[:, None]).ravel(), self.probabilities.ravel())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint or an exported file; :meth:`from_dict` reads them back."""
        return {
            "scores": self.scores.tolist(),
            "probabilities": self.probabilities.tolist(),
            "threshold": self.threshold,
            "flip": self.flip,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> JointCalibration:
        """Reads what :meth:`to_dict` wrote.

        Raises:
            ValueError: The values are no calibration.
        """
        try:
            return cls(values["scores"], values["probabilities"], float(values["threshold"]), bool(values["flip"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"no calibration: {error!r}") from error


def read_calibration(
    values: Mapping[str, Any] | None, skeleton: Skeleton, flip: bool, path: str | Path
) -> JointCalibration | None:
    """The calibration that a checkpoint or an exported file keeps.

    Args:
        values: As :meth:`JointCalibration.to_dict` made them; None where there are none.
        skeleton: The network's skeleton.
        flip: Whether heatmaps are averaged with the mirrored crop's.
        path: The file, for messages.

    Returns:
        None without one, or where it is of scores with the other choice of ``flip``.

    Raises:
        CheckpointError: It cannot be used.
    """
    if values is None:
        return None
    try:
        calibration = JointCalibration.from_dict(values)
        if len(calibration.scores) != skeleton.num_keypoints:
            raise ValueError(f"it is of {len(calibration.scores)} keypoints, not {skeleton.num_keypoints}")
    except ValueError as error:
        raise CheckpointError(f"{path}: its calibration cannot be used ({error}); make it again") from error
    return calibration if calibration.flip == flip else None


class DrawnShare(NamedTuple):
    """What a drawing threshold gives.

    Attributes:
        threshold: Least probability of a drawn joint.
        drawn: Share of the labeled joints that are drawn.
        right: Share of the drawn joints that are right; 1 where none is drawn.
    """

    threshold: float
    drawn: float
    right: float


def right_joints(predicted: np.ndarray, labels: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Which joints are within :data:`FRACTION` of the longer side of their person's box.

    Args:
        predicted: (N, K, 2 or 3) x, y in pixels; a third column is not used.
        labels: (N, K, 3) x, y in pixels and COCO's visibility of the same persons.
        boxes: (N, 4) x, y, width, height in pixels.

    Returns:
        (N, K) float64: 1 where a joint is right, 0 where it is not, NaN where it has no label.
    """
    distances = np.linalg.norm(predicted[..., :2] - labels[..., :2], axis=-1)
    right = (distances <= FRACTION * boxes[:, 2:].max(axis=1, initial=0)[:, None]).astype(np.float64)
    return np.where(labels[..., 2] > 0, right, np.nan)


def fit_calibration(scores: np.ndarray, right: np.ndarray, flip: bool, share: float = SHARE) -> JointCalibration:
    """Fits a map for each joint, and chooses the drawing threshold on the same joints.

    A joint with fewer than :data:`LEAST_PER_KNOT` labels gets the map of all joints together. The threshold is the
    lowest at which at least ``share`` of the drawn joints are right, or 0.5 where there is none.

    Args:
        scores: (N, K) raw joint scores of persons that the network was not trained on.
        right: (N, K) as :func:`right_joints` gives it.
        flip: Whether the scores are of flip-averaged heatmaps.
        share: The share of drawn joints that are to be right.

    Raises:
        DataError: Too few joints are labeled.
    """
    labeled = ~np.isnan(right)
    if labeled.sum() < LEAST_PER_KNOT:
        raise DataError(
            f"only {labeled.sum()} joints are labeled, a calibration needs at least {LEAST_PER_KNOT}; choose a split "
            "with more persons"
        )
    together = _fit_joint(scores[labeled], right[labeled])
    maps = [
        _fit_joint(scores[rows, joint], right[rows, joint]) if rows.sum() >= LEAST_PER_KNOT else together
        for joint, rows in enumerate(labeled.T)
    ]
    calibration = JointCalibration(
        np.stack([knots for knots, _ in maps]), np.stack([values for _, values in maps]), 0.5, flip
    )
    good = [row.threshold for row in drawn_shares(calibration(scores), right) if row.right >= share and row.drawn > 0]
    return JointCalibration(calibration.scores, calibration.probabilities, min(good, default=0.5), flip)


def drawn_shares(
    probabilities: np.ndarray, right: np.ndarray, thresholds: Sequence[float] = tuple(np.arange(1, 20) / 20)
) -> list[DrawnShare]:
    """How many joints each drawing threshold shows, and how many of these are right.

    Args:
        probabilities: (N, K).
        right: (N, K) as :func:`right_joints` gives it; joints without a label do not count.
        thresholds: The thresholds to look at.
    """
    labeled = ~np.isnan(right)
    found, correct = probabilities[labeled], right[labeled]
    rows = []
    for threshold in thresholds:
        drawn = found >= threshold
        rows.append(
            DrawnShare(float(threshold), float(drawn.mean()), float(correct[drawn].mean()) if drawn.any() else 1.0)
        )
    return rows


def isotonic(values: ArrayLike, weights: ArrayLike) -> np.ndarray:
    """The weighted least-squares fit to a sequence that never falls, by pool-adjacent-violators.

    Neighbors that fall must be equal in the fit, whatever else is, so whole falling runs are pooled at once until
    none falls.

    Args:
        values: (N,).
        weights: (N,) positive.

    Returns:
        (N,) float64.
    """
    means, masses = np.asarray(values, np.float64), np.asarray(weights, np.float64)
    sizes = np.ones(len(means), np.int64)
    while (np.diff(means) < 0).any():
        starts = np.flatnonzero(np.concatenate([[True], np.diff(means) >= 0]))
        totals = np.add.reduceat(means * masses, starts)
        masses, sizes = np.add.reduceat(masses, starts), np.add.reduceat(sizes, starts)
        means = totals / masses
    return np.repeat(means, sizes)


def _fit_joint(scores: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """:data:`KNOTS` + 1 scores and probabilities from (P,) pairs: the fit's means over parts of equally many joints.

    With few joints there are fewer parts, and the last knot is repeated. The first knot is a score of 0, no peak at
    all, with probability 0: labeled joints say nothing of places where nobody is, and a detector's boxes hold such.
    """
    distinct, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    fitted = isotonic(np.bincount(place, weights=right) / counts, counts)[place]
    order = np.argsort(scores, kind="stable")
    parts = np.array_split(order, max(1, min(KNOTS, len(scores) // LEAST_PER_KNOT)))
    parts += parts[-1:] * (KNOTS - len(parts))
    knots = [scores[part].mean() for part in parts]
    probabilities = [0.0, *(fitted[part].mean() for part in parts)]
    # Means of equal numbers round by how many there are: what must not fall would, by the last bit.
    rising = np.maximum.accumulate([[min(0.0, knots[0]), *knots], probabilities], axis=1)
    return rising[0], np.minimum(rising[1], 1)
