"""Which layer of a network a converter refuses: its own words name operations, which nobody has written."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Write = Callable[[nn.Module, Tensor, Path], None]


def refused_part(write: Write, network: nn.Module, x: Tensor, suffix: str) -> str | None:
    """The smallest part of a network, by its name, that a converter refuses alone as well.

    Parts are converted one by one, from the whole down, with the input that each has in the network; those that take
    or give anything but one tensor are passed over.

    Args:
        write: Writes a module and its input to a file, or raises.
        network: What it refuses.
        x: The network's input.
        suffix: What the names of its files end with.

    Returns:
        The name and the kind, such as ``head.stages.0 (BottleneckStage)``; None where no part is refused alone.
    """
    inputs = _inputs(network, x)

    def refuses(part: nn.Module, path: Path) -> bool:
        try:
            write(part, inputs[part], path)
        except Exception:  # every converter has exceptions of its own
            return True
        return False

    found, part = None, network
    with tempfile.TemporaryDirectory() as folder:
        count = 0
        while True:
            for name, child in _called(part, inputs):
                count += 1
                if refuses(child, Path(folder, f"{count}{suffix}")):
                    found, part = name if found is None else f"{found}.{name}", child
                    break
            else:
                return None if found is None else f"{found} ({type(part).__name__})"


def _inputs(network: nn.Module, x: Tensor) -> dict[nn.Module, Tensor]:
    """The input of each part that takes one tensor and gives one, in the network's own computation."""
    inputs: dict[nn.Module, Tensor] = {}

    def keep(part: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        if len(given) == 1 and isinstance(given[0], Tensor) and isinstance(output, Tensor):
            inputs[part] = given[0]

    hooks = [part.register_forward_hook(keep) for part in network.modules()]
    try:
        with torch.no_grad():
            network(x)
    finally:
        for hook in hooks:
            hook.remove()
    return inputs


def _called(part: nn.Module, inputs: dict[nn.Module, Tensor]) -> list[tuple[str, nn.Module]]:
    """The parts right below one that have an input, by name; those of a list that is never called stand for it."""
    found = []
    for name, child in part.named_children():
        if child in inputs:
            found.append((name, child))
        else:
            found.extend((f"{name}.{below}", module) for below, module in _called(child, inputs))
    return found
