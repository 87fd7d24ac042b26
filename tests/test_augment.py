"""Augmentation: each step against numbers worked out by hand, and the order of the steps."""

import numpy as np
import pytest

from pose.datasets.augment import Augmentation, Crop, augment, half_body, random_rotation, random_scale
from pose.geometry import boxes_to_centers_scales
from pose.skeleton import COCO

ASPECT = 0.75
UPPER = np.isin(np.arange(17), COCO.upper_body)


class Scripted:
    """Stands in for a random generator: hands out the numbers it was given, in order."""

    def __init__(self, *numbers):
        self.numbers = list(numbers)

    def _next(self):
        return self.numbers.pop(0)

    random = standard_normal = _next

    def uniform(self, low, high):
        return low + (high - low) * self._next()


POINTS = np.array([(10, 10), (20, 10), (30, 40), (15, 100), (25, 100), (50, 148)], dtype=np.float32)
IS_UPPER = np.array([True, True, True, False, False, False])


def test_the_upper_half_is_the_joints_mean_and_their_padded_extent_times_one_and_a_half():
    center, scale = half_body(POINTS, IS_UPPER, ASPECT, 0.7, Scripted(0.69))
    np.testing.assert_allclose(center, (20, 20))
    np.testing.assert_allclose(scale, (1.5 * 22.5, 1.5 * 30))  # extent 20 x 30: the width grows to 30 x 0.75


def test_the_lower_half_is_taken_at_or_above_the_probability():
    center, scale = half_body(POINTS, IS_UPPER, ASPECT, 0.7, Scripted(0.7))
    np.testing.assert_allclose(center, (30, 116))
    np.testing.assert_allclose(scale, (1.5 * 36, 1.5 * 48))  # extent 35 x 48: the width grows to 48 x 0.75


@pytest.mark.parametrize("preferred", [0.0, 0.99])
def test_a_half_with_two_joints_gives_way_to_the_other(preferred):
    upper = np.array([True, True, False, False, False, False])
    center, _ = half_body(POINTS, upper, ASPECT, 0.5, Scripted(preferred))
    np.testing.assert_allclose(center, (30, 97))


def test_a_half_body_without_extent_is_none():
    assert half_body(np.full((6, 2), 7.0), IS_UPPER, ASPECT, 0.5, Scripted(0.0)) is None
    assert half_body(POINTS[:1], IS_UPPER[:1], ASPECT, 0.5, Scripted(0.0)) is None


@pytest.mark.parametrize(("normal", "factor"), [(0.0, 1.0), (0.4, 1.14), (2.0, 1.35), (-3.0, 0.65)])
def test_the_scale_is_a_clipped_normal_around_one(normal, factor):
    assert random_scale(0.35, Scripted(normal)) == pytest.approx(factor)


@pytest.mark.parametrize(
    ("distribution", "numbers", "degrees"),
    [
        ("hrnet", (0.6,), 0.0),
        ("hrnet", (0.59, 0.5), 22.5),
        ("hrnet", (0.59, 3.0), 90.0),
        ("hrnet", (0.59, -2.5), -90.0),
        ("uniform", (0.6,), 0.0),
        ("uniform", (0.59, 0.0), -45.0),
        ("uniform", (0.59, 0.75), 22.5),
    ],
)
def test_the_rotation_has_its_chance_and_its_range(distribution, numbers, degrees):
    assert random_rotation(0.6, 45, distribution, Scripted(*numbers)) == pytest.approx(degrees)


def standing():
    """(17, 3) labelled keypoints: the upper body spans 20 x 30 pixels around (60, 40), the lower lies below."""
    keypoints = np.zeros((17, 3), dtype=np.float32)
    keypoints[:11, :2] = (60, 40)
    keypoints[0, :2], keypoints[1, :2] = (50, 25), (70, 55)
    keypoints[11:, :2] = [(50, 80), (70, 80), (50, 110), (70, 110), (50, 140), (70, 140)]
    keypoints[:, 2] = 2
    return keypoints


PLAIN = Crop(*boxes_to_centers_scales((40, 20, 60, 130), ASPECT))


def test_the_steps_come_in_the_protocols_order():
    drawn = Scripted(0.29, 0.5, 0.4, 0.1, -0.5, 0.49)  # half body, upper, scale, rotate, degrees, flip
    crop = augment(PLAIN, standing(), UPPER, ASPECT, Augmentation(), drawn)
    np.testing.assert_allclose(crop.center, (60, 40))
    np.testing.assert_allclose(crop.scale, (22.5 * 1.5 * 1.14, 30 * 1.5 * 1.14))
    assert crop.rotation == pytest.approx(-22.5)
    assert crop.flip
    assert drawn.numbers == []


def test_without_any_chance_the_crop_is_the_padded_box():
    drawn = Scripted(0.3, 0.0, 0.6, 0.5)  # no half body, scale 1, no rotation, no flip
    crop = augment(PLAIN, standing(), UPPER, ASPECT, Augmentation(), drawn)
    np.testing.assert_allclose(crop.center, (70, 85))
    np.testing.assert_allclose(crop.scale, (130 * 0.75 * 1.25, 130 * 1.25))
    assert (crop.rotation, crop.flip) == (0.0, False)


def test_eight_labeled_joints_are_too_few_for_a_half_body():
    keypoints = standing()
    keypoints[8:, 2] = 0
    crop = augment(PLAIN, keypoints, UPPER, ASPECT, Augmentation(), Scripted(0.0, 0.6, 0.5))  # scale, rotation, flip
    np.testing.assert_allclose(crop.center, (70, 85))
    keypoints[8, 2] = 1
    crop = augment(PLAIN, keypoints, UPPER, ASPECT, Augmentation(), Scripted(0.0, 0.0, 0.0, 0.6, 0.5))
    assert crop.center[1] < 60


def test_a_skeleton_without_an_upper_body_has_no_half_body():
    crop = augment(PLAIN, standing(), np.zeros(17, bool), ASPECT, Augmentation(), Scripted(0.0, 0.6, 0.5))
    np.testing.assert_allclose(crop.center, (70, 85))


def test_the_defaults_are_the_protocols_frequencies():
    rng = np.random.default_rng(0)
    crops = [augment(PLAIN, standing(), UPPER, ASPECT, Augmentation(), rng) for _ in range(20000)]
    half = np.array([crop.center[0] == 60 for crop in crops])
    upper = np.array([crop.center[1] < 60 for crop in crops])
    degrees = np.array([crop.rotation for crop in crops])
    assert half.mean() == pytest.approx(0.3, abs=0.01)
    assert upper[half].mean() == pytest.approx(0.691, abs=0.02)
    assert (degrees != 0).mean() == pytest.approx(0.6, abs=0.012)
    assert (abs(degrees) == 90).mean() == pytest.approx(0.6 * 0.0455, abs=0.005)  # beyond two standard deviations
    assert np.std(degrees[(degrees != 0) & (abs(degrees) < 90)]) == pytest.approx(45 * 0.880, rel=0.03)
    assert np.mean([crop.flip for crop in crops]) == pytest.approx(0.5, abs=0.012)


@pytest.mark.parametrize(
    "wrong",
    [
        {"flip_probability": 1.1},
        {"half_body_probability": -0.1},
        {"scale_std": 1.0},
        {"rotation_distribution": "normal"},
    ],
)
def test_values_that_cannot_be_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Augmentation(**wrong)
