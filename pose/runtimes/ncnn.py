"""ncnn: ``NAME.param`` and ``NAME.bin``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pose.errors import CheckpointError, require
from pose.runtimes.session import NetworkSession, read_details


def open_file(path: str | Path, threads: int = 0) -> NetworkSession:
    """Without storage in 16 bits, which ncnn takes by itself where it can and which costs 4e-4. 0 threads are all."""
    ncnn, metadata = require("ncnn"), read_details(path)
    network = ncnn.Net()
    options = network.opt
    options.use_vulkan_compute = False
    options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
    options.use_bf16_storage = False
    if threads:
        options.num_threads = threads
    if network.load_param(str(path)) or network.load_model(str(Path(path).with_suffix(".bin"))):
        raise CheckpointError(f"{path}: ncnn cannot load it or its {Path(path).with_suffix('.bin').name}")
    (entry,), (output,) = network.input_names(), network.output_names()

    def run(images: np.ndarray) -> list[np.ndarray]:
        extractor = network.create_extractor()
        extractor.input(entry, ncnn.Mat(images[0]).clone())
        status, heatmaps = extractor.extract(output)
        if status:
            raise CheckpointError(f"{path}: ncnn stops with status {status}; export it again")
        return [np.array(heatmaps)[None]]

    return NetworkSession(run, metadata, one_image=True)
