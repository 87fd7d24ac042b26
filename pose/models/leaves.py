"""The layers of a network one by one, a dynamic layer counting as the one layer that it stands for."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from pose.models.dynamic.base import DynamicLayer

LEAVES = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm2d, DynamicLayer)


def leaf_layers(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Names and layers of :data:`LEAVES`, in the order in which they were registered, nothing inside them."""
    if isinstance(module, LEAVES):
        yield name, module
        return
    for child_name, child in module.named_children():
        yield from leaf_layers(child, f"{name}.{child_name}" if name else child_name)
