"""The random numbers of Python, NumPy and torch: set from a seed, kept, brought back."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Sets the global generators of this process; those of all its GPUs, too."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002, for code of others that uses the global one
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """The global generators' states, in plain values and tensors."""
    name, keys, place, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002
    assert isinstance(keys, np.ndarray)
    return {
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), place, has_gauss, gauss],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Sets what :func:`random_state` returned; a GPU's where there was one and is one."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, place, has_gauss, normal = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), place, has_gauss, normal))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(state["cuda"])
