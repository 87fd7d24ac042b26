"""Person detectors in ONNX files, as torchvision and YOLO export them, run by ONNX Runtime; torch is not needed."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from pose.errors import CheckpointError
from pose.inference.boxes import DEFAULT_THRESHOLD, person_boxes
from pose.onnx_format import open_session


class OnnxDetector:
    """A detector in an ONNX file. Images go in as float32 RGB in [0, 1], (1, 3, H, W) or (3, H, W).

    Two kinds are told apart by their outputs. Torchvision's exports have boxes (n, 4) x1, y1, x2, y2,
    labels (n,) with 1 a person, and scores (n,). YOLO's (v8 and later) have one output (1, 4 + C, n) or
    its transpose: center x, y, width, height and the scores of C classes, the first of them a person.
    Where the file has a fixed input size, the image is scaled into it and padded.

    Args:
        path: The file.
        threshold: Boxes of a lower score are left out.
        overlap: YOLO boxes that overlap a better one by more than this IoU are left out.

    Raises:
        CheckpointError: The file is missing, no ONNX model, or of neither kind.
    """

    def __init__(self, path: str | Path, threshold: float = DEFAULT_THRESHOLD, overlap: float = 0.6) -> None:
        self.path = Path(path)
        self.threshold = threshold
        self.overlap = overlap
        self.session = open_session(path)
        (entry, *others), outputs = self.session.get_inputs(), self.session.get_outputs()
        shape = entry.shape
        if others or len(shape) not in (3, 4) or len(outputs) not in (1, 3):
            raise CheckpointError(f"{path}: not a detector as torchvision or YOLO export it")
        self.name, self.batched = entry.name, len(shape) == 4
        fixed = [size if isinstance(size, int) and size > 0 else None for size in shape[-2:]]
        self.size = None if None in fixed else (fixed[1], fixed[0])
        self.yolo = len(outputs) == 1
        if self.yolo and self.size is None:
            self.size = (640, 640)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 BGR to (N, 5) boxes."""
        scaled, factor = (image, 1.0) if self.size is None else _fit(image, self.size)
        pixels = np.ascontiguousarray(scaled[..., ::-1].transpose(2, 0, 1), np.float32) / 255
        outputs = self.session.run(None, {self.name: pixels[None] if self.batched else pixels})
        if self.yolo:
            boxes, scores, person = self._read_yolo(outputs[0][0])
        else:
            boxes, scores, person = self._read_lists(outputs)
        found = person_boxes(boxes / factor, scores, person, self.threshold, image.shape)
        if not self.yolo or not len(found):
            return found
        kept = cv2.dnn.NMSBoxes(found[:, :4].tolist(), found[:, 4].tolist(), self.threshold, self.overlap)
        return found[np.sort(np.asarray(kept, np.int64).reshape(-1))]

    def _read_yolo(self, output: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = output.T if output.shape[0] < output.shape[1] else output
        corner = rows[:, :2] - rows[:, 2:4] / 2
        return np.concatenate([corner, corner + rows[:, 2:4]], axis=1), rows[:, 4], rows[:, 4:].argmax(axis=1) == 0

    def _read_lists(self, outputs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes, labels and scores in any order: by shape, and labels are integers."""
        arrays = [
            array[0] if array.ndim > 1 and array.shape[0] == 1 and array.shape[-1] != 4 else array for array in outputs
        ]
        boxes = next(array for array in arrays if array.shape[-1:] == (4,) and array.ndim > 1).reshape(-1, 4)
        labels = next(array for array in arrays if array.dtype.kind in "iu").reshape(-1)
        scores = next(array for array in arrays if array.dtype.kind == "f" and array.size == len(boxes)).reshape(-1)
        return boxes, scores, labels == 1


def _fit(image: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """The image scaled into (width, height), gray to the right and below, and the factor."""
    factor = min(size[0] / image.shape[1], size[1] / image.shape[0])
    width, height = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
    canvas = np.full((size[1], size[0], 3), 114, np.uint8)
    canvas[:height, :width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return canvas, factor
