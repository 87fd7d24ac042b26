"""Tracking: over the frames of a video, persons whose boxes overlap and whose poses are alike keep their number."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from pose.evaluation.oks import oks
from pose.geometry import box_iou

LEAST_SIMILARITY = 0.15
"""Below it a person is a new one: similarity is the mean of box overlap (IoU) and OKS."""

_BUFFER, _BUFFER_GROWTH, _BUFFER_MOST = (
    0.1,
    0.03,
    0.6,
)  # by how much of its size a box grows, at once and per frame lost


@dataclass
class Tracks:
    """M persons that are or were in view.

    Attributes:
        ids: (M,) int64, counted from 1, never given twice.
        boxes: (M, 5) float64 x, y, width, height in pixels, where they are now or are thought to be,
            and the detector's last score.
        keypoints: (M, K, 3) float64 x, y in pixels and joint scores, likewise.
        areas: (M,) float64 pixels^2, the scale of OKS.
        seen: (M,) int64, the last frame they were seen in.
        confirmed: (M,) int64, the last frame a detector found them in.
    """

    ids: np.ndarray
    boxes: np.ndarray
    keypoints: np.ndarray
    areas: np.ndarray
    seen: np.ndarray
    confirmed: np.ndarray

    def take(self, rows: np.ndarray) -> Tracks:
        """The tracks of these indices, or where a mask is true."""
        return Tracks(*(getattr(self, each.name)[rows] for each in fields(self)))

    def __len__(self) -> int:
        return len(self.ids)


class Tracker:
    """Keeps the identities of persons.

    Args:
        sigmas: (K,) of OKS.
        max_gap: Frames that a person may be out of view and keep the number.
    """

    def __init__(self, sigmas: tuple[float, ...], max_gap: int) -> None:
        count = len(sigmas)
        self.sigmas = sigmas
        self.max_gap = max_gap
        self.tracks = Tracks(
            np.zeros(0, np.int64),
            np.zeros((0, 5)),
            np.zeros((0, count, 3)),
            np.zeros(0),
            np.zeros(0, np.int64),
            np.zeros(0, np.int64),
        )
        self._next = 1

    def move(self, shifts: np.ndarray) -> None:
        """Moves the tracks' boxes and keypoints by (M, 2) pixels, to where they are in the next frame."""
        tracks = self.tracks
        tracks.boxes = np.concatenate([tracks.boxes[:, :2] + shifts, tracks.boxes[:, 2:]], axis=1)
        points = tracks.keypoints[..., :2] + shifts[:, None]
        tracks.keypoints = np.concatenate([points, tracks.keypoints[..., 2:]], axis=2)

    def match(
        self,
        frame: int,
        boxes: np.ndarray,
        keypoints: np.ndarray,
        areas: np.ndarray,
        confirmed: np.ndarray | None = None,
    ) -> np.ndarray:
        """Identities of detected persons; those like no track get new ones.

        Args:
            frame: The frame's number.
            boxes: (N, 5) x, y, width, height in pixels and score.
            keypoints: (N, K, 3).
            areas: (N,) pixels^2.
            confirmed: (N,) int64, the last frame a detector found them in; None is this one for all.

        Returns:
            (N,) int64 ids, all different.
        """
        self.tracks = self.tracks.take(frame - self.tracks.seen <= self.max_gap)
        similarity = self.similarity(frame, boxes, keypoints, areas)
        ids = np.zeros(len(boxes), np.int64)
        while similarity.size and similarity.max() >= LEAST_SIMILARITY:
            row, column = np.unravel_index(similarity.argmax(), similarity.shape)
            ids[row] = self.tracks.ids[column]
            similarity[row], similarity[:, column] = -1, -1
        new = ids == 0
        ids[new] = np.arange(self._next, self._next + new.sum())
        self._next += int(new.sum())
        confirmed = np.full(len(ids), frame) if confirmed is None else confirmed
        self.update(frame, ids, boxes, keypoints, areas, confirmed)
        return ids

    def update(
        self,
        frame: int,
        ids: np.ndarray,
        boxes: np.ndarray,
        keypoints: np.ndarray,
        areas: np.ndarray,
        confirmed: np.ndarray,
    ) -> None:
        """Notes where the persons of known ids (N,) are; arguments as in :meth:`match`."""
        rest = self.tracks.take(~np.isin(self.tracks.ids, ids))
        self.tracks = Tracks(
            np.concatenate([ids, rest.ids]),
            np.concatenate([boxes, rest.boxes]),
            np.concatenate([keypoints, rest.keypoints]),
            np.concatenate([areas, rest.areas]),
            np.concatenate([np.full(len(ids), frame), rest.seen]),
            np.concatenate([confirmed, rest.confirmed]),
        )

    def similarity(self, frame: int, boxes: np.ndarray, keypoints: np.ndarray, areas: np.ndarray) -> np.ndarray:
        """(N, M) in [0, 1] of N persons with M tracks: the mean of OKS and of the IoU of boxes grown a little.

        The boxes of a person out of view grow with every frame, since nobody knows where the person went.
        """
        tracks = self.tracks
        gap = np.maximum(frame - tracks.seen - 1, 0)
        buffer = np.minimum(_BUFFER + _BUFFER_GROWTH * gap, _BUFFER_MOST)[None, :]
        overlap = box_iou(boxes[:, None, :4], tracks.boxes[None, :, :4], buffer)
        return (overlap + oks(keypoints, tracks.keypoints, areas, tracks.areas, self.sigmas)) / 2
