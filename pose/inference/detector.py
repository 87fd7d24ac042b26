"""Person detectors by name or file: an image in, boxes out. They know nothing of poses.

A detector takes (H, W, 3) uint8 BGR and gives (N, 5) float64: x, y, width, height in pixels of the
image, and the score, the best first. Boxes of a COCO file and the whole image are in
:mod:`pose.inference.boxes`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from pose.inference.boxes import DEFAULT_THRESHOLD, PERSON_CLASS, whole_image
from pose.options import OptionError
from pose.weights import shipped_detector

Detector = Callable[[np.ndarray], np.ndarray]

SHIPPED = "shipped"
"""Names the detector that comes with the repository, whichever that is."""


class AboveThreshold:
    """A detector's boxes of at least a score.

    Args:
        detector: Finds the boxes.
        threshold: Boxes of a lower score are left out.
    """

    def __init__(self, detector: Detector, threshold: float) -> None:
        self.detector = detector
        self.threshold = threshold

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 BGR to (N, 5) boxes."""
        boxes = self.detector(image)
        return boxes[boxes[:, 4] >= self.threshold]


def default_detector(threshold: float = DEFAULT_THRESHOLD) -> Detector:
    """The detector that comes with the repository; without one, :func:`~pose.inference.boxes.whole_image`.

    Args:
        threshold: Boxes of a lower score are left out.

    Raises:
        CheckpointError: Its weights are missing or changed.
    """
    return whole_image if shipped_detector() is None else load_detector(SHIPPED, threshold=threshold)


def load_detector(
    name: str,
    weights: str | Path | None = None,
    threshold: float = DEFAULT_THRESHOLD,
    device: str = "auto",
    class_name: str = PERSON_CLASS,
    pixels: str | None = None,
) -> Detector:
    """A detector by name or file.

    Args:
        name: :data:`SHIPPED` or the name of a detector in ``data/weights/index.json``; a checkpoint (.pth) of
            :class:`pose.detection.detector.PersonDetector`; an ONNX file, see
            :class:`~pose.inference.onnx_detector.OnnxDetector`; or a detection model of torchvision, such as
            ``fasterrcnn_mobilenet_v3_large_320_fpn``.
        weights: A file for torchvision's; None takes them from torch's cache or downloads them.
        threshold: Boxes of a lower score are left out.
        device: Where one of torchvision's computes.
        class_name: The class that is looked for, or its number in the detector's list.
        pixels: What an ONNX file's input holds, of :data:`~pose.inference.onnx_detector.PIXELS`.

    Raises:
        OptionError: There is no such detector, or it has no such class.
        CheckpointError: The weights cannot be had or do not fit.
    """
    ours = shipped_detector(None if name == SHIPPED else name)
    if ours is None and name == SHIPPED:
        raise OptionError("no detector comes with this repository; give a file or the name of one of torchvision's")
    file = Path(name if ours is None else ours.checkpoint)
    if file.suffix == ".onnx":
        from pose.inference.onnx_detector import OnnxDetector

        return OnnxDetector(file, threshold, class_name=class_name, pixels=pixels)
    if pixels is not None:
        raise OptionError(f"{name}: only a detector in an ONNX file is told its pixels (--detector-pixels)")
    if file.suffix == ".pth":
        if class_name != PERSON_CLASS:
            raise OptionError(f"{name}: finds persons alone, no {class_name!r}; leave --detector-class out")
        from pose.detection.detector import PersonDetector

        return AboveThreshold(PersonDetector.from_checkpoint(file), threshold)
    from pose.inference.torchvision_detector import TorchvisionDetector

    return TorchvisionDetector(name, weights, threshold, device, class_name)
