"""Looking inside dynamic convolution: how kernels are used, and what is left without the attention.

DY-CNN (arXiv 1912.03458), Table 3 (other aggregations of the same kernels) and Table 4 (attention at
some resolutions only).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pose.models.dynamic.attention import KernelAttention

DEAD = 0.01
"""A kernel with a smaller share of the attention, on average, is dead."""


def _average(attention: Tensor, generator: torch.Generator) -> Tensor:
    return attention.mean(dim=1, keepdim=True).expand_as(attention)


def _max(attention: Tensor, generator: torch.Generator) -> Tensor:
    largest = torch.zeros_like(attention).scatter_(1, attention.argmax(dim=1, keepdim=True), 1.0)
    return largest * attention.sum(dim=1, keepdim=True)


def _shuffle_kernels(attention: Tensor, generator: torch.Generator) -> Tensor:
    order = torch.rand(attention.shape, generator=generator).argsort(dim=1)
    return attention.gather(1, order.to(attention.device))


def _shuffle_images(attention: Tensor, generator: torch.Generator) -> Tensor:
    if len(attention) < 2:
        return attention
    shift = torch.randint(1, len(attention), (), generator=generator)
    return attention.roll(int(shift), dims=0)


AGGREGATIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor] | None] = {
    "attention": None,
    "average": _average,
    "max": _max,
    "shuffled per image": _shuffle_kernels,
    "shuffled across images": _shuffle_images,
}
"""Table 3: what becomes of the attention (N, K); its sum stays. An image alone in its batch keeps its own."""


@dataclass(frozen=True)
class KernelUse:
    """How one layer used its kernels on some images.

    Args:
        name: The layer's name in the network.
        input_stride: Image pixels per pixel of its input.
        images: The number of images.
        entropy: Entropy of each image's attention, averaged: 1 is uniform, 0 one kernel.
        shares: Average attention of each kernel, their sum is 1.
        chosen: Share of the images in which each kernel has the largest attention.
    """

    name: str
    input_stride: int
    images: int
    entropy: float
    shares: tuple[float, ...]
    chosen: tuple[float, ...]

    @property
    def dead(self) -> tuple[int, ...]:
        """Kernels whose share is below :data:`DEAD`."""
        return tuple(kernel for kernel, share in enumerate(self.shares) if share < DEAD)


@contextmanager
def aggregated(
    model: nn.Module, how: str, input_strides: Collection[int] | None = None, seed: int = 0
) -> Iterator[None]:
    """Lets dynamic layers mix their kernels in another way within the block.

    ``aggregated(model, "average", input_strides=[4])`` switches the attention off at 64 x 48 of
    256 x 192 (Table 4).

    Args:
        model: A network that is called with images (N, 3, H, W), H a multiple of 32.
        how: One of :data:`AGGREGATIONS`.
        input_strides: Only layers whose input lies at these strides of the image; None for all.
        seed: Seed of the shuffling.

    Raises:
        ValueError: There is no such aggregation.
    """
    if how not in AGGREGATIONS:
        raise ValueError(f"how must be one of {', '.join(AGGREGATIONS)}, got {how!r}")
    change, generator = AGGREGATIONS[how], torch.Generator().manual_seed(seed)

    def hook(name: str, stride: int, attention: Tensor) -> Tensor | None:
        here = input_strides is None or stride in input_strides
        return change(attention, generator) if here and change is not None else None

    with _hooked(model, hook):
        yield


@contextmanager
def watched(model: nn.Module) -> Iterator[Callable[[], list[KernelUse]]]:
    """Counts every image that passes within the block; the yielded function tells the use of every dynamic layer.

    Args:
        model: A network that is called with images (N, 3, H, W), H a multiple of 32.
    """
    strides: dict[str, int] = {}
    sums: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
    images: dict[str, int] = {}

    def hook(name: str, stride: int, attention: Tensor) -> None:
        shares = attention.detach() / attention.detach().sum(dim=1, keepdim=True)
        entropy = torch.special.entr(shares).sum()
        chosen = nn.functional.one_hot(shares.argmax(dim=1), shares.shape[1]).sum(dim=0)
        first, second, third = sums.get(name, (0, 0, 0))
        sums[name] = (first + entropy, second + shares.sum(dim=0), third + chosen)
        images[name] = images.get(name, 0) + len(shares)
        strides[name] = stride

    def uses() -> list[KernelUse]:
        result = []
        for name, (entropy, shares, chosen) in sums.items():
            uniform = torch.tensor(float(len(shares))).log().item()
            result.append(
                KernelUse(
                    name,
                    strides[name],
                    images[name],
                    entropy.item() / images[name] / uniform if uniform else 0.0,
                    tuple((shares / images[name]).tolist()),
                    tuple((chosen / images[name]).tolist()),
                )
            )
        return result

    with _hooked(model, hook):
        yield uses


@contextmanager
def _hooked(model: nn.Module, hook: Callable[[str, int, Tensor], Tensor | None]) -> Iterator[None]:
    """Calls ``hook(layer's name, stride of its input, attention)`` wherever kernels are mixed."""
    height = 0

    def remember(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal height
        height = inputs[0].shape[2]

    def call(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor | None]:
        return lambda _, inputs, attention: hook(name, round(height / inputs[0].shape[2]), attention)

    handles = [model.register_forward_pre_hook(remember)]
    for name, module in model.named_modules():
        if isinstance(module, KernelAttention):
            handles.append(module.register_forward_hook(call(name.removesuffix(".attention"))))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
