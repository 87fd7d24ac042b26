"""The project's own person detector in a file, run by ONNX Runtime or by native layers; torch is not needed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pose.detection.letterbox import letterbox, to_image
from pose.detection.suppression import suppress
from pose.errors import CheckpointError
from pose.onnx_format import open_session

METADATA_KEY = "person_detector"
"""The entry of a file's metadata that holds :class:`DetectorFile`."""

MAX_PERSONS = 100
"""Boxes a picture, as COCO's evaluation counts them."""


@dataclass(frozen=True)
class DetectorFile:
    """What a file says of itself.

    Args:
        input_area: The network's input has at most so many pixels; its shape is the picture's.
        threshold: Boxes of a lower score are left out.
        overlap: Of two boxes with a larger IoU the worse is left out.
        longest_side: No side of the input is longer.
        size_divisor: Both sides are multiples of it.
        gray: What the input is where the picture is not.
    """

    input_area: int
    threshold: float
    overlap: float
    longest_side: int
    size_divisor: int
    gray: int

    def to_json(self) -> str:
        """The text for :data:`METADATA_KEY`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> DetectorFile:
        """Reads what :meth:`to_json` wrote; entries that are not known are passed over.

        Raises:
            ValueError, TypeError, KeyError: The text is not such metadata.
        """
        known = json.loads(text)
        return cls(**{name: type_(known[name]) for name, type_ in _TYPES.items()})


_TYPES = {
    "input_area": int,
    "threshold": float,
    "overlap": float,
    "longest_side": int,
    "size_divisor": int,
    "gray": int,
}


def is_ours(session: Any) -> bool:
    """Whether an ONNX Runtime session is of a file of this kind."""
    return METADATA_KEY in session.get_modelmeta().custom_metadata_map


class ExportedDetector:
    """Finds persons as :class:`pose.detection.detector.PersonDetector` does.

    Args:
        path: A file of ``tools/export_detector.py``.
        threshold: Boxes of a lower score are left out; None takes the file's.
        session: An ONNX file that is opened already.

    Raises:
        CheckpointError: The file is missing, broken or not such a detector.
    """

    def __init__(self, path: str | Path, threshold: float | None = None, session: Any = None) -> None:
        self._find, details = _open_native(path) if Path(path).suffix == NATIVE else _open_onnx(path, session)
        try:
            self.known = DetectorFile.from_json(details[METADATA_KEY])
        except (ValueError, TypeError, KeyError) as error:
            raise CheckpointError(f"{path}: not a person detector of this project ({error!r})") from error
        self.threshold = self.known.threshold if threshold is None else threshold

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 BGR to (N, 5) float64 x, y, width, height in its pixels and the score, the best first."""
        pixels, scale = letterbox(image, self.known.input_area)
        found = self._find(pixels)
        boxes = found[found[:, 4] > max(self.threshold, 1e-6)]
        kept = suppress(boxes, np.zeros(len(boxes), np.int64), self.known.overlap)[:MAX_PERSONS]
        return to_image(boxes[kept].astype(np.float64), scale, image.shape)


Finder = Callable[[np.ndarray], np.ndarray]
"""(H, W, 3) uint8 BGR to (N, 5) float32 x1, y1, x2, y2 in its pixels and the score, the best first."""


def _open_onnx(path: str | Path, session: Any) -> tuple[Finder, dict[str, str]]:
    """An ONNX file's function and metadata."""
    opened = session or open_session(path)

    def find(pixels: np.ndarray) -> np.ndarray:
        return opened.run(None, {"images": np.ascontiguousarray(pixels[None, ..., ::-1])})[0][0]

    return find, opened.get_modelmeta().custom_metadata_map


def _open_native(path: str | Path) -> tuple[Finder, dict[str, str]]:
    """The function and metadata of a file of native layers, which end in the network's maps."""
    from pose.native.program_file import load_program
    from pose.runtimes.native import cores, open_program, run_images
    from pose.runtimes.pixels import normalize

    steps, details = load_program(path)
    program, threads = open_program(path, steps), cores()
    mean, std = (np.array(json.loads(details.get(name, "[0, 0, 0]")), np.float32) for name in ("mean", "std"))

    def find(pixels: np.ndarray) -> np.ndarray:
        return boxes_of_maps(run_images(program, normalize(pixels[None], mean, std), threads)[0])

    return find, details


def boxes_of_maps(maps: np.ndarray) -> np.ndarray:
    """What :func:`pose.detection.decode.decode` makes of one picture's maps before boxes are suppressed.

    Args:
        maps: (5, h, w) float32 of :class:`pose.detection.network.DetectionNet`.

    Returns:
        (N, 5) float32 x1, y1, x2, y2 in input pixels and the score, the best first: twice as many as are kept at most.
    """
    scores = 1 / (1 + np.exp(-maps[0]))
    peaks = scores == cv2.dilate(scores, np.ones((3, 3), np.uint8))
    ranked = np.where(peaks, scores, 0).ravel()
    best = np.argsort(-ranked, kind="stable")[: 2 * MAX_PERSONS]
    y, x = np.divmod(best, maps.shape[2])
    left, top, right, bottom = np.exp(np.minimum(maps[1:].reshape(4, -1)[:, best], MAX_LOG))
    boxes = np.stack([x + 0.5 - left, y + 0.5 - top, x + 0.5 + right, y + 0.5 + bottom], 1) * STRIDE
    return np.concatenate([boxes, ranked[best, None]], 1).astype(np.float32)
