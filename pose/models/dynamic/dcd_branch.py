"""The dynamic branch of DCD (arXiv 2103.08756): Lambda and Phi of an image, and the size of Phi."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pose.models.dynamic.graph_bytes import LINEARS
from pose.models.dynamic.graph_forms import GraphForms, LinearForm, average

if TYPE_CHECKING:
    from pose.models.native.training.dynamic_forms import NativeTrainedBranch
    from pose.models.native.training.operations import PoolCache

LATENT_RULES = ("halved", "root")
LEAST_CHANNELS = 4
"""Least channels of the latent space and of the branch's hidden layer."""


class DynamicBranch(nn.Module):
    """Lambda and Phi of an image: average pool, FC, a gate on its own values, one FC for each.

    Gate and hard sigmoid are the released implementation's; no FC has a bias.

    Args:
        in_channels: C_in.
        pool_size: The averages are ``pool_size`` x ``pool_size``.
        hidden_channels: Units between the FCs.
        scale_channels: C_out, the channels that Lambda scales; None for no Lambda.
        phi_shape: (B, L, L, L_k) of Phi, None for no Phi.
        device, dtype: As for ``nn.Linear``.
    """

    def __init__(
        self,
        in_channels: int,
        pool_size: int,
        hidden_channels: int,
        scale_channels: int | None,
        phi_shape: tuple[int, int, int, int] | None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        place: dict[str, Any] = {"bias": False, "device": device, "dtype": dtype}
        self.pool_size = pool_size
        self.phi_shape = phi_shape
        self.reduce = nn.Linear(in_channels * pool_size**2, hidden_channels, **place)
        self.gate = nn.Linear(hidden_channels, hidden_channels, **place)
        self.to_lambda = self.to_phi = None
        if scale_channels is not None:
            self.to_lambda = nn.Linear(hidden_channels, scale_channels, **place)
        if phi_shape is not None:
            self.to_phi = nn.Linear(hidden_channels, math.prod(phi_shape), **place)

    def reset_parameters(self) -> None:
        """Lambda starts near 1 and Phi near the identity."""
        self.reduce.reset_parameters()
        self.gate.reset_parameters()
        for layer in (self.to_lambda, self.to_phi):
            if layer is not None:
                nn.init.normal_(layer.weight, std=0.01)

    def forward(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """(N, C_in, H, W) to Lambda (N, C_out) and Phi - I (N, B, L, L, L_k), in the weights' precision."""
        with torch.autocast(x.device.type, enabled=False):
            return self.values(F.adaptive_avg_pool2d(x.to(self.reduce.weight.dtype), self.pool_size).flatten(1))

    def values(self, averages: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """(N, C_in x ``pool_size``^2) averages to what :meth:`forward` returns."""
        scale, phi = self.vectors(averages)
        return scale, None if phi is None else phi.unflatten(1, self.phi_shape)

    def vectors(self, averages: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """:meth:`values`, with Phi - I as (N, B L L L_k)."""
        hidden = self.reduce(averages)
        hidden = hidden * _hard_sigmoid(self.gate(hidden))
        scale = None if self.to_lambda is None else _hard_sigmoid(self.to_lambda(hidden))
        return scale, None if self.to_phi is None else self.to_phi(hidden)

    def native_training(self, pool_cache: PoolCache) -> NativeTrainedBranch:
        """Its form for native training."""
        from pose.models.native.training.dynamic_forms import NativeTrainedBranch

        return NativeTrainedBranch.of(self, pool_cache)

    def graph_form(self, forms: GraphForms) -> BranchForm:
        """Its form in a graph of one image."""
        return BranchForm(self, forms)


class BranchForm(nn.Module):
    """A branch in a graph, which has no operation for averages over parts of any size.

    Args:
        branch: The branch, whose layers are replaced.
        forms: ``linear``, ``bank`` and what concerns averages are used.
    """

    def __init__(self, branch: DynamicBranch, forms: GraphForms) -> None:
        super().__init__()
        in_bytes = LINEARS.get(forms.bank or "")
        for name, layer in list(branch.named_children()):
            if isinstance(layer, nn.Linear) and in_bytes is not None:
                setattr(branch, name, in_bytes(layer.weight, layer.bias))
            elif isinstance(layer, nn.Linear) and forms.linear == "convolution":
                setattr(branch, name, LinearForm(layer, forms))
        self.forms = forms
        children = [name for name, layer in branch.named_children() if isinstance(layer, nn.Linear)]
        self.quantized = [[f"branch.{name}.weight"] for name in children if forms.bank == "linear"]
        self.branch = branch  # and no name for parts of it: pnnx computes otherwise what a module holds under two names

    def forward(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """See :meth:`DynamicBranch.forward`."""
        return self.branch.values(self._averages(x))

    def vectors(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """See :meth:`DynamicBranch.vectors`; takes (N, C_in, H, W)."""
        return self.branch.vectors(self._averages(x))

    def _averages(self, x: Tensor) -> Tensor:
        if self.branch.pool_size == 1:
            return average(x, self.forms)
        height, width = int(x.shape[2]), int(x.shape[3])
        rows, columns = _window(height, self.branch.pool_size), _window(width, self.branch.pool_size)
        if self.forms.averages == "kept" and rows and columns:
            return F.avg_pool2d(x, (rows[0], columns[0]), (rows[1], columns[1])).flatten(1)
        parts = np.kron(_parts(height, self.branch.pool_size), _parts(width, self.branch.pool_size))
        return (x.flatten(2) @ torch.tensor(parts, device=x.device)).flatten(1)


def _parts(size: int, count: int) -> np.ndarray:
    """What a side's ``count`` averages are made of, as of ``F.adaptive_avg_pool2d``: (size, count) float32.

    It is made without torch, whose exporter would have it made again for every image.
    """
    matrix = np.zeros((size, count), np.float32)
    for index in range(count):
        first, end = index * size // count, -(-(index + 1) * size // count)
        matrix[first:end, index] = 1 / (end - first)
    return matrix


def _window(size: int, count: int) -> tuple[int, int] | None:
    """Size and stride of windows that are a side's ``count`` averages; None where no such two numbers are."""
    starts = [index * size // count for index in range(count)]
    sizes = {-(-(index + 1) * size // count) - start for index, start in enumerate(starts)}
    strides = {after - before for before, after in pairwise(starts)}
    return (sizes.pop(), strides.pop()) if len(sizes) == len(strides) == 1 and 0 not in strides else None


def default_latent_channels(in_channels: int, out_channels: int, pool_size: int, rule: str, elements: int = 1) -> int:
    """L as the released implementation chooses it, before the multiplier.

    With F = C_in x ``pool_size``^2 branch inputs, ``root`` is the largest L with L^2 ``elements`` <= F;
    ``halved`` is the smaller of F and C_out divided by 2 ``pool_size``^2, halved until L^2 <= 2 F.

    Args:
        in_channels, out_channels: The numbers of channels.
        pool_size: Pool size of the branch.
        rule: One of :data:`LATENT_RULES`.
        elements: L_k of joint fusion, else 1.
    """
    features = in_channels * pool_size**2
    if rule == "root":
        return math.isqrt(features // elements)
    divisor = 2 * pool_size**2
    while (min(features, out_channels) // divisor) ** 2 > 2 * features:
        divisor *= 2
    return min(features, out_channels) // divisor


def _hard_sigmoid(x: Tensor) -> Tensor:
    """A hard sigmoid from 0 to 2, which is 1 at 0."""
    return F.relu6(x + 3.0) / 3.0
