"""The person detector as a file: pictures to persons without torch, and inside a page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pose.detection.detector import PersonDetector
from pose.detection.exported import INPUT_KEY, METADATA_KEY, NATIVE, DetectorFile, ExportedDetector
from pose.detection.letterbox import LONGEST_SIDE, STRIDE
from pose.detection.settings import load_network
from pose.detection.targets import corners
from pose.errors import require
from pose.export.errors import ExportError
from pose.export.onnx_file import TOLERANCE
from pose.export.writers.native import steps_of
from pose.files import replacing
from pose.models.deploy.folding import deploy
from pose.native.program_file import add_details, save_program
from pose.prediction import MEAN, STD

MOST_BOXES = 200
"""Candidates that a file gives: twice the persons that are looked for, since they may overlap."""

CHECKED_SIZES = ((320, 256), (224, 352), (416, 32))
"""Width and height of the pictures that a file is compared on."""


class PixelsToBoxes(nn.Module):
    """Pictures of any size that is a multiple of 32 to boxes that may still overlap.

    Args:
        network: A :class:`~pose.detection.network.DetectionNet`, folded.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", 255 * torch.tensor(MEAN)[:, None, None])
        self.register_buffer("std", 255 * torch.tensor(STD)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        """(1, H, W, 3) uint8 RGB to (1, 200, 5): x1, y1, x2, y2 in input pixels and the score, the best first.

        What is no peak of the map has the score 0.
        """
        maps = self.network((images.permute(0, 3, 1, 2).float() - self.mean) / self.std)
        scores = maps[:, :1].sigmoid()
        peaks = scores * (F.max_pool2d(scores, 3, 1, 1) == scores).to(scores.dtype)
        ranked, places = F.pad(peaks.flatten(1), (0, MOST_BOXES)).topk(MOST_BOXES)  # a map may have fewer cells
        boxes = F.pad(corners(maps[:, 1:]).flatten(2), (0, MOST_BOXES)) * STRIDE
        boxes = boxes.gather(2, places[:, None].expand(-1, 4, -1))
        return torch.cat([boxes, ranked[:, None]], 1).transpose(1, 2)


def export_detector(checkpoint: str | Path, path: str | Path) -> float:
    """Writes a trained detector as a file and compares the boxes that the two find.

    Args:
        checkpoint: A checkpoint of ``tools/train_detector.py``, or the weights that come with the project.
        path: An ONNX file, or by its ending one of native layers; replaced only by a file that has passed the
            comparison.

    Returns:
        The largest difference of a box, in pixels, or of a score, on random pictures.

    Raises:
        CheckpointError: The checkpoint is missing, damaged or not a detector's.
        ExportError: The answers differ by more than 1e-4 of the longest side.
        MissingExtra: ONNX is not installed.
        NativeError: Native layers cannot be built.
        OutputError: The file cannot be written.
    """
    native = Path(path).suffix == NATIVE
    onnx = None if native else require("onnx")
    network, settings = load_network(checkpoint)
    folded = deploy(network, fused=False, channels_last=False)
    known = {METADATA_KEY: DetectorFile(**asdict(settings.test)).to_json()}
    with replacing(path) as temporary:
        if native:
            scaled = {name: [255 * value for value in values] for name, values in (("mean", MEAN), ("std", STD))}
            steps = steps_of(deploy(network, fused=True), path)
            save_program(temporary, steps)
            add_details(temporary, {**known, INPUT_KEY: json.dumps(scaled)})
        else:
            _write_onnx(onnx, folded, known, temporary)
        difference = compare(temporary, PersonDetector(folded, settings.test))
        if not difference <= TOLERANCE * LONGEST_SIDE:
            raise ExportError(f"{path}: boxes differ from PyTorch's by {difference:.3g} pixels; not written")
    return difference


def _write_onnx(onnx: Any, folded: nn.Module, details: Mapping[str, str], path: Path) -> None:
    """Writes a network as a graph from pixels to boxes."""
    from pose.export import batch_scan

    sample = torch.zeros(1, 256, 320, 3, dtype=torch.uint8)
    axes = {"images": {1: "height", 2: "width"}}
    file = batch_scan.trace(PixelsToBoxes(folded).eval(), sample, ["images"], ["boxes"], free=False, axes=axes)
    onnx.helper.set_model_props(file, dict(details))
    onnx.checker.check_model(file, full_check=True)
    onnx.save(file, str(path))


def compare(path: str | Path, reference: PersonDetector) -> float:
    """The largest difference of a box in pixels or of a score between a file and PyTorch, both without a threshold."""
    generator = np.random.default_rng(0)
    exported = ExportedDetector(path, threshold=0.0)
    reference.settings = reference.settings.for_figures()
    exported.threshold = reference.settings.threshold
    worst = 0.0
    for width, height in CHECKED_SIZES:
        image = generator.integers(0, 255, (height, width, 3), np.uint8)
        ours, theirs = exported(image), reference(image)
        if len(ours) != len(theirs):
            raise ExportError(f"{path}: {len(ours)} boxes where PyTorch finds {len(theirs)}; not written")
        worst = max(worst, float(np.abs(ours - theirs).max(initial=0)))
    return worst
