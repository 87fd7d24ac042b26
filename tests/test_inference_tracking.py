"""Who is who over frames, boxes that follow, and steadier keypoints."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from spot import BrightestSpot, spot

from pose.geometry import box_iou
from pose.inference.boxes import CocoBoxes
from pose.inference.predictor import Predictor
from pose.inference.video.files import VideoSource
from pose.inference.video.flow import box_shifts, motion_image
from pose.inference.video.smoothing import Smoother
from pose.inference.video.stream import StreamPredictor
from pose.inference.video.tracking import Tracker
from pose.skeleton import COCO

BASKETBALL = Path(__file__).parent / "data" / "basketball_boxes.json"
"""Both players of the reference clip by hand, every tenth frame; `person` is the colour of the shirt."""


class Upright:
    """A stand-in for a network: every crop holds the same upright person."""

    skeleton = COCO
    input_size = heatmap_size = (48, 64)

    def __call__(self, crops):
        points = np.stack([24 + 8 * np.sin(np.arange(17)), np.linspace(8, 56, 17)], axis=-1)
        return np.tile(points.astype(np.float32), (len(crops), 1, 1)), np.ones((len(crops), 17), np.float32)


def test_iou_worked_out_by_hand():
    one, other = np.array([0.0, 0, 10, 10]), np.array([5.0, 0, 10, 10])
    assert box_iou(one, other, 0) == pytest.approx(50 / 150)
    assert box_iou(one, other, 0.5) == pytest.approx(15 * 20 / (2 * 400 - 15 * 20))
    assert box_iou(one, np.array([20.0, 0, 10, 10]), 0) == 0


def persons(*corners):
    boxes = np.array([(x, y, 40, 100, 1) for x, y in corners], float).reshape(-1, 5)
    points = boxes[:, None, :2] + np.linspace((5, 0), (35, 100), 17)
    return boxes, np.concatenate([points, np.ones((len(boxes), 17, 1))], axis=2), np.full(len(boxes), 6000.0)


def test_identities_follow_the_persons_not_their_order():
    tracker = Tracker(COCO.sigmas, max_gap=5)
    assert tracker.match(0, *persons((0, 0), (200, 0))).tolist() == [1, 2]
    assert tracker.match(1, *persons((205, 0), (5, 0), (400, 0))).tolist() == [2, 1, 3]
    assert tracker.match(2, *persons()).tolist() == []


def test_a_person_out_of_view_is_known_again_for_a_while():
    tracker = Tracker(COCO.sigmas, max_gap=5)
    tracker.match(0, *persons((0, 0), (200, 0)))
    tracker.match(1, *persons((0, 0)))
    assert tracker.match(5, *persons((0, 0), (225, 0))).tolist() == [1, 2]
    tracker.match(6, *persons((0, 0)))
    assert tracker.match(11, *persons((0, 0), (225, 0))).tolist() == [1, 3]


def test_poses_decide_where_boxes_cannot():
    """Two persons in the same box, one of them upside down."""
    boxes, points, areas = persons((0, 0), (0, 0))
    points[1] = points[1, ::-1]
    tracker = Tracker(COCO.sigmas, max_gap=5)
    tracker.match(0, boxes, points, areas)
    assert tracker.match(1, boxes, points[::-1], areas).tolist() == [2, 1]


def test_boxes_move_with_what_is_in_them():
    rng = np.random.default_rng(0)
    scene = cv2.GaussianBlur(rng.integers(0, 255, (300, 400, 3), dtype=np.uint8), (0, 0), 2)
    person = cv2.GaussianBlur(rng.integers(0, 255, (100, 40, 3), dtype=np.uint8), (0, 0), 2)
    before, after = scene.copy(), scene.copy()
    before[50:150, 60:100] = person
    after[57:157, 72:112] = person
    boxes = np.array([[60.0, 50, 40, 100], [250, 100, 40, 100], [-500, 0, 40, 100]])
    shifts, followed = box_shifts(motion_image(before)[0], motion_image(after)[0], boxes)
    np.testing.assert_allclose(shifts, [(12, 7), (0, 0), (0, 0)], atol=0.2)
    assert followed.tolist() == [True, True, False]


def players(stream, source):
    """Identities by shirt, and the share of a hand-made box that the box carried to its frame overlaps."""
    boxes = CocoBoxes(BASKETBALL)
    shirts = {}
    for record in json.loads(BASKETBALL.read_text()):
        shirts.setdefault(record["image_id"], []).append(record["person"])
    identities, overlaps, before = {}, [], {}
    for frame, image in enumerate(source):
        poses = stream(frame, image, boxes.of_frame(frame))
        for source_row, track, box in zip(poses.sources, poses.track_ids.tolist(), poses.boxes, strict=True):
            if frame in shirts:
                identities.setdefault(shirts[frame][source_row], set()).add(track)
                if track in before:
                    overlaps.append(float(box_iou(before[track], box, 0)))
        before = dict(zip(poses.track_ids.tolist(), poses.boxes, strict=True))
    return identities, overlaps


@pytest.mark.parametrize("network", [Upright(), BrightestSpot()], ids=["good poses", "poses without meaning"])
def test_players_keep_their_identities_with_boxes_every_tenth_frame(shared_data, network):
    """They cross, and one is hidden behind the other for some twenty frames; the camera pans."""
    source = VideoSource(shared_data / "video" / "basketball.mp4")
    stream = StreamPredictor(Predictor(network, nms="off"), source.fps, detect_every=10)
    identities, overlaps = players(stream, source)
    assert identities == {"white": {1}, "blue": {2}}
    assert len(overlaps) > 50 and np.mean(overlaps) > 0.65  # nine frames after the last given box


def test_boxes_are_asked_for_when_it_is_their_turn_and_their_scores_are_kept():
    asked = []

    def detector(image):
        asked.append(frame)
        return [[50, 10, 60, 60, 0.5]]

    rng = np.random.default_rng(0)
    image = np.maximum(spot(70, 30), rng.integers(0, 90, (90, 120, 3), dtype=np.uint8))
    stream = StreamPredictor(Predictor(BrightestSpot(), detector), fps=25, detect_every=4)
    for frame in range(10):
        poses = stream(frame, image)
        assert poses.track_ids.tolist() == [1] and poses.box_scores.tolist() == [0.5]
    assert asked == [0, 4, 8]


@pytest.mark.parametrize("detect_every", [1, 3])
def test_whom_the_detector_misses_for_a_moment_stays_and_goes_later(detect_every):
    """Somebody is found until frame 6 and not again; after half a second nobody believes in them any more."""
    rng = np.random.default_rng(0)
    image = np.maximum(spot(70, 30), rng.integers(0, 90, (90, 120, 3), dtype=np.uint8))
    detector = lambda image: [[50, 10, 60, 60, 0.5]] if frame <= 6 else []  # noqa: E731
    stream = StreamPredictor(Predictor(BrightestSpot(), detector), fps=10, detect_every=detect_every)
    there = []
    for frame in range(20):
        poses = stream(frame, image)
        there += [frame] * (poses.track_ids.tolist() == [1])
    assert there[:12] == list(range(12)) and len(there) <= 12 + 2 * detect_every


def test_whom_the_detector_misses_and_who_looks_like_nobody_is_gone():
    rng = np.random.default_rng(0)
    dim = rng.integers(0, 40, (90, 120, 3), dtype=np.uint8)  # the best score is below those that are drawn
    found = iter([[[50, 10, 60, 60, 0.5]]] * 4 + [[]] * 2)
    stream = StreamPredictor(Predictor(BrightestSpot(), lambda image: next(found)), fps=10)
    assert [len(stream(frame, dim)) for frame in range(6)] == [1, 1, 1, 1, 0, 0]


def test_frames_without_boxes_have_no_persons_when_every_frame_is_detected():
    stream = StreamPredictor(Predictor(BrightestSpot()), fps=25)
    assert len(stream(0, spot(70, 30), np.array([[50, 10, 60, 60, 1.0]]))) == 1
    assert len(stream(1, spot(70, 30), np.zeros((0, 5)))) == 0


def filtered(strength, points, fps=30, size=200.0):
    smoother = Smoother(strength, fps)
    scores = np.full((17, 1), 0.7)
    steps = [
        smoother(frame, np.array([1]), np.concatenate([xy, scores], axis=1)[None], np.array([size**2]))[0]
        for frame, xy in enumerate(points)
    ]
    assert all((step[:, 2] == 0.7).all() for step in steps)
    return np.array(steps)[..., :2]


@pytest.mark.parametrize("strength", ["light", "strong"])
def test_smoothing_halves_the_jitter_of_a_standing_person(strength):
    """Noise of 1 % of the person's size, 30 frames a second."""
    points = 300 + np.random.default_rng(0).normal(0, 2, (300, 17, 2))
    smooth = filtered(strength, points)[30:]
    assert smooth.std(axis=0).mean() < 0.5 * points.std(axis=0).mean()
    assert np.abs(np.diff(smooth, axis=0)).mean() < 0.3 * np.abs(np.diff(points, axis=0)).mean()


