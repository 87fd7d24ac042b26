"""Drawn skeletons: where ink is, what colour it has, how thick it is."""

import numpy as np
import pytest

from pose.skeleton import COCO, Skeleton
from pose.visualization import SIDE_COLORS, draw_skeletons, limb_side, line_width, track_color

ARM = Skeleton("arm", ("left_elbow", "left_wrist", "right_wrist"), limbs=((0, 1), (1, 2)))


def canvas(width=200, height=200):
    return np.full((height, width, 3), 128, np.uint8)


def draw(keypoints, box, image=None, skeleton=ARM, **options):
    image = canvas() if image is None else image
    return draw_skeletons(image, np.array([keypoints], float), np.array([box], float), skeleton, **options)


def test_a_limb_is_a_line_of_its_side_s_color_between_its_joints():
    drawn = draw([(20, 100, 1), (180, 100, 1), (0, 0, 0)], (0, 0, 200, 200))
    assert drawn[100, 100].tolist() == list(SIDE_COLORS["left"])
    assert drawn[60, 100].tolist() == [128, 128, 128]
    assert drawn[100, 20].tolist() == list(SIDE_COLORS["left"])


def test_sides_of_limbs():
    sides = {COCO.keypoints[a] + "-" + COCO.keypoints[b]: limb_side(COCO, a, b) for a, b in COCO.limbs}
    assert sides["left_shoulder-left_elbow"] == "left"
    assert sides["nose-right_eye"] == "right"
    assert sides["left_hip-right_hip"] == "center"


def test_joints_below_the_threshold_take_their_limbs_with_them():
    points = [(20, 100, 0.9), (180, 100, 0.1), (100, 20, 0.9)]
    drawn = draw(points, (0, 0, 200, 200), threshold=0.2)
    assert (drawn[100, 100] == 128).all() and (drawn[100, 180] == 128).all()
    assert (drawn[100, 20] != 128).any() and (drawn[20, 100] != 128).any()


def test_lines_are_as_thick_as_the_person_is_large():
    def ink(size, scale):
        image = canvas(size, size)
        return (draw(np.array([(20, 100, 1), (180, 100, 1), (0, 0, 0)]) * (scale, scale, 1),
                     (0, 0, 200 * scale, 200 * scale), image)[:, size // 2] != 128).any(axis=-1).sum()  # fmt: skip

    assert ink(2000, 10) == pytest.approx(2 * ink(1000, 5), rel=0.1)
    assert 1 <= ink(40, 0.2) <= 4
    assert line_width(np.array([0, 0, 1, 1])) == 1


def test_edges_are_anti_aliased():
    drawn = draw([(20, 30, 1), (180, 150, 1), (0, 0, 0)], (0, 0, 200, 200))
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 10


def test_the_picture_handed_in_stays_and_no_person_draws_nothing():
    image = canvas()
    draw([(20, 100, 1), (180, 100, 1), (0, 0, 0)], (0, 0, 200, 200), image)
    assert (image == 128).all()
    assert (draw_skeletons(image, np.zeros((0, 3, 3)), np.zeros((0, 4)), ARM) == image).all()


@pytest.mark.parametrize("far", [1e12, -1e12, np.nan, np.inf])
def test_joints_far_outside_or_not_numbers_do_no_harm(far):
    drawn = draw([(100, 100, 1), (far, 100, 1), (0, 0, 0)], (0, 0, 200, 200))
    assert (drawn[100, 100] != 128).any()


def test_a_one_pixel_picture_can_be_drawn_on():
    assert draw([(0, 0, 1), (5, 5, 1), (0, 0, 0)], (0, 0, 1, 1), canvas(1, 1)).shape == (1, 1, 3)


def test_identities_have_a_box_and_a_tag_in_a_color_of_their_own():
    points = np.zeros((2, 3, 3))
    boxes = np.array([[20.0, 50, 60, 100], [110, 0, 60, 100]])
    drawn = draw_skeletons(canvas(), points, boxes, ARM, track_ids=np.array([1, 2]))
    for box, track in zip(boxes.astype(int).tolist(), (1, 2), strict=True):
        assert drawn[box[1] + box[3], box[0] + 30].tolist() == list(track_color(track))
    assert track_color(1) != track_color(2)
    assert (drawn[:8, 115:125] == track_color(2)).all(axis=-1).any()  # no room above: the tag is inside
    assert (draw_skeletons(canvas(), points, boxes, ARM) == 128).all()
