"""Checkpoints: saved beside and renamed, checked by checksum, read without running code, loaded only where they fit."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

import torch
from torch import nn

from pose.errors import CheckpointError
from pose.files import DAMAGED, replacing

KEYPOINTS = "keypoints"
"""A checkpoint's names of its network's keypoints, in the order of the last layer's channels."""

_AVERAGED = "module."
"""What the names of averaged weights begin with in a training's checkpoint, as torch's AveragedModel has it."""


def save_checkpoint(path: str | Path, contents: Mapping[str, Any], previous: str | Path | None = None) -> None:
    """Writes a checkpoint; what was there before stays until the new one is whole and on the disk.

    Args:
        path: The file.
        contents: Tensors and plain values, ``model`` among them: the network's state dict.
        previous: Where to keep what was at ``path`` before.

    Raises:
        OutputError: The place cannot be written, e.g. because the disk is full.
    """
    path = Path(path)
    with replacing(path) as temporary:
        with _os_errors(), open(temporary, "wb") as file:
            torch.save(dict(contents), file)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            _keep(path, Path(previous))
    if os.name == "nt":
        return  # which opens no folders
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name is on the disk, too
    finally:
        os.close(folder)


@contextmanager
def _os_errors() -> Iterator[None]:
    """Raises the OSError that torch hides: ending its file fails on a full disk, with a RuntimeError of its own."""
    try:
        yield
    except RuntimeError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        raise cause from error


def _keep(path: Path, previous: Path) -> None:
    """Gives a file a second name; where the file system knows no such thing, its only one."""
    link = previous.with_name(f".{previous.name}.{os.getpid()}")
    try:
        os.link(path, link)
        os.replace(link, previous)
    except OSError:
        os.replace(path, previous)
    finally:
        link.unlink(missing_ok=True)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads a checkpoint on the CPU with ``weights_only=True``: no code of the file is run.

    Every record's checksum is compared first. A bare state dict comes back as ``{"model": state_dict}``. A checkpoint
    of mmpose, SimpleBaseline or HRNet of a network that this project has comes back as one of this project, see
    :mod:`pose.simple_baseline`; one of mmpose that is published may be given by name, see
    :mod:`pose.published_weights`.

    Raises:
        CheckpointError: The file is missing, damaged or no checkpoint, or its weights hold NaN or infinity.
    """
    if ":" in str(path):  # a path may have one, too, and stays as it is
        from pose.published_weights import published_file

        path = published_file(path)
    try:
        with open(path, "rb") as file:
            _compare_checksums(file)
            contents = _read(file)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: checkpoint not found; give the path of a trained .pth file") from error
    except DAMAGED as error:
        reason = "" if isinstance(error, pickle.UnpicklingError | KeyError) else str(error).strip().partition("\n")[0]
        raise CheckpointError(
            f"{path}: not a whole checkpoint with weights only ({reason or type(error).__name__}); "
            "it may be cut off or of another program: use the .pth file of a training; an exported network stands for "
            "CONFIG as well, so leave that out"
        ) from error
    if isinstance(contents, dict) and "model" not in contents:
        contents = _as_ours(contents, path)
    _check_state(contents["model"] if isinstance(contents, dict) else None, path)
    if contents.get("average"):
        _check_state(contents["average"], path)
    return contents


def _as_ours(contents: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """Another program's checkpoint, or a bare state dict, as one of this project."""
    from pose.simple_baseline import WEIGHTS, by_our_names  # checkpoints of this project need none of it

    theirs = by_our_names(contents)
    if theirs is not None:
        model, names = theirs
        return {"model": model, **({KEYPOINTS: names} if names else {})}
    if WEIGHTS in contents:
        raise CheckpointError(
            f"{path}: another program's checkpoint, of a network that this project does not have; those of mmpose's, "
            "SimpleBaseline's and HRNet's ResNet-18 and 50 and of mmpose's MobileNetV2, with deconvolutions, are taken"
        )
    return {"model": contents}


def _check_state(state: object, path: str | Path) -> None:
    """Refuses what is no state dict, or one with numbers that are none.

    Args:
        state: Part of a checkpoint.
        path: The checkpoint, for messages.

    Raises:
        CheckpointError: It is not tensors by name, or a tensor holds NaN or infinity; names the tensor.
    """
    if not _is_state(state):
        raise CheckpointError(f"{path}: a file of torch, but no checkpoint with a network's weights; use another one")
    name = not_finite(state)
    if name is not None:
        raise CheckpointError(
            f"{path}: its tensor {name} holds NaN or infinity, perhaps of a training that diverged; use another one"
        )


