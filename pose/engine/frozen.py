"""Parts of a network that stay as they are while the others learn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import partial
from itertools import chain

import torch
from torch import Tensor, nn

from pose.models.deploy.folding import deploy
from pose.options import OptionError, nearest


class FrozenParts:
    """Keeps parts of a network from learning.

    Their weights get no gradient, and their normalisation uses and keeps its running statistics. Where everything that
    the network does first is frozen, nothing is kept for a backward pass through it, and with ``fold`` it runs folded
    by native layers, neighbours in one call.

    Args:
        model: The network. What it does first is what its ``chains`` say: sequences of layers, one after another from
            the input on, each layer called with the output of the one before. Without them a backbone with ``blocks``
            runs its children in the order in which they are registered, as all backbones here do.
        names: The parts' names, e.g. ``backbone.stem``, or patterns such as ``backbone.blocks.[0-5]``.
        fold: Run the frozen beginning folded, see :func:`pose.models.deploy.folding.deploy`; on a CPU in float32.

    Raises:
        OptionError: No part has such a name; names the nearest.
    """

    def __init__(self, model: nn.Module, names: Sequence[str], fold: bool = False) -> None:
        known = dict(model.named_modules())
        self.parts: list[nn.Module] = []
        for name in names:
            found = [part for own, part in known.items() if own and fnmatchcase(own, name)]
            if not found:
                raise OptionError(f"train.frozen: no part {name!r}: {nearest(name, list(known)[1:])}")
            self.parts += found
        self._fold = fold
        self._beginning = _frozen_beginning(model, self.parts)
        self._folded: list[nn.Module] = []
        for part in self.parts:
            part.requires_grad_(False)

    def hold(self) -> None:
        """Puts the parts into evaluation mode; call it after the network was put into training mode.

        What is folded is folded anew at the next step, from the weights of then.
        """
        for part in self.parts:
            part.eval()
        self._folded = []

    def release(self) -> None:
        """Lets the parts learn from now on."""
        for part in self.parts:
            part.requires_grad_(True)
            part.train()
        self.parts, self._beginning, self._folded = [], [], []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Runs the network's frozen beginning folded within the block, where that was asked for."""
        if not self._fold or not self._beginning:
            yield
            return
        if not self._folded:
            self._folded = [deploy(nn.Sequential(*layers)) for layers in self._beginning]
        for layers, folded in zip(self._beginning, self._folded, strict=True):
            first, *others = layers
            first.forward = partial(_run, folded)
            for part in others:
                part.forward = _as_it_is
        try:
            yield
        finally:
            for part in chain.from_iterable(self._beginning):
                del part.forward


def _run(folded: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return folded(x).contiguous(memory_format=torch.channels_last)


def _as_it_is(x: Tensor) -> Tensor:
    return x


def _frozen_beginning(model: nn.Module, frozen: Sequence[nn.Module]) -> list[list[nn.Module]]:
    """What the network does first, as far as all of it is frozen; layers without weights count where they stand."""
    still = {id(parameter) for part in frozen for parameter in part.parameters()}
    beginning: list[list[nn.Module]] = []
    for layers in _chains(model):
        held = [all(id(parameter) in still for parameter in layer.parameters()) for layer in layers]
        count = held.index(False) if False in held else len(layers)
        if count:
            beginning.append(layers[:count])
        if count < len(layers):
            break
    return beginning


def _chains(model: nn.Module) -> list[list[nn.Module]]:
    """The sequences of layers from the input on, see :class:`FrozenParts`."""
    own = getattr(model, "chains", None)
    if own is not None:
        return own()
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, nn.Module) or not isinstance(getattr(backbone, "blocks", None), nn.Sequential):
        return []
    steps: list[nn.Module] = []
    for child in backbone.children():
        steps += list(child) if isinstance(child, nn.Sequential) else [child]
    return [steps]
