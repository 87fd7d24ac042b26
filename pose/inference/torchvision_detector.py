"""Torchvision's detection models as person detectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import hub, nn
from torchvision.models import detection, get_model, get_model_weights, list_models

from pose.checkpoint import load_checkpoint, load_state
from pose.device import choose_device
from pose.errors import CheckpointError
from pose.inference.boxes import DEFAULT_THRESHOLD, PERSON_CLASS, person_boxes
from pose.options import OptionError, nearest


class TorchvisionDetector:
    """A detection model of torchvision, trained on COCO, for its persons.

    Args:
        name: The model's name, such as ``fasterrcnn_mobilenet_v3_large_320_fpn``.
        weights: A file with its weights; None takes them from torch's cache or downloads them.
        threshold: Boxes of a lower score are left out.
        device: Where to compute, as :func:`pose.device.choose_device` takes it.
        class_name: The class of COCO's that is looked for, or its number there.

    Raises:
        OptionError: There is no such model, class or device.
        CheckpointError: The weights cannot be had or do not fit.
    """

    def __init__(
        self,
        name: str,
        weights: str | Path | None = None,
        threshold: float = DEFAULT_THRESHOLD,
        device: str = "auto",
        class_name: str = PERSON_CLASS,
    ) -> None:
        names = list_models(module=detection)
        if name not in names:
            raise OptionError(
                f'unknown detector {name!r}: {nearest(name, names)}; or "shipped", or a file (.pth, .native, .onnx)'
            )
        self.label = _label(class_name, get_model_weights(name).DEFAULT.meta["categories"])
        self.threshold = threshold
        self.device = choose_device(device)
        model = _pretrained(name) if weights is None else _from_file(name, weights)
        self.model = model.to(self.device).eval()

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 BGR to (N, 5) boxes."""
        with torch.inference_mode():
            pixels = torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1))).to(self.device)
            found = self.model([pixels.float() / 255])[0]
        boxes, labels, scores = (found[key].cpu().numpy() for key in ("boxes", "labels", "scores"))
        return person_boxes(boxes, scores, labels == self.label, self.threshold, image.shape)


def _label(class_name: str, categories: list[str]) -> int:
    """The number of a class; the first is the background and those named N/A are none."""
    known = {category: number for number, category in enumerate(categories) if number and category != "N/A"}
    number = int(class_name) if class_name.isdecimal() else known.get(class_name)
    if number is None or number not in known.values():
        raise OptionError(f"no class {class_name!r} among COCO's: {nearest(class_name, known)}")
    return number


def _pretrained(name: str) -> nn.Module:
    """The model with torchvision's own weights, from torch's cache or downloaded into it."""
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
    saved = load_checkpoint(path)["model"]
    model = get_model(name, weights=None, weights_backbone=None)
    if name.endswith("rcnn_resnet50_fpn") or name == "retinanet_resnet50_fpn":
        for module in model.modules():  # these were trained without it, and torchvision takes it out likewise
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 0.0
    counters = {key: value for key, value in model.state_dict().items() if key.endswith("num_batches_tracked")}
    load_state(model, {**counters, **saved}, path)  # frozen normalization was saved without its counters
    return model
