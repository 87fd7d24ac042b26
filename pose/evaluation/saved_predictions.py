"""A network's answers decoded every way, so that any test protocol can be scored later without the network.

A file holds, for every person, the coordinates that each decoder finds in the plain heatmaps and in
those averaged with the mirrored input's at each shift, as float32: the figures are exactly those of
the network. 17 keypoints take 2,504 bytes a person, 261 MB for val2017's 104,125 detections.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pose import heatmap
from pose.errors import DataError
from pose.evaluation.protocol import CHOICES, TestProtocol
from pose.evaluation.results import Predictions
from pose.files import DAMAGED, replacing
from pose.geometry import boxes_to_centers_scales, heatmap_to_image
from pose.heatmap import DECODERS
from pose.skeleton import Skeleton

FORMAT = "pose predictions 1"
WAYS: tuple[int | None, ...] = (None, *map(int, CHOICES["flip_shift"]))
"""The second axis of the arrays: without flip (None), then with flip at each shift."""

_ARRAYS = ("image_ids", "boxes", "box_scores", "annotation_ids", "points", "joint_scores")


def decode_every_way(
    heatmaps: heatmap.Array, mirrored: heatmap.Array, flip_index: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What each flip and each decoder make of the same heatmaps.

    Args:
        heatmaps: (N, K, H, W), NumPy or torch.
        mirrored: (N, K, H, W) of the mirrored input.
        flip_index: (K,) what each keypoint becomes in a mirror.

    Returns:
        points (N, :data:`WAYS`, :data:`~pose.heatmap.DECODERS`, K, 2) in heatmap pixels and joint scores
        (N, :data:`WAYS`, K), float32.
    """
    batch, joints = heatmaps.shape[:2]
    points = np.empty((batch, len(WAYS), len(DECODERS), joints, 2), np.float32)
    scores = np.empty((batch, len(WAYS), joints), np.float32)
    for way, shift in enumerate(WAYS):
        maps = heatmaps if shift is None else heatmap.average_flip(heatmaps, mirrored, flip_index, shift)
        for method, name in enumerate(DECODERS):
            coordinates, peaks = heatmap.decode(maps, name)
            points[:, way, method] = coordinates if isinstance(coordinates, np.ndarray) else coordinates.cpu()
        scores[:, way] = peaks if isinstance(peaks, np.ndarray) else peaks.cpu()
    return points, scores


