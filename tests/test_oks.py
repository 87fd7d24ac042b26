"""OKS, OKS-NMS and rescoring against numbers worked out by hand and against plain loops."""

import math

import numpy as np
import pytest

from pose.evaluation.oks import nms_per_image, oks, oks_nms, rescore, soft_oks_nms
from pose.skeleton import COCO


def person(x: float, y: float = 0.0, keypoints: int = 1) -> list:
    return [[x, y]] * keypoints


def slow_oks(one, other, area, other_area, sigmas) -> float:
    """The definition, one keypoint at a time."""
    total = 0.0
    for (x, y, *_), (u, v, *_), sigma in zip(one, other, sigmas, strict=True):
        squared = (x - u) ** 2 + (y - v) ** 2
        total += math.exp(-squared / (2 * sigma) ** 2 / ((area + other_area) / 2 + np.spacing(1)) / 2)
    return total / len(sigmas)


def crowd(rng, count, images=1):
    """People near a few places, so that some overlap above 0.9, and where they belong."""
    places = rng.uniform(0, 300, (count, 1, 1)) // 60 * 60
    keypoints = places + rng.normal(0, 4, (count, 17, 3))
    return rng.integers(0, images, count), keypoints, rng.random(count), rng.uniform(4000, 20000, count)


def test_one_keypoint_by_hand():
    # d = 5 (a 3-4-5 triangle), sigma 0.05, areas 2000 and 3000: e = 25 / 0.01 / 2500 / 2 = 0.5
    value = oks([[[0, 0]]], [[[3, 4]]], [2000], [3000], [0.05])
    assert value.shape == (1, 1)
    assert value[0, 0] == pytest.approx(0.6065306597126334)


def test_all_keypoints_count_and_the_score_column_does_not():
    # one of four keypoints is infinitely far, one at e = 0.5, two exact: (0 + 0.6065 + 1 + 1) / 4
    ours = [[[0, 0, 0.0], [0, 0, 0.0], [7, 7, 0.0], [9, 9, 0.0]]]
    theirs = [[[1e6, 0, 1.0], [3, 4, 1.0], [7, 7, 1.0], [9, 9, 1.0]]]
    assert oks(ours, theirs, [2500], [2500], [0.05] * 4)[0, 0] == pytest.approx(2.6065306597126334 / 4)


def test_sigma_of_coco_ankle_by_hand():
    # 0.089: (2 sigma)^2 = 0.031684; at d = 17.8 on 10,000 pixels^2: e = 316.84 / 0.031684 / 10000 / 2 = 0.5
    ours, theirs = np.zeros((1, 17, 2)), np.zeros((1, 17, 2))
    theirs[0, 16, 0] = 17.8
    assert oks(ours, theirs, 1e4, 1e4, COCO.sigmas)[0, 0] == pytest.approx((16 + 0.6065306597126334) / 17)


def test_equals_the_slow_loop():
    rng = np.random.default_rng(0)
    _, ours, _, areas = crowd(rng, 7)
    _, theirs, _, other_areas = crowd(rng, 5)
    expected = [
        [slow_oks(a, b, area, other, COCO.sigmas) for b, other in zip(theirs, other_areas, strict=True)]
        for a, area in zip(ours, areas, strict=True)
    ]
    np.testing.assert_allclose(oks(ours, theirs, areas, other_areas, COCO.sigmas), expected, rtol=1e-12)


def test_area_zero_and_no_person():
    assert oks([person(0)], [person(0)], [0], [0], [0.05])[0, 0] == 1
    assert oks([person(0)], [person(1)], [0], [0], [0.05])[0, 0] == 0
    assert oks(np.zeros((0, 1, 2)), [person(1)], [], [1], [0.05]).shape == (0, 1)


@pytest.mark.parametrize("keypoints", [np.zeros((2, 3, 2)), np.zeros((2, 2)), np.zeros((2, 1, 4))])
def test_shapes_that_do_not_fit_are_refused(keypoints):
    with pytest.raises(ValueError, match=r"keypoints must be \(N, 1, 2 or 3\)"):
        oks(keypoints, keypoints, 1, 1, [0.05])


def test_rescore_by_hand():
    joints = [[0.5, 0.3, 0.2, 0.1], [0.1, 0.2, 0.0, -0.3], [1.0, 1.0, 1.0, 1.0]]
    # 0.2 itself does not count: 0.9 x (0.5 + 0.3) / 2 = 0.36; none above: 0; all
    np.testing.assert_allclose(rescore([0.9, 0.8, 0.5], joints), [0.36, 0.0, 0.5])
    # with the threshold at 0.05: 0.9 x 1.1 / 4 and 0.8 x 0.3 / 2
    np.testing.assert_allclose(rescore([0.9, 0.8, 0.5], joints, threshold=0.05), [0.2475, 0.12, 0.5])


def test_greedy_drops_only_above_the_threshold():
    # e = d^2 / 0.01 / 10000 / 2 = d^2 / 200: OKS 0.9 at d = sqrt(-200 ln 0.9) = 4.5904
    near, far = 4.58, 4.60
    people = [person(0), person(near), person(-far)]
    assert oks_nms(people, [0.9, 0.8, 0.7], [1e4] * 3, [0.05]).tolist() == [0, 2]
    assert oks_nms(people, [0.9, 0.8, 0.7], [1e4] * 3, [0.05], threshold=0.89).tolist() == [0]
    # an OKS of exactly the threshold stays
    assert oks_nms([person(0)] * 2, [0.9, 0.8], [1e4] * 2, [0.05], threshold=1.0).tolist() == [0, 1]


