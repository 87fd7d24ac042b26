"""Left and right examined from the data: are the flip pairs a mirror, and whose sides are exchanged?

A mirrored image of people with their pairs exchanged is as good an image of people, so a data set and its mirror agree
in every average: how far two joints are apart, and how far one is to the right of the other. A wrong pair breaks that,
and so does a missing one wherever people face the camera more often than not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MOST_KEYPOINTS = 64
"""Larger skeletons are not searched for other pairs: the work grows with the fourth power."""

LEAST_PERSONS = 50
"""Fewer persons than this say nothing about a mirror."""

LEAST_GAIN = 0.2
"""A change of pairs is told where it takes this share of the asymmetry away, on persons that it was not found by."""

SURE = 0.9
"""Persons are called exchanged from this probability on."""

_RIDGE, _STEPS = 10.0, 8


@dataclass(frozen=True)
class PairCheck:
    """What the data say about the flip pairs.

    Attributes:
        asymmetry: Root mean square difference between the data and their mirror, in shares of a person's size.
        best_asymmetry: The same with ``changes`` made.
        wrong: Declared pairs that the data contradict.
        missing: Pairs that the data have and nobody declared.
        persons: How many persons it rests on.
    """

    asymmetry: float
    best_asymmetry: float
    wrong: tuple[tuple[int, int], ...]
    missing: tuple[tuple[int, int], ...]
    persons: int


@dataclass(frozen=True)
class ExchangeCheck:
    """The persons whose left and right are exchanged, as far as it can be told.

    Attributes:
        accuracy: The share of persons that are told from their own exchanged copies, by persons not learned from.
        probability: (N,) that a person's sides are exchanged; NaN where nothing can be told of it.
        exchanged: Rows of the persons above :data:`SURE`, the surest first.
    """

    accuracy: float
    probability: np.ndarray
    exchanged: np.ndarray


def check_pairs(keypoints: np.ndarray, mirror: Sequence[int], seed: int = 0) -> PairCheck:
    """Looks for pairs that fit the data better, on one half of the persons, and tries them on the other half.

    Args:
        keypoints: (N, K, 3) x, y in pixels, and the visibility.
        mirror: (K,) what each keypoint becomes in a mirror, from the skeleton.
        seed: The seed that parts the persons into halves.
    """
    pairs = np.asarray(mirror)
    usable = keypoints[(keypoints[..., 2] > 0).sum(1) >= 3]
    order = np.random.default_rng(seed).permutation(len(usable))
    first, second = (_averages(usable[half]) for half in (order[::2], order[1::2]))
    now = _asymmetry(second, pairs)
    if len(usable) < LEAST_PERSONS or len(pairs) > MOST_KEYPOINTS:
        return PairCheck(now, now, (), (), len(usable))
    candidates = [_search(first, start) for start in (pairs, np.arange(len(pairs)))]
    best = min(candidates, key=lambda found: _asymmetry(first, found))
    then = _asymmetry(second, best)
    if then > (1 - LEAST_GAIN) * now:
        return PairCheck(now, now, (), (), len(usable))
    declared, found = (
        {(index, other) for index, other in enumerate(each.tolist()) if index < other} for each in (pairs, best)
    )
    return PairCheck(now, then, tuple(sorted(declared - found)), tuple(sorted(found - declared)), len(usable))


Averages = tuple[np.ndarray, np.ndarray, np.ndarray]


def _averages(keypoints: np.ndarray) -> Averages:
    """(K, K) mean distances, mean signed horizontal distances, and whether a pair of joints was seen often enough."""
    points, weights = _normalized(keypoints)
    together = np.einsum("ni,nj->ij", weights, weights)
    count = np.maximum(together, 1)
    distance, across = (np.zeros(together.shape) for _ in range(2))
    for start in range(0, len(points), 4096):  # so that memory stays small
        part, weight = points[start : start + 4096], weights[start : start + 4096]
        offset = part[:, None] - part[:, :, None]
        both = weight[:, None] * weight[:, :, None]
        distance += (np.linalg.norm(offset, axis=-1) * both).sum(0)
        across += (offset[..., 0] * both).sum(0)
    return distance / count, across / count, together >= 10


def _normalized(keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, K, 2) places in shares of each person's size, about the middle of the labeled joints, and (N, K) weights."""
    weights = (keypoints[..., 2] > 0).astype(np.float64)
    count = np.maximum(weights.sum(1), 1)[:, None, None]
    points = keypoints[..., :2].astype(np.float64)
    centered = points - (points * weights[..., None]).sum(1, keepdims=True) / count
    size = np.sqrt((centered**2 * weights[..., None]).sum((1, 2), keepdims=True) / count)
    return centered * weights[..., None] / np.maximum(size, 1e-9), weights


def _asymmetry(averages: Averages, mirror: np.ndarray) -> float:
    distance, across, known = averages
    mirrored = np.ix_(mirror, mirror)
    both = known & known[mirrored]
    squares = (distance - distance[mirrored]) ** 2 + (across + across[mirrored]) ** 2
    return float(np.sqrt(squares[both].mean())) if both.any() else 0.0


