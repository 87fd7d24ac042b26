"""A trained detector as inference wants it: a picture in, persons' boxes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from pose.checkpoint import load_checkpoint, load_state
from pose.detection.canvas import GRAY
from pose.detection.decode import decode
from pose.detection.network import SIZE_DIVISOR, STRIDE, DetectionNet
from pose.detection.settings import DetectorSettings, TestSettings, changed, stored_detector_settings
from pose.errors import CheckpointError
from pose.models.deploy.folding import deploy
from pose.prediction import to_input

LONGEST_SIDE = 416
"""No side of the network's input is longer."""

AVERAGED = "module."
"""What the names of averaged weights begin with in a training's checkpoint."""


class PersonDetector:
    """Finds persons.

    Args:
        network: A :class:`~pose.detection.network.DetectionNet`, folded or not, in evaluation mode on ``device``.
        settings: How a picture becomes boxes.
        device: Where to compute.
    """

    def __init__(self, network: nn.Module, settings: TestSettings, device: torch.device | str = "cpu") -> None:
        self.network, self.settings, self.device = network, settings, torch.device(device)

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        device: torch.device | str = "cpu",
        threshold: float | None = None,
        native: bool | None = None,
    ) -> PersonDetector:
        """A detector of trained weights.

        Args:
            path: A checkpoint of ``tools/train_detector.py``, or the weights that come with the project.
            device: Where to compute.
            threshold: Boxes of a lower score are left out; None takes the checkpoint's.
            native: On a CPU, native layers, which are compiled at first use; None takes them where there is a compiler.

        Raises:
            CheckpointError: It is missing, damaged or not a detector's.
        """
        network, settings = load_network(path)
        network = deploy(network, fused=native) if torch.device(device).type == "cpu" else network.to(device).eval()
        test = settings.test
        if threshold is not None:
            test = replace(test, threshold=threshold)
        return cls(network, test, device)

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Boxes of the persons on a picture.

        Args:
            image: (H, W, 3) uint8 BGR.

        Returns:
            (N, 5) float64 x, y, width, height in pixels of the picture, inside it, and the score; the best first.
        """
        pixels, scale = letterbox(image, self.settings.input_area)
        maps = self.network(to_input(torch.from_numpy(pixels)[None], self.device))
        (found,) = decode(maps, STRIDE, self.settings.threshold, self.settings.overlap)
        return to_image(found.double().cpu().numpy(), scale, image.shape)


def load_network(path: str | Path, overrides: Mapping[str, Any] | None = None) -> tuple[DetectionNet, DetectorSettings]:
    """A trained network, on the CPU in float32, and the settings it was trained with.

    Of a training that goes on (``last.pth``) the averaged weights, where there are any.

    Args:
        path: A checkpoint.
        overrides: Dotted keys to values of settings that differ here, e.g. where the data are.

    Raises:
        CheckpointError: The file is missing, damaged or not a detector's.
        OptionError: A setting that differs cannot be.
    """
    checkpoint = load_checkpoint(path)
    sections = checkpoint.get("settings", {})
    if not isinstance(sections, Mapping) or "canvas" not in sections:
        raise CheckpointError(f"{path}: not a person detector's checkpoint; give one of tools/train_detector.py")
    settings = stored_detector_settings(changed(sections, overrides or {}))
    network = settings.build_model()
    state = checkpoint["model"]
    if checkpoint.get("average"):
        averaged = checkpoint["average"].items()
        state = {name.removeprefix(AVERAGED): value for name, value in averaged if name.startswith(AVERAGED)}
    load_state(network, state, path)
    return network, settings


def input_size(width: int, height: int, area: int) -> tuple[int, int]:
    """The network's input for a picture: multiples of 32 within an area in which the picture is drawn largest.

    Of several that draw it equally large, the smallest.
    """
    sides = np.arange(SIZE_DIVISOR, LONGEST_SIDE + 1, SIZE_DIVISOR)
    across, down = (side.ravel() for side in np.meshgrid(sides, sides))
    fits = across * down <= area
    factor = np.minimum(across / width, down / height).round(6)
    best = np.lexsort((across * down, -factor, ~fits))[0]
    return int(across[best]), int(down[best])


def letterbox(image: np.ndarray, area: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture at the top left of a canvas of the network's input size, the rest gray.

    Args:
        image: (H, W, 3) uint8.
        area: See :class:`~pose.detection.settings.TestSettings`.

    Returns:
        (h, w, 3) uint8, and by what (2,) the picture's width and height were scaled: a point p of the picture lies at
        p * scale, with the top left pixel's corner at 0.
    """
    height, width = image.shape[:2]
    size = input_size(width, height, area)
    factor = min(size[0] / width, size[1] / height)
    drawn = [min(max(round(side * factor), 1), limit) for side, limit in zip((width, height), size, strict=True)]
    canvas = np.full((size[1], size[0], 3), GRAY, np.uint8)
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    canvas[: drawn[1], : drawn[0]] = cv2.resize(image, drawn, interpolation=how)
    return canvas, np.array(drawn) / (width, height)


def to_image(found: np.ndarray, scale: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Boxes in input pixels to the picture's.

    Args:
        found: (N, 5) x1, y1, x2, y2, score.
        scale: Of :func:`letterbox`.
        shape: Of the picture.

    Returns:
        (M, 5) float64 x, y, width, height inside the picture, score; those outside it are left out.
    """
    start, end = (np.clip(side / scale, 0, (shape[1], shape[0])) for side in (found[:, :2], found[:, 2:4]))
    boxes = np.concatenate([start, end - start, found[:, 4:]], 1)
    return boxes[(boxes[:, 2:4] > 0).all(1)]
