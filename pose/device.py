"""The device that a tool computes on."""

from __future__ import annotations

import torch

from pose.options import OptionError


def choose_device(name: str) -> torch.device:
    """The device that ``--device`` names; ``auto`` takes CUDA's first, else Apple's GPU (mps), else the CPU.

    Raises:
        OptionError: There is no such device.
    """
    if name == "auto":
        found = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(found)
    try:
        device = torch.device(name)
        if device.type == "meta":
            raise RuntimeError("it computes nothing")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise OptionError(f"--device {name}: cannot be used here ({reason}); try cpu") from error
    return device
