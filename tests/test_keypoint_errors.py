"""The error classes on two annotated persons, by hand."""

import numpy as np
import pytest

from pose.evaluation.analysis.error_types import KINDS, UNLABELED, classify, corrected, person_similarity
from pose.evaluation.matching import Matches, Truth
from pose.evaluation.results import Results
from pose.skeleton import Skeleton

PAIR = Skeleton("pair", ("left", "right", "top"), flip_pairs=((0, 1),), sigmas=(0.05, 0.05, 0.05))
AREA = 10_000.0  # with k = 0.1 the similarity at d pixels is exp(-d^2 / 200)


def reach(similarity):
    """Pixels at which a keypoint is this similar to its place."""
    return float(np.sqrt(-200 * np.log(similarity)))


@pytest.fixture
def truth():
    """One person at x = 0, 300 and 600; another 1,000 pixels below on the same image; a third elsewhere."""
    places = np.array([[0, 0, 2], [300, 0, 1], [600, 0, 2]], np.float64)
    keypoints = np.stack([places, places + (0, 1000, 0), places])
    return Truth(
        ids=np.array([11, 12, 13]),
        image_ids=np.array([1, 1, 2]),
        keypoints=keypoints,
        boxes=np.tile([0.0, 0, 600, 100], (3, 1)),
        areas=np.full(3, AREA),
        counts=np.ones(3, bool),
    )


def kinds_of(truth, *points, person=0):
    """The classes of the first person's keypoints at (x, y) points."""
    results = Results(np.array([1]), np.array([[[x, y, 1] for x, y in points]], np.float64), np.array([0.9]))
    matches = Matches(np.array([0]), np.array([person]), np.zeros(0, int), np.zeros(0, int))
    found = classify(results, truth, matches, PAIR)[0]
    return ["unlabelled" if kind == UNLABELED else KINDS[kind] for kind in found]


def test_bounds_of_good_jitter_and_miss(truth):
    assert kinds_of(truth, (reach(0.86), 0), (300 + reach(0.84), 0), (600, reach(0.51))) == ["good", "jitter", "jitter"]
    assert kinds_of(truth, (0, reach(0.49)), (300, 500), (600, reach(0.84))) == ["miss", "miss", "jitter"]


def test_the_mirror_partner_s_place_is_an_inversion(truth):
    assert kinds_of(truth, (300, reach(0.51)), (0, 0), (600, 0)) == ["inversion", "inversion", "good"]
    assert kinds_of(truth, (300, reach(0.49)), (300, 0), (0, 0)) == ["miss", "good", "miss"]  # the top has no partner


def test_another_person_s_place_is_a_swap(truth):
    same, partner = (0, 1000 + reach(0.51)), (0, 1000)
    assert kinds_of(truth, same, partner, (600, 1000 + reach(0.49))) == ["swap", "swap", "miss"]
    assert kinds_of(truth, (0, 0), (300, 0), (300, 1000)) == ["good", "good", "miss"]  # a different joint is no swap


def test_persons_of_other_images_are_no_swap(truth):
    truth.keypoints[2, :, 1] = 5000
    assert kinds_of(truth, (0, 5000), (300, 0), (600, 0)) == ["miss", "good", "good"]


def test_of_inversion_and_swap_the_more_similar_decides(truth):
    truth.keypoints[1, :, :2] = truth.keypoints[0, :, :2] + (300, 6)  # the other's left is beside this one's right
    assert kinds_of(truth, (300, 1), (300, 0), (600, 0))[0] == "inversion"
    assert kinds_of(truth, (300, 5), (300, 0), (600, 0))[0] == "swap"


def test_unlabeled_keypoints_are_of_no_class_and_no_place(truth):
    truth.keypoints[0, 1, 2] = 0
    assert kinds_of(truth, (300, 0), (300, 0), (600, 0)) == ["miss", "unlabelled", "good"]


def test_oks_is_the_mean_over_labeled_keypoints(truth):
    truth.keypoints[0, 2, 2] = 0
    results = Results(np.array([1]), np.array([[[0, 0, 1], [300, reach(0.5), 1], [9, 9, 1]]]), np.array([0.9]))
    matches = Matches(np.array([0]), np.array([0]), np.zeros(0, int), np.zeros(0, int))
    assert person_similarity(results, truth, matches, PAIR) == pytest.approx([0.75])
    wrong = classify(results, truth, matches, PAIR) > 0
    exact = corrected(results, truth, matches, wrong)
    assert exact.keypoints[0].tolist() == [[0, 0, 1], [300, 0, 1], [9, 9, 1]]
    assert results.keypoints[0, 1, 1] > 0
