"""A trained detector as inference wants it: a picture in, persons' boxes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pose import options
from pose.checkpoint import is_detectors, load_checkpoint, load_state, trained_state
from pose.detection.decode import decode
from pose.detection.letterbox import TestSettings, letterbox, to_image
from pose.detection.network import DetectionNet
from pose.errors import CheckpointError
from pose.models.deploy.folding import deploy
from pose.prediction import to_input


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
        checkpoint, sections = read_checkpoint(path)
        network = trained_network(checkpoint, sections.get("model", {}), path)
        on_cpu = torch.device(device).type == "cpu"
        form = deploy(network, fused=native) if on_cpu else network.to(device).eval()
        test = options.build(TestSettings, sections.get("test", {}), "test")
        if threshold is not None:
            test = replace(test, threshold=threshold)
        return cls(form, test, device)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Boxes of the persons on a picture.

        Args:
            image: (H, W, 3) uint8 BGR.

        Returns:
            (N, 5) float64 x, y, width, height in pixels of the picture, inside it, and the score; the best first.
        """
        return self.of_images([image])[0]

    @torch.inference_mode()
    def of_images(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """:meth:`__call__` of several pictures; those whose input has one size go through the network together."""
        drawn = [letterbox(image, self.settings.input_area) for image in images]
        alike: dict[tuple[int, ...], list[int]] = {}
        for row, (pixels, _) in enumerate(drawn):
            alike.setdefault(pixels.shape, []).append(row)
        boxes: list[np.ndarray] = [np.zeros((0, 5))] * len(images)
        for rows in alike.values():
            batch = torch.from_numpy(np.stack([drawn[row][0] for row in rows]))
            maps = self.network(to_input(batch, self.device)).float().cpu().numpy()
            for row, own in zip(rows, maps, strict=True):
                found = decode(own, self.settings.threshold, self.settings.overlap)
                boxes[row] = to_image(found.astype(np.float64), drawn[row][1], images[row].shape)
        return boxes


def read_checkpoint(path: str | Path) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """A detector's checkpoint, and the sections of its settings in it.

    Raises:
        CheckpointError: The file is missing, damaged or not a detector's.
    """
    checkpoint = load_checkpoint(path)
    if not is_detectors(checkpoint):
        raise CheckpointError(f"{path}: not a person detector's checkpoint; give one of tools/train_detector.py")
    return checkpoint, checkpoint["settings"]


def trained_network(checkpoint: Mapping[str, Any], model: Mapping[str, Any], path: str | Path) -> DetectionNet:
    """The network of a checkpoint, on the CPU in float32; of a training that goes on the averaged one, if there is one.

    Args:
        checkpoint: A checkpoint of :func:`read_checkpoint`.
        model: The ``model`` section of its settings.
        path: What messages call the file.

    Raises:
        CheckpointError: The weights are of another network.
        OptionError: A key or value of ``model`` is wrong.
    """
    network = options.call(DetectionNet, model, "model")
    load_state(network, trained_state(checkpoint), path)
    return network