def test_a_dropped_person_drops_no_other():
    # neighbours overlap (d = 4), the ends do not (d = 8): the middle goes, the last stays
    people = [person(0), person(4), person(8)]
    assert oks_nms(people, [0.9, 0.8, 0.7], [1e4] * 3, [0.05]).tolist() == [0, 2]
    # the middle first: both ends go
    assert oks_nms(people, [0.8, 0.9, 0.7], [1e4] * 3, [0.05]).tolist() == [1]


def test_the_mean_of_both_areas_counts():
    # d = 4: on 10,000 pixels^2 OKS is exp(-0.08) = 0.923; on (10,000 + 2,000) / 2 exp(-0.1333) = 0.875
    people = [person(0), person(4)]
    assert oks_nms(people, [0.9, 0.8], [1e4, 1e4], [0.05]).tolist() == [0]
    assert oks_nms(people, [0.9, 0.8], [1e4, 2e3], [0.05]).tolist() == [0, 1]


def test_best_first_and_of_equals_the_first():
    assert oks_nms([person(0), person(50), person(100)], [0.1, 0.9, 0.5], [1e4] * 3, [0.05]).tolist() == [1, 2, 0]
    assert oks_nms([person(0), person(0), person(0)], [0.5, 0.5, 0.5], [1e4] * 3, [0.05]).tolist() == [0]


def test_soft_decays_but_keeps():
    # 1 is a copy of 0: 0.8 x exp(-1 / 0.9) = 0.263, so 2 (0.5, far away) is taken before it
    people = [person(0), person(0), person(500)]
    assert soft_oks_nms(people, [0.9, 0.8, 0.5], [1e4] * 3, [0.05]).tolist() == [0, 2, 1]
    assert soft_oks_nms(people, [0.9, 0.8, 0.2], [1e4] * 3, [0.05]).tolist() == [0, 1, 2]


def test_soft_keeps_twenty_of_an_image():
    people = [person(1000 * i) for i in range(25)]
    scores = np.linspace(1, 0.5, 25)
    assert soft_oks_nms(people, scores, 1e4, [0.05]).tolist() == list(range(20))
    # a copy of the best, itself second best, falls behind the 20 others
    people[1] = person(0)
    assert soft_oks_nms(people, scores, 1e4, [0.05]).tolist() == [0, *range(2, 21)]


def slow_greedy(keypoints, scores, areas, threshold):
    left, kept = sorted(range(len(scores)), key=lambda i: -scores[i]), []
    while left:
        best, *left = left
        kept.append(best)
        left = [
            i for i in left
            if slow_oks(keypoints[best], keypoints[i], areas[best], areas[i], COCO.sigmas) <= threshold
        ]  # fmt: skip
    return kept


def slow_soft(keypoints, scores, areas, threshold):
    left, scores, kept = list(range(len(scores))), list(scores), []
    while left and len(kept) < 20:
        best = max(left, key=lambda i: scores[i])
        left.remove(best)
        kept.append(best)
        for i in left:
            overlap = slow_oks(keypoints[best], keypoints[i], areas[best], areas[i], COCO.sigmas)
            scores[i] *= math.exp(-(overlap**2) / threshold)
    return kept


@pytest.mark.parametrize(("method", "slow"), [("greedy", slow_greedy), ("soft", slow_soft)])
@pytest.mark.parametrize("threshold", [0.9, 0.5, 0.05])
def test_a_whole_data_set_equals_image_by_image(method, slow, threshold):
    image_ids, keypoints, scores, areas = crowd(np.random.default_rng(1), 120, images=4)
    kept = nms_per_image(image_ids, keypoints, scores, areas, COCO.sigmas, threshold, method)
    expected = []
    for image in range(4):
        own = np.flatnonzero(image_ids == image)
        expected.extend(own[slow(keypoints[own], scores[own], areas[own], threshold)].tolist())
    assert len(expected) < 120  # something was there to drop
    assert kept.tolist() == sorted(expected)


def test_the_same_person_in_two_images_stays_in_both():
    people, scores = [person(0)] * 3, [0.9, 0.8, 0.7]
    assert nms_per_image([7, 7, 3], people, scores, 1e4, [0.05]).tolist() == [0, 2]
    assert nms_per_image([7, 7, 3], people, scores, 1e4, [0.05], method="off").tolist() == [0, 1, 2]


@pytest.mark.parametrize("method", ["greedy", "soft", "off"])
def test_no_person_at_all(method):
    assert nms_per_image([], np.zeros((0, 17, 3)), [], [], COCO.sigmas, method=method).tolist() == []


def test_an_unknown_method_names_the_known_ones():
    with pytest.raises(ValueError, match="greedy, soft, off.*'fast'"):
        nms_per_image([1], [person(0)], [1], 1, [0.05], method="fast")


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match="2 persons"):
        oks_nms([person(0), person(1)], [0.9], 1e4, [0.05])
