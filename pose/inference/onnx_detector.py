"""Person detectors in ONNX files, as their programs export them, run by ONNX Runtime; torch is not needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pose.errors import CheckpointError
from pose.inference.boxes import DEFAULT_THRESHOLD, PERSON_CLASS, person_boxes
from pose.inference.onnx_layouts import DetectorMetadata, Layout, UnknownLayoutError, tell_layout
from pose.onnx_format import open_session
from pose.options import OptionError, nearest

PIXELS: dict[str, tuple[float | tuple[float, ...], float | tuple[float, ...], bool]] = {
    "rgb": (0.0, 255.0, True),
    "bgr255": (0.0, 1.0, False),
    "rtmdet": ((103.53, 116.28, 123.675), (57.375, 57.12, 58.395), False),
}
"""What a detector's input holds: subtracted from the pixels, divided by, and whether red comes first. The last are the
means and deviations of MMDetection's RTMDet, blue first."""


class OnnxDetector:
    """A detector in an ONNX file of one input, images (1, 3, H, W) or (3, H, W) of float32 or float16.

    How it writes its boxes is told by :func:`~pose.inference.onnx_layouts.tell_layout` from the shapes of its
    outputs and from its metadata; where the file leaves shapes open, a gray image is tried. Where the input has a
    fixed size, the image is scaled into it and padded at the right and below.

    Args:
        path: The file.
        threshold: Boxes of a lower score are left out.
        overlap: Boxes that overlap a better one by more than this IoU are left out, where the file does not do it.
        class_name: The class that is looked for: its name in the file, or its number.
        pixels: One of :data:`PIXELS`; None for the one that belongs to the layout.
        session: The file in ONNX Runtime, where it is opened already.

    Raises:
        CheckpointError: The file is missing, no ONNX model, or of no known layout.
        OptionError: It has no such class, or there are no such pixels.
    """

    def __init__(
        self,
        path: str | Path,
        threshold: float = DEFAULT_THRESHOLD,
        overlap: float = 0.6,
        class_name: str = PERSON_CLASS,
        pixels: str | None = None,
        session: Any = None,
    ) -> None:
        self.path = Path(path)
        self.threshold = threshold
        self.overlap = overlap
        self.session = session or open_session(path)
        entry, *others = self.session.get_inputs()
        self.name, self.batched = entry.name, len(entry.shape) == 4
        self.type = {"tensor(float)": np.float32, "tensor(float16)": np.float16}.get(entry.type)
        if others or len(entry.shape) not in (3, 4) or self.type is None or _fixed(entry.shape)[-3] not in (3, None):
            raise self._unknown("needs one input of images, (1, 3, H, W) float32 or float16")
        metadata = DetectorMetadata.read(self.session.get_modelmeta().custom_metadata_map)
        height, width = _fixed(entry.shape)[-2:]
        self.size = (width, height) if width and height else None
        if pixels is not None and pixels not in PIXELS:
            raise OptionError(f"unknown pixels {pixels!r} of a detector: {nearest(pixels, PIXELS)}")
        self.pixels = pixels or "rgb"
        self.layout = self._tell_layout(metadata)
        self.pixels = pixels or self.layout.pixels
        self.label = self._label(class_name, metadata)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 BGR to (N, 5) boxes.

        Raises:
            CheckpointError: A score is not in [0, 1]: the columns mean something else than the layout says.
        """
        scaled, factor = (image, 1.0) if self.size is None else _fit(image, self.size)
        corners, scores, labels = self.layout.read(self._run(scaled))
        if scores.size and not -0.01 <= scores.min() <= scores.max() <= 1.01:  # NaN, too
            worst = scores[np.argmax(np.abs(np.nan_to_num(scores, nan=np.inf)))]
            raise self._unknown(f"read as {type(self.layout).__name__} it has the score {worst:.3g}")
        found = person_boxes(
            corners / factor, scores.astype(np.float64), labels == self.label, self.threshold, image.shape
        )
        if not self.layout.overlapping or not len(found):
            return found
        kept = cv2.dnn.NMSBoxes(found[:, :4].tolist(), found[:, 4].tolist(), self.threshold, self.overlap)
        return found[np.sort(np.asarray(kept, np.int64).reshape(-1))]

    def _run(self, image: np.ndarray) -> list[np.ndarray]:
        """The file's outputs for (H, W, 3) uint8 BGR of the input's size."""
        mean, deviation, red_first = PIXELS[self.pixels]
        ordered = image[..., ::-1] if red_first else image
        values = (ordered.astype(np.float32) - np.array(mean, np.float32)) / np.array(deviation, np.float32)
        tensor = np.ascontiguousarray(values.transpose(2, 0, 1), self.type)
        return self.session.run(None, {self.name: tensor[None] if self.batched else tensor})

    def _tell_layout(self, metadata: DetectorMetadata) -> Layout:
        """The layout; sets the size where the input may have any and the file does not take images of all sizes."""
        outputs = self.session.get_outputs()
        shapes = [_fixed(output.shape) for output in outputs]
        integer = ["int" in output.type for output in outputs]
        if len(outputs) != 3:
            self.size = self.size or metadata.image_size or (640, 640)
            if any(not shape or None in shape[1:] for shape in shapes):
                shapes = [list(array.shape) for array in self._run(np.full((*self.size[::-1], 3), 114, np.uint8))]
        try:
            return tell_layout(shapes, integer, self.size or (0, 0), metadata)
        except UnknownLayoutError as error:
            raise self._unknown(str(error)) from error

    def _label(self, class_name: str, metadata: DetectorMetadata) -> int:
        """The number of a class in the file."""
        names = metadata.names
        if names:
            by_name = {name.lower(): number for number, name in names.items()}
            if class_name.lower() in by_name:
                return by_name[class_name.lower()]
            if class_name.isdecimal() and int(class_name) in names:
                return int(class_name)
            some = ", ".join([*by_name][:5]) + (" ..." if len(by_name) > 5 else "")
            raise OptionError(f"{self.path}: no class {class_name!r}, it has {some}; choose one with --detector-class")
        if class_name == PERSON_CLASS:
            return self.layout.person
        if not class_name.isdecimal():
            raise OptionError(f"{self.path}: names no classes; give --detector-class the number of {class_name!r}")
        if self.layout.classes is not None and int(class_name) >= self.layout.classes:
            raise OptionError(f"{self.path}: no class {class_name}, it has {self.layout.classes}, counted from 0")
        return int(class_name)

    def _unknown(self, reason: str) -> CheckpointError:
        outputs = self.session.get_outputs()
        shapes = ", ".join(f"{output.name} {tuple(output.shape)} {output.type}" for output in outputs)
        return CheckpointError(
            f"{self.path}: not a detector that can be read{f' ({reason})' if reason else ''}; its outputs are "
            f"{shapes}; docs/detector.md lists the layouts that are known"
        )


def _fixed(shape: list[int | str | None]) -> list[int | None]:
    """A shape with None for what the file leaves open."""
    return [size if isinstance(size, int) and size > 0 else None for size in shape]


def _fit(image: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """The image scaled into (width, height), gray to the right and below, and the factor."""
    factor = min(size[0] / image.shape[1], size[1] / image.shape[0])
    width, height = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
    canvas = np.full((size[1], size[0], 3), 114, np.uint8)
    canvas[:height, :width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return canvas, factor
