"""This project's native layers, as a program of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from pose.export.errors import ExportError
from pose.models.native.inference.layers import NativeModule
from pose.native.pairs import has_pairs, pair_program
from pose.native.program import Step
from pose.native.program_file import add_details, save_program
from pose.native.rounding import round_program


def write(network: nn.Module, x: Tensor, path: Path) -> None:
    """Writes ``path``; the metadata is added by the caller.

    Raises:
        ExportError: A layer has no native form; the message names the first.
    """
    save_program(path, steps_of(network, path))


def write_int8(network: nn.Module, x: Tensor, crops: Tensor, path: Path, bfloat16: bool = False) -> None:
    """Writes ``path`` in 8 bits.

    Args:
        network: The network.
        x: An input.
        crops: (N, 3, H, W) to find the activations' ranges with.
        path: The file.
        bfloat16: Whether the layers that stay out of 8 bits compute in bfloat16.

    Raises:
        ExportError: As for :func:`write`, and with bfloat16 as for :func:`write_bfloat16`; or weights or crops are not
            all finite numbers.
    """
    if bfloat16:
        _check_pairs(path)
    steps, images = steps_of(network, path), crops.permute(0, 2, 3, 1).contiguous().numpy()
    try:
        rounded = round_program(steps, images)
    except RuntimeError as error:
        raise ExportError(f"{path}: {error}; not written") from error
    save_program(path, pair_program(rounded) if bfloat16 else rounded)


def write_bfloat16(network: nn.Module, path: Path) -> None:
    """The same in bfloat16.

    Raises:
        ExportError: As for :func:`write`, or this processor, which is to check the file, has no instructions for it.
    """
    _check_pairs(path)
    save_program(path, pair_program(steps_of(network, path)))


def _check_pairs(path: Path) -> None:
    if not has_pairs():
        raise ExportError(
            f"{path}: this processor has no instructions for bfloat16 (AVX512-BF16), to check it; not written"
        )


def steps_of(network: nn.Module, path: str | Path) -> list[Step]:
    """What a network deployed with native layers does.

    Args:
        network: The network.
        path: For messages.

    Raises:
        ExportError: As for :func:`write`.
    """
    if isinstance(network, NativeModule):
        return network.steps()
    for name, module in network.named_modules():
        if not isinstance(module, NativeModule) and not list(module.children()) and not isinstance(module, nn.Identity):
            raise ExportError(f"{path}: {name} ({type(module).__name__}) has no native form; --format onnx may take it")
    raise ExportError(f"{path}: {type(network).__name__} is no row of native layers; --format onnx may take it")


def describe(path: Path, entries: Mapping[str, str]) -> None:
    """Puts the metadata into a file."""
    add_details(path, entries)
