"""Networks as the predictor takes them: crops in, heatmap coordinates and joint scores out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from pose.inference.profiler import Profiler
from pose.skeleton import Skeleton

if TYPE_CHECKING:
    import torch
    from torch import nn

    from pose.config import TestSettings


class PoseNetwork(Protocol):
    """What the predictor asks of a network.

    Attributes:
        skeleton: What the K keypoints are.
        input_size: Width and height of the crops in pixels.
        heatmap_size: Width and height of the heatmaps.
    """

    skeleton: Skeleton
    input_size: tuple[int, int]
    heatmap_size: tuple[int, int]

    def __call__(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, H, W, 3) uint8 BGR crops to coordinates (N, K, 2) in heatmap pixels and scores (N, K)."""


class TorchNetwork:
    """A trained ``PoseNet``; the test tool's own way from crops to keypoints.

    Args:
        model: Taken to the device and set to evaluation mode; its native form is used where ``settings`` say so.
        skeleton: What its keypoints are.
        input_size: Width and height of the crops.
        settings: ``flip``, ``flip_shift``, ``decode`` and ``native`` are used.
        device: Where to compute.
        profiler: Times the forward passes.

    Raises:
        OptionError: Native layers are asked for on a device that is not a CPU.
    """

    def __init__(
        self,
        model: nn.Module,
        skeleton: Skeleton,
        input_size: tuple[int, int],
        settings: TestSettings,
        device: torch.device | str,
        profiler: Profiler | None = None,
    ) -> None:
        from pose.models.pose_net import HEATMAP_STRIDE
        from pose.prediction import ready_for_testing

        self.model = ready_for_testing(model, settings, device)
        self.skeleton = skeleton
        self.input_size = (input_size[0], input_size[1])
        self.heatmap_size = (input_size[0] // HEATMAP_STRIDE, input_size[1] // HEATMAP_STRIDE)
        self.settings = settings
        self.device = device
        self.profiler = profiler or Profiler()

    def __call__(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`PoseNetwork`."""
        import torch

        from pose.prediction import predict_crops

        batch = torch.from_numpy(crops)
        return predict_crops(self._forward, batch, self.skeleton.flip_index, self.settings, self.device)

    def _forward(self, images: torch.Tensor) -> torch.Tensor:
        with self.profiler("forward"):
            heatmaps = self.model(images)
            if self.profiler.exact and heatmaps.is_cuda:
                import torch

                torch.cuda.synchronize(heatmaps.device)
        return heatmaps