def _search(averages: Averages, start: np.ndarray) -> np.ndarray:
    """The mirror that no single new or dissolved pair makes better."""
    best, least = start.copy(), _asymmetry(averages, start)
    while True:
        tried = [_paired(best, one, other) for one in range(len(best)) for other in range(one, len(best))]
        costs = [_asymmetry(averages, each) for each in tried]
        place = int(np.argmin(costs))
        if costs[place] >= least - 1e-9:
            return best
        best, least = tried[place], costs[place]


def _paired(mirror: np.ndarray, one: int, other: int) -> np.ndarray:
    """A mirror where two joints are a pair and their former partners another; or, of one joint, its pair dissolved."""
    changed = mirror.copy()
    first, second = int(mirror[one]), int(mirror[other])
    if one == other or first == other:
        changed[one], changed[first] = one, first
        return changed
    changed[one], changed[other] = other, one
    left = [each for each in (first, second) if each not in (one, other)]
    for each, partner in zip(left, left[::-1], strict=True):
        changed[each] = partner
    return changed


def check_exchanged(keypoints: np.ndarray, mirror: Sequence[int], seed: int = 0) -> ExchangeCheck:
    """Learns from all persons what tells them from their copies with left and right exchanged, and looks at each.

    What tells it is which way a pair points, given which joints are labeled, seen or hidden (a nose shows a front), and
    which way the unpaired joints lie. Each person is judged by what the other half of the persons taught.

    Args:
        keypoints: (N, K, 3) x, y in pixels, and the visibility.
        mirror: (K,) what each keypoint becomes in a mirror.
        seed: The seed that parts the persons into halves.
    """
    features = _exchange_features(keypoints, np.asarray(mirror))
    usable = np.flatnonzero(np.abs(features).sum(1) > 0)
    probability = np.full(len(keypoints), np.nan)
    none = ExchangeCheck(0.5, probability, np.zeros(0, np.int64))
    if len(usable) < LEAST_PERSONS:
        return none
    halves = np.random.default_rng(seed).permutation(usable)
    for learned, judged in ((halves[::2], halves[1::2]), (halves[1::2], halves[::2])):
        probability[judged] = _sigmoid(-features[judged] @ _logistic(features[learned]))
    accuracy = float((probability[usable] < 0.5).mean())
    sure = np.flatnonzero(np.nan_to_num(probability) > SURE)
    return ExchangeCheck(accuracy, probability, sure[np.argsort(-probability[sure], kind="stable")])


def _logistic(features: np.ndarray) -> np.ndarray:
    """(F,) weights that make ``features @ weights`` the log odds of a person against the exchanged copy.

    The copy has the same features with the other sign, so that one row stands for both. Newton's method.
    """
    weights = np.zeros(features.shape[1])
    for _ in range(_STEPS):
        wrong = _sigmoid(-features @ weights)
        slope = features.T @ wrong - _RIDGE * weights
        curve = (features * (wrong * (1 - wrong))[:, None]).T @ features + _RIDGE * np.eye(len(weights))
        weights += np.linalg.solve(curve, slope)
    return weights


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values.clip(-50, 50)))


def _exchange_features(keypoints: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """(N, F) features that change their sign, and nothing else, where a person's left and right are exchanged."""
    points, weights = _normalized(keypoints)
    firsts = np.flatnonzero(mirror > np.arange(len(mirror)))
    seconds = mirror[firsts]
    both = weights[:, firsts] * weights[:, seconds]
    across = np.tanh(2 * (points[:, firsts, 0] - points[:, seconds, 0])) * both  # which way each pair points
    seen = (keypoints[..., 2] == 2).astype(np.float64)
    hidden = (keypoints[..., 2] == 1).astype(np.float64)
    states = np.concatenate([np.ones((len(points), 1)), _even(seen, mirror), _even(hidden, mirror)], axis=1)
    odd = [_odd(values, firsts, seconds) for values in (weights, seen)]
    middle = _center(points, weights, firsts, seconds)
    alone = np.flatnonzero(mirror == np.arange(len(mirror)))
    ahead = np.tanh(2 * (points[:, alone, 0] - middle[:, None])) * weights[:, alone]  # which way a nose points
    even = [across[:, :, None] * states[:, None], *(ahead[:, :, None] * each[:, None] for each in odd)]
    return np.concatenate([each.reshape(len(points), -1) for each in even], axis=1)


def _even(values: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    return (values + values[:, mirror]) / 2


def _odd(values: np.ndarray, firsts: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    return values[:, firsts] - values[:, seconds]


def _center(points: np.ndarray, weights: np.ndarray, firsts: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """(N,) mean horizontal place of the paired joints."""
    paired = np.concatenate([firsts, seconds])
    return (points[:, paired, 0] * weights[:, paired]).sum(1) / np.maximum(weights[:, paired].sum(1), 1)
