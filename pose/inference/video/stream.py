"""Poses of a video, frame by frame: detection now and then, boxes that follow, identities, smoothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pose.geometry import box_iou
from pose.inference.boxes import as_boxes
from pose.inference.predictor import Predictor
from pose.inference.video.flow import box_shifts, motion_image
from pose.inference.video.smoothing import Smoother
from pose.inference.video.tracking import Tracker, Tracks
from pose.poses import Poses
from pose.visualization import DRAWN_SCORE

LONGEST_GAP = 1.0
"""Seconds that a person may be out of view and keep the identity."""

LONGEST_DOUBT = 0.5
"""Seconds that a person who is followed stays though the detector finds nobody there."""

_SAME_PERSON = 0.3  # overlap (IoU) of a detector's box and a followed one from which on they are one person's


class StreamPredictor:
    """Finds and follows the persons of one video.

    Args:
        predictor: Finds the poses of a frame and its boxes.
        fps: Frames a second.
        detect_every: Frames from one detection to the next; boxes follow their persons between.
        smoothing: ``off``, ``light`` or ``strong``.
    """

    def __init__(self, predictor: Predictor, fps: float, detect_every: int = 1, smoothing: str = "off") -> None:
        self.predictor = predictor
        self.detect_every = detect_every
        self.longest_doubt = round(LONGEST_DOUBT * fps) + detect_every
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
        with self.predictor.profiler("track"):
            followed = self._follow(image)
        due = self._last_detection < 0 or frame - self._last_detection >= self.detect_every
        carried = self.tracker.tracks.take(followed & (self.tracker.tracks.seen == self._last_frame))
        if due or (boxes is not None and len(boxes)):
            found = self.predictor.detect(image) if boxes is None else as_boxes(boxes)
            carried = carried.take(self._missed(frame, carried, found) & (boxes is None))
            poses = self.predictor(image, np.concatenate([found, carried.boxes]))
            poses = poses[(poses.sources < len(found)) | _is_somebody(poses)]
            confirmed = np.concatenate([np.full(len(found), frame), carried.confirmed])[poses.sources]
            ids = self.tracker.match(frame, _scored_boxes(poses), poses.keypoints, poses.areas, confirmed)
            self._last_detection = frame
        else:
            poses = self.predictor(image, carried.boxes)
            ids, confirmed = carried.ids[poses.sources], carried.confirmed[poses.sources]
            self.tracker.update(frame, ids, _scored_boxes(poses), poses.keypoints, poses.areas, confirmed)
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
        shifts, good = box_shifts(before, now, tracks.boxes[:, :4] * factor)
        good &= tracks.seen == self._last_frame
        if not good.all():
            camera, _ = box_shifts(before, now, np.array([[0.0, 0.0, *size]]))
            shifts = np.where(good[:, None], shifts, camera)
        self.tracker.move(shifts / factor)
        boxes = self.tracker.tracks.boxes[:, :4] * factor
        return good & (boxes[:, :2] < size).all(axis=1) & (boxes[:, :2] + boxes[:, 2:] > 0).all(axis=1)

    def _missed(self, frame: int, tracks: Tracks, found: np.ndarray) -> np.ndarray:
        """(M,) bool: whom a detector found lately, and does not find now."""
        overlap = box_iou(tracks.boxes[:, None, :4], found[None, :, :4])
        alone = (overlap < _SAME_PERSON).all(axis=1)
        return alone & (frame - tracks.confirmed <= self.longest_doubt)


def _is_somebody(poses: Poses) -> np.ndarray:
    """(N,) bool: half of the joints are as sure as those that are drawn."""
    threshold = DRAWN_SCORE if poses.threshold is None else poses.threshold
    return (poses.keypoints[..., 2] >= threshold).mean(axis=1) >= 0.5


def _scored_boxes(poses: Poses) -> np.ndarray:
    """The boxes and scores of poses, (N, 5)."""
    return np.concatenate([poses.boxes, poses.box_scores[:, None]], axis=1)