@dataclass(frozen=True)
class SavedPredictions:
    """N persons, decoded every way.

    Args:
        protocol: How the test was run that they come from.
        skeleton: What the K keypoints are.
        heatmap_size: Width and height.
        annotations, images: Where the annotation file and the folder of pictures were.
        image_ids: (N,) int64.
        boxes: (N, 4) float64 x, y, width, height in pixels.
        box_scores: (N,) float64.
        annotation_ids: (N,) int64; -1 for detections.
        points, joint_scores: As :func:`decode_every_way` gives them; points of an older file may lack the last
            decoders, which did not exist then.
    """

    protocol: TestProtocol
    skeleton: Skeleton
    heatmap_size: tuple[int, int]
    annotations: str
    images: str
    image_ids: np.ndarray
    boxes: np.ndarray
    box_scores: np.ndarray
    annotation_ids: np.ndarray
    points: np.ndarray
    joint_scores: np.ndarray

    def __len__(self) -> int:
        return len(self.image_ids)

    def check(self) -> None:
        """Raises ValueError where an array has another shape or kind than it should, or holds NaN or infinity."""
        count, joints = self.image_ids.shape[:1], self.skeleton.num_keypoints
        decoders = min(max(self.decoders, 1), len(DECODERS))
        wanted: dict[str, tuple[tuple[int, ...], type]] = {
            "image_ids": (count, np.integer),
            "boxes": ((*count, 4), np.floating),
            "box_scores": (count, np.floating),
            "annotation_ids": (count, np.integer),
            "points": ((*count, len(WAYS), decoders, joints, 2), np.floating),
            "joint_scores": ((*count, len(WAYS), joints), np.floating),
        }
        for name, (shape, kind) in wanted.items():
            array = getattr(self, name)
            if array.shape != shape or not np.issubdtype(array.dtype, kind):
                raise ValueError(f"{name} is {array.dtype} {array.shape}, wanted {kind.__name__} {shape}")
            if not np.isfinite(array).all():
                row = int(np.argwhere(~np.isfinite(array))[0, 0])
                raise ValueError(f"{name} of person {row} holds NaN or infinity")
        if not (self.boxes[:, 2:] > 0).all():
            raise ValueError("a box has no size")
        sizes = self.heatmap_size
        if len(sizes) != 2 or not all(isinstance(size, int) and size > 0 for size in sizes):
            raise ValueError(f"heatmap_size must be a width and a height, got {sizes}")
        if not isinstance(self.annotations, str) or not isinstance(self.images, str):
            raise ValueError("annotations and images must be paths")

    @property
    def decoders(self) -> int:
        """How many of :data:`~pose.heatmap.DECODERS`, from the first on, made the points."""
        return self.points.shape[2] if self.points.ndim > 2 else 0

    def bytes_per_person(self) -> int:
        """What a person takes in the file."""
        return sum(getattr(self, name)[:1].nbytes for name in _ARRAYS)

    def varied(self, **changes: Any) -> TestProtocol:
        """The test's protocol with other choices.

        Raises:
            DataError: A choice does not exist, or boxes below the saved threshold are asked for.
        """
        try:
            protocol = replace(self.protocol, **changes)
        except ValueError as error:
            raise DataError(str(error)) from error
        if DECODERS.index(protocol.decode) >= self.decoders:
            raise DataError(f"decoder {protocol.decode!r} did not exist when these were saved; run the test again")
        if protocol.box_threshold < self.protocol.box_threshold:
            raise DataError(
                f"boxes scoring below {self.protocol.box_threshold:g} were not saved; "
                f"a box threshold of {protocol.box_threshold:g} needs another run of the test"
            )
        return replace(protocol, boxes_count=int((self.box_scores >= protocol.box_threshold).sum()))

    def predictions(self, protocol: TestProtocol) -> Predictions:
        """What the network would have said under another protocol.

        Args:
            protocol: Its ``flip``, ``flip_shift``, ``decode`` and ``box_threshold`` count here.
        """
        rows = np.flatnonzero(self.box_scores >= protocol.box_threshold)
        way = WAYS.index(protocol.flip_shift if protocol.flip else None)
        width, height = self.heatmap_size
        boxes = self.boxes[rows]
        centers, scales = boxes_to_centers_scales(boxes, width / height)
        points = self.points[rows, way, DECODERS.index(protocol.decode)]
        keypoints = np.empty((*points.shape[:2], 3))
        keypoints[..., :2] = heatmap_to_image(points, centers, scales, self.heatmap_size)
        keypoints[..., 2] = self.joint_scores[rows, way]
        return Predictions(
            image_ids=self.image_ids[rows],
            keypoints=keypoints,
            boxes=boxes,
            box_scores=self.box_scores[rows],
            areas=scales.prod(axis=1),
            annotation_ids=self.annotation_ids[rows],
        )

    def save(self, path: str | Path) -> None:
        """Writes the file, beside its place and renamed.

        Raises:
            OutputError: The place cannot be written.
        """
        about = {
            "format": FORMAT,
            "protocol": self.protocol.to_dict(),
            "skeleton": asdict(self.skeleton),
            "heatmap_size": list(self.heatmap_size),
            "annotations": self.annotations,
            "images": self.images,
        }
        with replacing(path) as temporary, open(temporary, "wb") as file:
            text = np.frombuffer(json.dumps(about).encode(), np.uint8)
            np.savez(file, about=text, **{name: getattr(self, name) for name in _ARRAYS})


def load_predictions(path: str | Path) -> SavedPredictions:
    """Reads what :meth:`SavedPredictions.save` wrote.

    Raises:
        DataError: The file is missing, cut off or of another kind; the message names it.
    """
    try:
        if Path(path).stat().st_size and not zipfile.is_zipfile(path):  # NumPy's words on it advise to unpickle
            raise ValueError("no .npz archive, or cut off")
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(file["about"].tobytes())
            arrays = {name: file[name] for name in _ARRAYS}
        if about.pop("format") != FORMAT:
            raise ValueError("another version of the format")
        saved = SavedPredictions(
            protocol=TestProtocol.from_dict(about.pop("protocol")),
            skeleton=Skeleton(**about.pop("skeleton")),
            heatmap_size=tuple(about.pop("heatmap_size")),
            **about,
            **arrays,
        )
        saved.check()
        return saved
    except FileNotFoundError as error:
        raise DataError(f"{path}: not found; tools/test.py --save-predictions writes it") from error
    except DAMAGED as error:
        raise DataError(
            f"{path}: not a whole file of saved predictions ({error}); write it again with tools/test.py "
            "--save-predictions"
        ) from error
