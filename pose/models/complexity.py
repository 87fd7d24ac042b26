"""What a network costs: parameters, and multiply-adds of convolution, attention and kernel aggregation.

A multiply-add is one product with its sum. Counted are convolutions and fully connected layers, and
everything that a dynamic layer does beyond its static counterpart; an addition alone, as in the
attention's pooling, counts half. Not counted, as is usual: normalisation, which folds into the
kernels, activations, and what static networks do between convolutions (pooling, upsampling, sums).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pose.models.dynamic.base import DynamicLayer
from pose.models.leaves import leaf_layers
from pose.models.pose_net import PoseNet


@dataclass(frozen=True)
class Complexity:
    """Costs of a network or a part of it.

    Args:
        parameters: Learnable values.
        convolution: Multiply-adds of what a static network would do too.
        attention: Multiply-adds of attention and dynamic branches: pooling and fully connected layers.
        aggregation: Multiply-adds of mixing kernels (dynamic convolution), or of scaling and the residual (DCD).
    """

    parameters: int = 0
    convolution: int = 0
    attention: int = 0
    aggregation: int = 0

    @property
    def madds(self) -> int:
        """All multiply-adds."""
        return self.convolution + self.attention + self.aggregation

    def __add__(self, other: Complexity) -> Complexity:
        return Complexity(
            self.parameters + other.parameters,
            self.convolution + other.convolution,
            self.attention + other.attention,
            self.aggregation + other.aggregation,
        )


@torch.no_grad()
def measure(model: nn.Module, x: Tensor) -> tuple[Complexity, Tensor]:
    """Runs a network in evaluation mode and counts every layer as it is called.

    Args:
        model: A network made of layers of :data:`~pose.models.leaves.LEAVES`.
        x: Its input, a batch of one.

    Returns:
        The costs, and the output.
    """
    costs: list[Complexity] = []
    hooks = [
        layer.register_forward_hook(lambda layer, inputs, output: costs.append(_cost(layer, inputs[0], output)))
        for _, layer in leaf_layers(model)
    ]
    was_training = model.training
    try:
        output = model.eval()(x)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return sum(costs, Complexity(parameters)), output


def measure_pose_net(model: PoseNet, input_size: tuple[int, int]) -> tuple[Complexity, Complexity]:
    """Backbone and head of a pose network apart.

    Args:
        model: The network.
        input_size: Width and height of its input.
    """
    parameter = next(model.parameters())
    x = torch.zeros(1, 3, input_size[1], input_size[0], dtype=parameter.dtype, device=parameter.device)
    backbone, features = measure(model.backbone, x)
    return backbone, measure(model.head, features)[0]


def _cost(layer: nn.Module, x: Tensor, y: Tensor) -> Complexity:
    """Multiply-adds of one call on one image."""
    if isinstance(layer, nn.BatchNorm2d):
        return Complexity()
    if isinstance(layer, nn.Linear):
        return Complexity(convolution=layer.weight.numel())
    if isinstance(layer, nn.ConvTranspose2d):
        return Complexity(convolution=layer.weight.numel() * _pixels(x))
    assert isinstance(layer, nn.Conv2d | DynamicLayer)
    kernel = layer.out_channels * layer.in_channels // layer.groups * math.prod(layer.kernel_size)
    dynamic = layer.cost(x.shape[2], x.shape[3])._asdict() if isinstance(layer, DynamicLayer) else {}
    return Complexity(convolution=kernel * _pixels(y), **dynamic)


def _pixels(x: Tensor) -> int:
    return x.shape[2] * x.shape[3]