def trained_state(checkpoint: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The weights of a checkpoint that count: of a training that goes on (``last.pth``) the averaged ones, if any."""
    average = checkpoint.get("average")
    if not average:
        return checkpoint["model"]
    return {name.removeprefix(_AVERAGED): value for name, value in average.items() if name.startswith(_AVERAGED)}


def _read(file: BinaryIO) -> Any:
    """The file's contents, also where another program put arrays beside the weights."""
    file.seek(0)
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = error
    from pose.simple_baseline import inert_values_allowed

    file.seek(0)
    try:
        with inert_values_allowed():
            return torch.load(file, map_location="cpu", weights_only=True)
    except AttributeError:  # of torch before 2.6, which knows no such list
        raise refused from None


def in_half_precision(state: Mapping[str, torch.Tensor], path: str | Path) -> dict[str, torch.Tensor]:
    """A state dict's float32 tensors as float16: half the size on disk.

    Args:
        state: The tensors by name.
        path: The checkpoint, for messages.

    Raises:
        CheckpointError: A value is too large.
    """
    half = {name: value.half() if value.dtype == torch.float32 else value for name, value in state.items()}
    if not_finite(half) is not None:
        raise CheckpointError(f"{path}: holds numbers too large for half precision")
    return half


def not_finite(state: Mapping[str, torch.Tensor]) -> str | None:
    """The name of the first tensor of a state dict that holds NaN or infinity; None where all are finite."""
    return next((name for name, values in state.items() if not torch.isfinite(values).all()), None)


def _is_state(model: object) -> TypeGuard[dict[str, torch.Tensor]]:
    return isinstance(model, dict) and bool(model) and all(isinstance(value, torch.Tensor) for value in model.values())


def _compare_checksums(file: BinaryIO) -> None:
    """torch writes a CRC-32 for every record of its zip file, but does not look at it when reading."""
    if file.read(2) != b"PK":  # torch's format before 1.6 has none
        return
    damaged = zipfile.ZipFile(file).testzip()
    if damaged is not None:
        raise ValueError(f"its record {damaged} does not match its checksum")


def load_newest(paths: Sequence[Path]) -> tuple[dict[str, Any], Path, list[CheckpointError]]:
    """The first of several checkpoints that is whole.

    Args:
        paths: The paths, from the newest to the oldest; those that do not exist are passed over.

    Returns:
        Its contents, its path, and what is wrong with those before it.

    Raises:
        CheckpointError: None is whole.
    """
    errors: list[CheckpointError] = []
    for path in paths:
        if path.exists():
            try:
                return load_checkpoint(path), path, errors
            except CheckpointError as error:
                errors.append(error)
    raise errors[0] if errors else CheckpointError(f"{paths[0]}: checkpoint not found")


def load_weights(model: nn.Module, path: str | Path) -> dict[str, Any]:
    """Loads a checkpoint's weights (:func:`trained_state`) into a network; every name and shape must fit.

    Returns:
        The checkpoint.

    Raises:
        CheckpointError: It is broken or of another network; the network is unchanged then.
    """
    checkpoint = load_checkpoint(path)
    try:
        load_state(model, trained_state(checkpoint), path)
    except CheckpointError as error:
        if not is_detectors(checkpoint):
            raise
        raise CheckpointError(f"{path}: a person detector's checkpoint, which finds boxes and no keypoints") from error
    return checkpoint


def is_detectors(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a checkpoint is one of a person detector, by the sections of its settings."""
    sections = checkpoint.get("settings", {})
    return isinstance(sections, Mapping) and "canvas" in sections


def load_state(model: nn.Module, state: Mapping[str, torch.Tensor], path: str | Path) -> None:
    """Loads a state dict that came from ``path``; see :func:`load_weights`."""
    own = model.state_dict()
    missing = [name for name in own if name not in state]
    unknown = [name for name in state if name not in own]
    shapes = [name for name in own if name in state and own[name].shape != state[name].shape]
    if missing or unknown or shapes:
        example = (missing or unknown or shapes)[0]
        raise CheckpointError(
            f"{path}: checkpoint of another network: of this network's {len(own)} tensors {len(missing)} are not in it "
            f"and {len(shapes)} have another shape, {len(unknown)} of its own are not wanted (e.g. {example}); "
            "give the configuration it was trained with"
        )
    model.load_state_dict(state)
