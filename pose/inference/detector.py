"""Person detectors: a picture in, boxes out. They know nothing of poses.

A detector takes (H, W, 3) uint8 BGR and gives (N, 5) float64: x, y, width, height in pixels of the
picture, and the score, the best first. Boxes of a COCO file and the whole picture are in
:mod:`pose.inference.boxes`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pose.errors import CheckpointError
from pose.options import OptionError, nearest

if TYPE_CHECKING:
    from torch import nn

Detector = Callable[[np.ndarray], np.ndarray]

DEFAULT_THRESHOLD = 0.5


def load_detector(
    name: str, weights: str | Path | None = None, threshold: float = DEFAULT_THRESHOLD, device: str = "auto"
) -> Detector:
    """A detector by name or file.

    Args:
        name: A detection model of torchvision, such as ``fasterrcnn_mobilenet_v3_large_320_fpn``, or an
            ONNX file (see :class:`~pose.inference.onnx_models.OnnxDetector`).
        weights: A file for torchvision's; None takes them from torch's cache or downloads them.
        threshold: Boxes of a lower score are left out.
        device: Where torchvision's computes.

    Raises:
        OptionError: There is no such detector.
        CheckpointError: The weights cannot be had or do not fit.
    """
    if str(name).endswith(".onnx"):
        from pose.inference.onnx_models import OnnxDetector

        return OnnxDetector(name, threshold)
    return TorchvisionDetector(name, weights, threshold, device)


class TorchvisionDetector:
    """A detection model of torchvision, trained on COCO, for its persons.

    Args, exceptions: see :func:`load_detector`.
    """

    def __init__(self, name: str, weights: str | Path | None, threshold: float, device: str) -> None:
        from torchvision.models import detection, list_models

        from pose.device import choose_device

        names = list_models(module=detection)
        if name not in names:
            raise OptionError(f"unknown detector {name!r}: {nearest(name, names)}; or give an .onnx file")
        self.threshold = threshold
        self.device = choose_device(device)
        model = _pretrained(name) if weights is None else _from_file(name, weights)
        self.model = model.to(self.device).eval()

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 BGR to (N, 5) boxes."""
        import torch

        with torch.inference_mode():
            pixels = torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1))).to(self.device)
            found = self.model([pixels.float() / 255])[0]
        boxes, labels, scores = (found[key].cpu().numpy() for key in ("boxes", "labels", "scores"))
        return persons_of(boxes, scores, labels == 1, self.threshold, image.shape)


def _pretrained(name: str) -> nn.Module:
    """With torchvision's own weights, from torch's cache or downloaded into it."""
    from torch import hub
    from torchvision.models import get_model, get_model_weights

    weights = get_model_weights(name).DEFAULT
    try:
        return get_model(name, weights=weights)
    except (OSError, RuntimeError) as error:  # URLError and HTTPError are OSErrors; a wrong hash is a RuntimeError
        place = Path(hub.get_dir(), "checkpoints", weights.url.rpartition("/")[2])
        raise CheckpointError(
            f"the detector's weights {weights.url} could not be downloaded ({error}); fetch that file on another "
            f"machine and put it at {place}, or name it with --detector-weights; or give boxes with --boxes"
        ) from error


def _from_file(name: str, path: str | Path) -> nn.Module:
    from torch import nn
    from torchvision.models import get_model

    from pose.checkpoint import load_checkpoint, load_state

    saved = load_checkpoint(path)["model"]
    model = get_model(name, weights=None, weights_backbone=None)
    if name.endswith("rcnn_resnet50_fpn") or name == "retinanet_resnet50_fpn":
        for module in model.modules():  # these were trained without it, and torchvision takes it out likewise
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 0.0
    counters = {key: value for key, value in model.state_dict().items() if key.endswith("num_batches_tracked")}
    load_state(model, {**counters, **saved}, path)  # frozen normalisation was saved without its counters
    return model


def persons_of(
    corners: np.ndarray, scores: np.ndarray, person: np.ndarray, threshold: float, shape: tuple[int, ...]
) -> np.ndarray:
    """x1, y1, x2, y2 (N, 4) of some classes to the persons' boxes (M, 5) inside the picture, best first."""
    corners = corners.astype(np.float64).clip(0, (shape[1], shape[0]) * 2)
    size = corners[:, 2:] - corners[:, :2]
    kept = np.flatnonzero(person & (scores >= threshold) & (size > 0).all(axis=1))
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    return np.concatenate([corners[kept, :2], size[kept], scores[kept, None].astype(np.float64)], axis=1)
