"""ExecuTorch: ``NAME.pte``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pose.errors import require
from pose.runtimes.session import NetworkSession, read_details


def open_file(path: str | Path, threads: int = 0) -> NetworkSession:
    """Its Python module has no choice of threads."""
    runtime, metadata = require("executorch.runtime"), read_details(path)
    import torch

    program = runtime.Runtime.get().load_program(Path(path))
    method = program.load_method("forward")

    def run(images: np.ndarray) -> list[np.ndarray]:
        return [method.execute([torch.from_numpy(images)])[0].numpy().copy()]

    run.program = program  # type: ignore[attr-defined]  # the method does not keep it alive
    return NetworkSession(run, metadata, one_image=True)
