"""Boxes, crops and their affines against numbers worked out by hand from docs/protocol.md#warp."""

import cv2
import numpy as np
import pytest

from pose import geometry


def test_annotated_box_is_clipped_and_one_pixel_narrower() -> None:
    boxes = [[-3, 10, 20, 30], [90, 40, 20, 20], [5, 5, 10, 10]]
    expected = [[0, 10, 19, 29], [90, 40, 9, 9], [5, 5, 9, 9]]
    np.testing.assert_allclose(geometry.clip_boxes(boxes, (100, 50)), expected)


def test_box_outside_the_picture_has_no_size_left() -> None:
    assert (geometry.clip_boxes([[120, 10, 20, 20]], (100, 50))[:, 2:] < 0).any()


def test_short_side_is_padded_to_the_aspect_ratio_then_enlarged() -> None:
    centers, scales = geometry.boxes_to_centers_scales([[10, 20, 30, 80], [0, 0, 90, 60]], 192 / 256)
    np.testing.assert_allclose(centers, [[25, 60], [45, 30]])
    np.testing.assert_allclose(scales, [[75, 100], [112.5, 150]])  # 80 x .75 = 60 wide; 90 / .75 = 120 high; x 1.25


def test_crop_affine_is_the_three_point_construction() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        center, scale = rng.uniform(20, 200, 2), rng.uniform(30, 300, 2)
        rotation, size = rng.uniform(-90, 90), (192, 256)
        turn = np.deg2rad(rotation)
        toward = np.array([np.sin(turn), -np.cos(turn)]) * scale[0] / 2  # (0, -width / 2) turned

        def third(first, second):
            direction = first - second
            return second + np.array([-direction[1], direction[0]])

        source = np.array([center, center + toward])
        target = np.array([[96, 128], [96, 32]], dtype=float)
        source = np.vstack([source, third(source[0], source[1])]).astype(np.float32)
        target = np.vstack([target, third(target[0], target[1])]).astype(np.float32)
        expected = cv2.getAffineTransform(source, target)
        np.testing.assert_allclose(geometry.crop_affine(center, scale, size, rotation), expected, atol=1e-3)


def test_crop_center_goes_to_the_middle_and_its_corner_to_the_origin() -> None:
    affine = geometry.crop_affine((100, 60), (96, 128), (192, 256))
    points = geometry.apply_affine([[100, 60], [52, -4], [53, 60]], affine)
    np.testing.assert_allclose(points, [[96, 128], [0, 0], [2, 128]])


def test_flip_mirrors_about_the_crop_center_before_the_rotation() -> None:
    plain = geometry.crop_affine((100, 60), (96, 128), (192, 256), 0)
    mirrored = geometry.crop_affine((100, 60), (96, 128), (192, 256), 0, True)
    point = [[110.0, 70.0]]
    np.testing.assert_allclose(geometry.apply_affine(point, plain), [[116, 148]])
    np.testing.assert_allclose(geometry.apply_affine(point, mirrored), [[76, 148]])
    turned = geometry.crop_affine((100, 60), (96, 128), (192, 256), 90, True)
    # mirrored offset (-10, 10), turned by -90 degrees: (10, 10), twice as large
    np.testing.assert_allclose(geometry.apply_affine(point, turned), [[116, 148]])


def test_flipped_crop_equals_the_mirrored_crop_of_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 255, (80, 60, 3), np.uint8)
    crop = cv2.warpAffine(image, geometry.crop_affine((30, 40), (48, 64), (48, 64)), (48, 64))
    flip = cv2.warpAffine(image, geometry.crop_affine((30, 40), (48, 64), (48, 64), 0, True), (48, 64))
    np.testing.assert_array_equal(flip[:, 1:], crop[:, :0:-1])  # x goes to 48 - x: column 0 has no partner


def test_affines_are_batched_and_invert() -> None:
    rng = np.random.default_rng(1)
    affine = geometry.crop_affine(
        rng.uniform(0, 100, (5, 2)),
        rng.uniform(50, 90, (5, 2)),
        (96, 128),
        rng.uniform(-45, 45, 5),
        rng.random(5) < 0.5,
    )
    points = rng.uniform(0, 100, (5, 17, 2))
    back = geometry.apply_affine(geometry.apply_affine(points, affine), geometry.invert_affine(affine))
    assert affine.shape == (5, 2, 3)
    np.testing.assert_allclose(back, points, atol=1e-9)


def test_heatmap_index_sits_at_four_times_its_input_pixel() -> None:
    center, scale = (70.0, 90.0), (120.0, 160.0)
    heatmap_points = np.array([[0.0, 0.0], [10.0, 20.0]])
    image_points = geometry.heatmap_to_image(heatmap_points, center, scale, (48, 64))
    input_points = geometry.apply_affine(image_points, geometry.crop_affine(center, scale, (192, 256)))
    np.testing.assert_allclose(input_points, 4 * heatmap_points, atol=1e-9)


@pytest.mark.parametrize("scale", [(0, 10), (np.nan, 10), (-3, 10)])
def test_a_crop_without_size_is_refused(scale: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="scale"):
        geometry.crop_affine((0, 0), scale, (192, 256))
