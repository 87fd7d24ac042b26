"""What of a network a converter refuses: its own words name operations, which nobody has written."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pose.errors import MissingExtra
from pose.export.errors import ExportError

Write = Callable[[nn.Module, Tensor, Path], None]


def refused(write: Write, network: nn.Module, x: Tensor, suffix: str, rounded: bool) -> str:
    """What is refused, for people: a part of the network, the network as a whole, its 8 bits, or anything at all.

    Args:
        write: Writes a module and its input to a file, in float32, or raises.
        network: What was refused.
        x: The network's input.
        suffix: What the names of its files end with.
        rounded: Whether something else than ``write`` refused it, which rounds what ``write`` has written.
    """
    print("refused; what of it is looked for, which can take minutes", file=sys.stderr)
    if not _converts(write, nn.Identity(), x, suffix):
        return "whatever it is given, so its installation may be broken: not this network alone"
    if rounded and _converts(write, network, x, suffix):
        return "8 bits of the network, which it takes in float32"
    part = refused_part(write, network, x, suffix)
    return f"{part}, alone as well" if part else "the network, though each part of it alone converts"


def refusal(path: str | Path, converter: str, what: str, error: Exception, others: Sequence[str]) -> ExportError:
    """The error that tells of a refusal.

    Args:
        path: The file that is not written.
        converter: The name of the program that refuses it.
        what: What :func:`refused` returns.
        error: What the converter raised, of which the beginning is told.
        others: The formats that may take the network; there may be none.
    """
    said = " ".join(str(error).split())[:300]
    hint = f"; --format {' or '.join(others)} may take it" if others else ""
    return ExportError(f"{path}: {converter} refuses {what} ({said}){hint}")


def refused_part(write: Write, network: nn.Module, x: Tensor, suffix: str) -> str | None:
    """The smallest part of a network, by its name, that a converter refuses alone as well.

    Parts are converted one by one, from the whole down, with the last input that each has in the network; those that
    take or give anything but one tensor are passed over.

    Args:
        write, network, x, suffix: As for :func:`refused`.

    Returns:
        The name and the kind, such as ``head.stages.0 (Bottleneck)``; None where no part is refused alone.
    """
    inputs = _inputs(network, x)
    found, part = None, network
    while True:
        for name, child in _called(part, inputs):
            if not _converts(write, child, inputs[child], suffix):
                found, part = name if found is None else f"{found}.{name}", child
                break
        else:
            return None if found is None else f"{found} ({type(part).__name__})"


def _converts(write: Write, part: nn.Module, x: Tensor, suffix: str) -> bool:
    """Whether a module can be written; what is no fault of its own is raised."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            write(part.eval(), x, Path(folder, f"part{suffix}"))
        except (OSError, MissingExtra):
            raise
        except Exception:  # every converter has exceptions of its own
            return False
    return True


def _inputs(network: nn.Module, x: Tensor) -> dict[nn.Module, Tensor]:
    """The input of each part that takes one tensor and gives one; empty where the network itself cannot be run."""
    inputs: dict[nn.Module, Tensor] = {}

    def keep(part: nn.Module, given: tuple[Any, ...], named: Mapping[str, Any], output: Any) -> None:
        if len(given) == 1 and not named and isinstance(given[0], Tensor) and isinstance(output, Tensor):
            inputs[part] = given[0]

    hooks = [part.register_forward_hook(keep, with_kwargs=True) for part in network.modules()]
    try:
        with torch.no_grad():
            network(x)
    except Exception:  # whatever a layer raises: it is what the converter met as well
        return {}
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
