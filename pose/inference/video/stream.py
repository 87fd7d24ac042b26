"""Poses of a video, frame by frame: detection now and then, boxes that follow, identities, smoothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pose.inference.predictor import Predictor
from pose.inference.video.flow import box_shifts, motion_image
from pose.inference.video.smoothing import Smoother
from pose.inference.video.tracking import Tracker
from pose.poses import Poses

LONGEST_GAP = 1.0
"""Seconds that a person may be out of view and keep the identity."""


class StreamPredictor:
    """Finds and follows the persons of one video.

    Args:
        predictor: From a frame and boxes to poses.
        fps: Frames a second.
        detect_every: Frames from one detection to the next; boxes follow their persons between.
        smoothing: ``off``, ``light`` or ``strong``.
    """

    def __init__(self, predictor: Predictor, fps: float, detect_every: int = 1, smoothing: str = "off") -> None:
        self.predictor = predictor
        self.detect_every = detect_every
        self.tracker = Tracker(predictor.network.skeleton.sigmas, max(round(LONGEST_GAP * fps), 1) + detect_every)
        self.smoother = Smoother(smoothing, fps)
        self._before: np.ndarray | None = None
        self._last_frame = self._last_detection = -1

    def __call__(self, frame: int, image: np.ndarray, boxes: np.ndarray | None = None) -> Poses:
        """Poses with ``track_ids``.

        Args:
            frame: Its number, rising from call to call.
            image: (H, W, 3) uint8 BGR.
            boxes: (N, 5) of this frame; none at all is a frame without detection unless every frame or
                this one has its turn. None asks the predictor's detector when it is its turn.

        Raises:
            DataError: A box lies outside the picture.
        """
        with self.predictor.clock("track"):
            followed = self._follow(image)
        due = self._last_detection < 0 or frame - self._last_detection >= self.detect_every
        if due or (boxes is not None and len(boxes)):
            poses = self.predictor(image, boxes)
            ids = self.tracker.match(frame, _scored_boxes(poses), poses.keypoints, poses.areas)
            self._last_detection = frame
        else:
            carried = self.tracker.tracks.take(followed & (self.tracker.tracks.seen == self._last_frame))
            poses = self.predictor(image, carried.boxes)
            ids = carried.ids[poses.sources]
            self.tracker.update(frame, ids, _scored_boxes(poses), poses.keypoints, poses.areas)
        self._last_frame = frame
        keypoints = self.smoother(frame, ids, poses.keypoints, poses.areas)
        return replace(poses, keypoints=keypoints, track_ids=ids)

    def _follow(self, image: np.ndarray) -> np.ndarray:
        """Moves the tracks to this frame: (M,) bool, where that went well and the box is still in the picture.

        What cannot be followed, and who is out of view, goes with the whole picture: the camera's motion.
        """
        now, factor = motion_image(image)
        before, self._before = self._before, now
        tracks = self.tracker.tracks
        if before is None or not len(tracks):
            return np.zeros(len(tracks), bool)
        size = np.array(now.shape[::-1])
        places = np.concatenate([tracks.boxes[:, :4] * factor, [[0, 0, *size]]])
        shifts, good = box_shifts(before, now, places)
        good = good[:-1] & (tracks.seen == self._last_frame)
        self.tracker.move(np.where(good[:, None], shifts[:-1], shifts[-1:]) / factor)
        boxes = self.tracker.tracks.boxes[:, :4] * factor
        return good & (boxes[:, :2] < size).all(axis=1) & (boxes[:, :2] + boxes[:, 2:] > 0).all(axis=1)


def _scored_boxes(poses: Poses) -> np.ndarray:
    """(N, 5)"""
    return np.concatenate([poses.boxes, poses.box_scores[:, None]], axis=1)
