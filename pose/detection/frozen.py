"""Layers that do not learn, run without gradients and, on a CPU, natively."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pose.models.deploy.folding import deploy


class FrozenSequence(nn.Sequential):
    """A sequence whose weights and batch statistics stay what they are, in training too.

    Its parameters ask for no gradient. On a CPU a folded, native copy computes
    (:func:`pose.models.deploy.folding.deploy`), made at the first call and again after weights are loaded: of the
    detector's training step, half the time would else be spent on layers that a short training hardly moves.

    Args:
        layers: Of this project, float32.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.requires_grad_(False)
        self.eval()
        self._forms: list[nn.Module] = []  # in a list: not a part, so that it has no weights of its own to save

    def train(self, mode: bool = True) -> FrozenSequence:
        """Stays in evaluation mode."""
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        """As the layers one after another, without gradients."""
        with torch.no_grad():
            if x.device.type != "cpu":
                return super().forward(x)
            if not self._forms:
                self._forms.append(deploy(nn.Sequential(*self)))
            return self._forms[0](x)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._forms.clear()
        super()._load_from_state_dict(*args, **kwargs)
