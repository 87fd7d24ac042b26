"""Person detectors by name or file: an image in, boxes out. They know nothing of poses.

A detector takes (H, W, 3) uint8 BGR and gives (N, 5) float64: x, y, width, height in pixels of the
image, and the score, the best first. Boxes of a COCO file and the whole image are in
:mod:`pose.inference.boxes`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from pose.errors import CheckpointError
from pose.inference.boxes import DEFAULT_THRESHOLD, PERSON_CLASS, whole_image
from pose.options import OptionError
from pose.weights import ShippedDetector, shipped_detector

Detector = Callable[[np.ndarray], np.ndarray]

SHIPPED = "shipped"
"""Names the detector that comes with the repository, whichever that is."""


def default_detector(threshold: float | None = None, native: bool | None = None, device: str = "cpu") -> Detector:
    """The detector that comes with the repository; without one, :func:`~pose.inference.boxes.whole_image`.

    Args:
        threshold: Boxes of a lower score are left out; None takes the detector's own.
        native: See :func:`load_detector`.
        device: See :func:`load_detector`.

    Raises:
        CheckpointError: Its weights are missing or changed.
    """
    if shipped_detector() is None:
        return whole_image
    return load_detector(SHIPPED, threshold=threshold, native=native, device=device)


def load_detector(
    name: str,
    weights: str | Path | None = None,
    threshold: float | None = None,
    device: str = "auto",
    class_name: str = PERSON_CLASS,
    pixels: str | None = None,
    native: bool | None = None,
    may_compile: bool = False,
) -> Detector:
    """A detector by name or file.

    Args:
        name: :data:`SHIPPED` or the name of a detector in ``data/weights/index.json``; a checkpoint of
            :class:`pose.detection.detector.PersonDetector`, which may end in anything; an ONNX file or one of native
            layers, of ``tools/export_detector.py``; another's ONNX file, see
            :class:`~pose.inference.onnx_detector.OnnxDetector`; or a detection model of torchvision, such as
            ``fasterrcnn_mobilenet_v3_large_320_fpn``.
        weights: A file for torchvision's; None takes them from torch's cache or downloads them.
        threshold: Boxes of a lower score are left out; None takes a checkpoint's own, which was chosen on data, and
            0.5 of any other detector.
        device: Where it computes: a checkpoint on ``cuda``, else on the CPU; an ONNX file on ``cpu``, or with anything
            else on a GPU where the installed runtime has one.
        class_name: The class that is looked for, or its number in the detector's list.
        pixels: What an ONNX file's input holds, of :data:`~pose.inference.onnx_detector.PIXELS`.
        native: Run a checkpoint by native layers, which are compiled at first use, for some seconds, and not in
            PyTorch's operations; None takes them on a CPU where they need not be compiled first.
        may_compile: There is so much to do that, with ``native`` None, they are compiled first.

    Raises:
        OptionError: There is no such detector, or it has no such class.
        CheckpointError: The weights cannot be had or do not fit.
    """
    least = DEFAULT_THRESHOLD if threshold is None else threshold
    ours = _shipped(name)
    if ours is None and name == SHIPPED:
        raise OptionError("no detector comes with this repository; give a file or the name of one of torchvision's")
    file = Path(name if ours is None else ours.checkpoint)
    if pixels is not None and file.suffix != ".onnx":
        raise OptionError(f"{name}: only a detector in an ONNX file is told its pixels (--detector-pixels)")
    if file.suffix == ".native":
        _persons_alone(file, class_name)
        from pose.detection.exported import ExportedDetector

        return ExportedDetector(file, threshold)
    if file.suffix == ".onnx":
        return _in_onnx(file, threshold, class_name, pixels, device)
    if file.suffix == ".pth" or file.is_file():
        _persons_alone(name, class_name)
        import torch

        from pose.detection.detector import PersonDetector
        from pose.device import choose_device
        from pose.models import native as native_layers

        chosen = choose_device(device)
        where = chosen if chosen.type == "cuda" and not native else torch.device("cpu")
        return PersonDetector.from_checkpoint(file, where, threshold, native_layers.chosen(native, where, may_compile))
    if file.suffix or len(file.parts) > 1:
        raise CheckpointError(f"{name}: detector file not found")
    from pose.inference.torchvision_detector import TorchvisionDetector

    return TorchvisionDetector(name, weights, least, device, class_name)


def detector_file(name: str) -> Path | None:
    """The file that the name of a detector stands for, so that nothing is written over it; None of torchvision's.

    Raises:
        CheckpointError: It is one that comes with the repository, whose weights are missing or changed.
    """
    ours = _shipped(name)
    if ours is not None:
        return ours.checkpoint
    return Path(name) if Path(name).is_file() else None


def _shipped(name: str) -> ShippedDetector | None:
    return shipped_detector(None if name == SHIPPED else name)


def _in_onnx(file: Path, threshold: float | None, class_name: str, pixels: str | None, device: str) -> Detector:
    """A detector in an ONNX file: this project's own by its metadata, or another's by its outputs."""
    from pose.detection.exported import ExportedDetector, is_ours
    from pose.onnx_format import open_session

    session = open_session(file, device)
    if is_ours(session):
        _persons_alone(file, class_name)
        if pixels is not None:
            raise OptionError(f"{file}: says itself what its pixels are; leave --detector-pixels out")
        return ExportedDetector(file, threshold, session)
    from pose.inference.onnx_detector import OnnxDetector

    least = DEFAULT_THRESHOLD if threshold is None else threshold
    return OnnxDetector(file, least, class_name=class_name, pixels=pixels, session=session)


def _persons_alone(name: str | Path, class_name: str) -> None:
    if class_name != PERSON_CLASS:
        raise OptionError(f"{name}: finds persons alone, no {class_name!r}; leave --detector-class out")
