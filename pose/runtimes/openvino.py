"""OpenVINO: ``NAME.xml`` and ``NAME.bin``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from pose.errors import require
from pose.runtimes.session import NetworkSession, read_details


def library() -> Any:
    """OpenVINO's module, without the package by which importing it reports to Google Analytics, as NNCF does.

    See findings/openvino_import_reports.sh. What was imported before has reported already.

    Raises:
        MissingExtra: OpenVINO is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return require("openvino")


def infer_request(path: str | Path, threads: int = 0) -> Any:
    """OpenVINO's request that computes a file on the CPU.

    In float32: by itself OpenVINO takes bfloat16 where the processor has it.

    Args:
        path: An ONNX file or OpenVINO's own.
        threads: 0 are OpenVINO's own choice.

    Raises:
        MissingExtra: OpenVINO is not installed.
    """
    options = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}
    if threads:
        options["INFERENCE_NUM_THREADS"] = threads
    core = library().Core()
    return core.compile_model(core.read_model(str(path)), "CPU", options).create_infer_request()


def open_file(path: str | Path, threads: int = 0) -> NetworkSession:
    """See :func:`infer_request`."""
    openvino, metadata = library(), read_details(path)
    request = infer_request(path, threads)

    def run(images: np.ndarray) -> list[np.ndarray]:
        outputs = request.infer([images])
        return [outputs[index].copy() for index in range(len(outputs))]

    pixels = request.model_inputs[0].get_element_type() == openvino.Type.u8
    return NetworkSession(run, metadata, one_image=True, gives_keypoints=pixels, takes_pixels=pixels)
