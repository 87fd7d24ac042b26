"""Whether a training has diverged, asked before a checkpoint is written: what is saved can be gone on from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pose.engine import distributed
from pose.engine.progress import TrainingError
from pose.engine.trainer import Trainer
from pose.engine.work_dir import LAST, PREVIOUS

_SEED = 0


class Diverged(TrainingError):
    """The loss or the network's state is no longer finite."""


def diverged(error: Diverged, work_dir: Path) -> TrainingError:
    """The same, with what is kept and how to go on."""
    kept = next((work_dir / name for name in (LAST, PREVIOUS) if (work_dir / name).exists()), None)
    if kept is None:
        return TrainingError(f"{error}; no checkpoint was written yet: start with a lower train.learning_rate")
    return TrainingError(
        f"{error}; the last checkpoint is kept, {kept}: go on with --resume and a lower train.learning_rate, or look "
        "at the data with that checkpoint"
    )


def check_finite(trainer: Trainer) -> None:
    """Refuses a state that holds NaN or infinity, or whose network does, though its weights are finite.

    The loss is that before a step: a last step that was far too large shows in the next loss alone, which is after the
    checkpoint. The network is therefore run on noise, in float32 with the batch statistics that it keeps; neither its
    state nor any random number of the run is changed. Every process calls it, and all raise where one does.

    Raises:
        Diverged: It is such a state.
    """
    problem = _problem(trainer)
    found = next((each for each in distributed.gathered(problem) if each), None)
    if found:
        raise Diverged(found)


def _problem(trainer: Trainer) -> str | None:
    state = trainer.state_dict()
    named = {
        f"the {part}'s {name}": value
        for part in ("model", "optimizer", "average")
        for name, value in _tensors(state[part])
    }
    finite = [torch.isfinite(value).all() for value in named.values()]
    if finite and not torch.stack([each.cpu() for each in finite]).all():
        name = next(name for name, each in zip(named, finite, strict=True) if not each)
        return f"{name} holds NaN or infinity"
    networks = [trainer.model] if trainer.average is None else [trainer.model, trainer.average.module]
    shape = trainer.input_shape
    if shape is not None and not all(_answers(network, shape, trainer) for network in networks):
        return "the network answers with NaN or infinity"
    return None


def _answers(network: nn.Module, shape: tuple[int, ...], trainer: Trainer) -> bool:
    """Whether a network's outputs, and their squares, are finite."""
    noise = torch.randn(1, *shape, generator=torch.Generator().manual_seed(_SEED)).to(trainer.device)
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            outputs = network(noise.contiguous(memory_format=trainer.memory_format))
    finally:
        for module, training in modes:
            module.training = training
    return all(bool(torch.isfinite(value.float().square()).all()) for _, value in _tensors({"output": outputs}))


def _tensors(values: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """The floating tensors in nested mappings and lists, with the keys that lead to them."""
    if isinstance(values, Tensor):
        if values.is_floating_point():
            yield name, values
    elif isinstance(values, Mapping):
        for key, value in values.items():
            yield from _tensors(value, f"{name}.{key}" if name else str(key))
    elif isinstance(values, list | tuple):
        for place, value in enumerate(values):
            yield from _tensors(value, f"{name}.{place}" if name else str(place))
