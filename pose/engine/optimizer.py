"""Which optimizer changes which weights, and by how much they decay."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from pose.train_settings import Schedule


def optimizer_of(schedule: Schedule) -> Callable[..., torch.optim.Optimizer]:
    """Makes the function from groups of parameters to the optimizer that ``train.optimizer`` names."""
    makers: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "sgd": partial(torch.optim.SGD, momentum=schedule.momentum),
    }
    return makers[schedule.optimizer]


def parameter_groups(model: nn.Module, weight_decay: float = 0.0) -> list[dict[str, Any]]:
    """A network's parameters as an optimizer takes them: one group, or with weight decay two.

    Kernels and matrices decay. Biases do not, those of a dynamic layer's kernels among them, and neither do the scales
    and offsets of normalisation.

    Args:
        model: The network whose parameters they are.
        weight_decay: The decay of the first group.
    """
    if not weight_decay:
        return [{"params": list(model.parameters()), "weight_decay": 0.0}]
    decaying: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        decays = parameter.ndim > 1 and not name.rpartition(".")[2].startswith("bias")
        (decaying if decays else others).append(parameter)
    return [{"params": decaying, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