@pytest.mark.parametrize("strength", ["light", "strong"])
@pytest.mark.parametrize("hertz", [0.5, 1, 2])
def test_a_moving_hand_lags_at_most_two_frames(strength, hertz):
    """A hand swinging by 30 % of the person's size to each side, with the same noise."""
    time = np.arange(300) / 30
    hand = 60 * np.sin(2 * np.pi * hertz * time)
    points = np.random.default_rng(0).normal(0, 2, (300, 17, 2)) + 300
    points[..., 0] += hand[:, None]
    smooth = filtered(strength, points)[..., 0].mean(axis=1) - 300
    lags = np.arange(0, 10, 0.1)
    errors = [np.square(np.interp(time - lag / 30, time, hand) - smooth)[30:].mean() for lag in lags]
    assert lags[np.argmin(errors)] <= 2
    assert np.sqrt(min(errors)) < 12


def test_smoothing_off_changes_nothing_and_a_gap_starts_anew():
    points = np.random.default_rng(0).normal(300, 2, (10, 17, 2))
    assert (filtered("off", points) == points).all()
    smoother = Smoother("strong", 30)
    one = np.ones((1, 17, 3))
    smoother(0, np.array([1]), one, np.array([100.0]))
    assert (smoother(1, np.array([1]), 2 * one, np.array([100.0])) != 2 * one).any()
    assert (smoother(1, np.array([2]), 2 * one, np.array([100.0])) == 2 * one).all()
    assert (smoother(60, np.array([1]), 5 * one, np.array([100.0])) == 5 * one).all()
