"""OpenVINO: ``NAME.xml`` and ``NAME.bin``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pose.runtimes.session import NetworkSession, read_details, require


def open_file(path: str | Path, threads: int = 0) -> NetworkSession:
    """In float32: by itself OpenVINO takes bfloat16 where the processor has it. 0 threads are its own choice."""
    openvino, metadata = require("openvino", "openvino"), read_details(path)
    options = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}
    if threads:
        options["INFERENCE_NUM_THREADS"] = threads
    core = openvino.Core()
    request = core.compile_model(core.read_model(str(path)), "CPU", options).create_infer_request()

    def run(images: np.ndarray) -> list[np.ndarray]:
        outputs = request.infer([images])
        return [outputs[index].copy() for index in range(len(outputs))]

    return NetworkSession(run, metadata, one_image=True)
