"""Repeats canvases in several epochs, and keeps in memory what layers that do not learn make of them."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from pose.detection.dataset import CanvasDataset, Canvases
from pose.detection.network import DetectionNet
from pose.models.deploy.folding import deploy
from pose.prediction import to_input


class RepeatedCanvases(Canvases):
    """Draws new canvases once in ``repeats`` epochs; between, it remembers their features.

    A training whose time goes into layers that are frozen learns more in the same time from canvases that it sees
    again than from new ones, as long as they are many.

    Args:
        dataset: The data set of canvases.
        repeats: Epochs that see the same ones.
        network: The network whose stages are frozen; they compute on the CPU, picture by picture.
    """

    def __init__(self, dataset: CanvasDataset, repeats: int, network: DetectionNet) -> None:
        self.dataset, self.repeats, self.seed = dataset, repeats, dataset.seed
        self.network = network
        self._form: DetectionNet | None = None  # made when it is first wanted: the network may get weights until then
        self._drawn = -1
        self._known: dict[int, tuple[Tensor, np.ndarray, np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: tuple[int, ...]) -> tuple[Tensor, np.ndarray, np.ndarray]:
        """The features (C, h, w) float32 by epoch, row and copy, and the dataset's boxes and kinds."""
        epoch, row = place[:2]
        drawn = epoch // self.repeats
        if drawn != self._drawn:
            self._drawn = drawn
            self._known.clear()
        if row not in self._known:
            image, boxes, kinds = self.dataset[drawn, row]
            form = self._form = self._form or self._deployed()
            with torch.inference_mode():
                features = form.frozen_features(to_input(torch.from_numpy(image)[None], "cpu"))[0]
            self._known[row] = features.clone(), boxes, kinds
        return self._known[row]

    def _deployed(self) -> DetectionNet:
        form = copy.deepcopy(self.network).eval()
        form.stages = nn.ModuleList(deploy(stage) for stage in form.stages)
        return form
