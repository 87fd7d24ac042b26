"""LiteRT, which was TensorFlow Lite: ``NAME.tflite``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pose.errors import require
from pose.runtimes.session import NetworkSession, read_details


def open_file(path: str | Path, threads: int = 0) -> NetworkSession:
    """0 threads are one."""
    module, metadata = require("ai_edge_litert.interpreter"), read_details(path)
    interpreter = module.Interpreter(str(path), num_threads=max(threads, 1))
    interpreter.allocate_tensors()
    (entry,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(images: np.ndarray) -> list[np.ndarray]:
        interpreter.set_tensor(entry["index"], images)
        interpreter.invoke()
        return [interpreter.get_tensor(output["index"])]

    return NetworkSession(run, metadata, one_image=True)
