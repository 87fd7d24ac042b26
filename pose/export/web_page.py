"""One HTML file with detector, network and ONNX Runtime's web build inside: a picture or a camera in, skeletons out."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from pose.config import Settings
from pose.detection.exported import ExportedDetector
from pose.evaluation.calibration import JointCalibration
from pose.export.detector_file import export_detector
from pose.export.errors import ExportError
from pose.export.onnx_file import describe, export_onnx
from pose.files import replacing
from pose.onnx_format import METADATA_KEY
from pose.options import OptionError

PACKAGE = "onnxruntime-web@1.30.0"
INTEGRITY = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""SHA-512 of the package, as the registry states it."""

LIBRARY, RUNTIME = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
"""Files of the package: JavaScript that holds its loader, and the runtime, which computes without a GPU."""

FOLDER = Path(__file__).parent / "page"


def export_web_page(
    model: nn.Module,
    settings: Settings,
    path: str | Path,
    package: str | Path | None = None,
    detector: str | Path | None = None,
    calibration: Mapping[str, Any] | None = None,
) -> float:
    """Writes the page. The network in it is an ONNX file that ends in keypoints, proved as such files are.

    Args:
        model, settings, calibration: As for :func:`~pose.export.onnx_file.export_onnx`.
        path: The page.
        package: What ``npm pack`` wrote of :data:`PACKAGE` (.tgz); None has npm fetch it.
        detector: A person detector's checkpoint; None for a page whose reader draws the boxes.

    Returns:
        The largest difference of a score to PyTorch's.

    Raises:
        CheckpointError: The detector's checkpoint cannot be used.
        ExportError: A network does not export, the calibration cannot be used, or the package is not to be had, or not
            the one that it should be.
        OutputError: The page cannot be written.
    """
    shown = _calibration(calibration, settings.test.flip)
    with tempfile.TemporaryDirectory() as folder:
        files = _package_files(Path(package) if package else _fetched(folder))
        network = Path(folder, "network.onnx")
        difference = export_onnx(model, settings, network, "keypoints", calibration=calibration)
        known = json.loads(describe(settings, "keypoints", calibration=calibration)[METADATA_KEY])
        finder = Path(folder, "detector.onnx")
        if detector is not None:
            export_detector(detector, finder)
        metadata = {
            "input_size": known["input_size"],
            **{key: known["skeleton"][key] for key in ("keypoints", "limbs")},
            "calibration": shown,
            "detector": asdict(ExportedDetector(finder).known) if detector is not None else None,
        }
        parts = {
            "METADATA": json.dumps(metadata).replace("<", "\\u003c"),
            "LIBRARY": _packed(files[LIBRARY]),
            "RUNTIME": _packed(files[RUNTIME]),
            "NETWORK": _packed(network.read_bytes()),
            "DETECTOR": _packed(finder.read_bytes()) if detector is not None else "",
            "SCRIPT": (FOLDER / "page.js").read_text(encoding="utf-8"),
        }
    page = (FOLDER / "page.html").read_text(encoding="utf-8")
    for name, text in parts.items():
        page = page.replace(f"@{name}@", text)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return difference


def _calibration(values: Mapping[str, Any] | None, flip: bool) -> dict[str, Any] | None:
    """The calibration that the page computes with; None where there is none, or one of scores made otherwise."""
    if values is None:
        return None
    try:
        calibration = JointCalibration.from_dict(values)
    except ValueError as error:
        raise ExportError(f"the checkpoint's calibration cannot be used ({error}); make it again") from error
    return calibration.to_dict() if calibration.flip == flip else None


def _packed(contents: bytes) -> str:
    return base64.b64encode(gzip.compress(contents, mtime=0)).decode()


def _fetched(folder: str) -> Path:
    """The package, fetched by npm into a folder."""
    npm = shutil.which("npm")
    if npm is None:
        raise OptionError(f"--format web: needs npm for {PACKAGE}, or --web-runtime FILE.tgz that npm pack wrote")
    done = subprocess.run([npm, "pack", PACKAGE], cwd=folder, capture_output=True, text=True, check=False)
    found = list(Path(folder).glob("onnxruntime-web-*.tgz"))
    if done.returncode or not found:
        raise ExportError(f"npm cannot fetch {PACKAGE} ({done.stderr.strip()[-200:]}); give --web-runtime FILE.tgz")
    return found[0]


def _package_files(path: Path) -> dict[str, bytes]:
    """The files of the package that the page needs.

    Raises:
        ExportError: It is another package.
    """
    try:
        found = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
        if found != INTEGRITY:
            raise ExportError(
                f"{path}: not {PACKAGE} as the registry has it, by its SHA-512; npm pack {PACKAGE} fetches it"
            )
        with tarfile.open(path) as archive:
            members = {name: archive.extractfile(f"package/dist/{name}") for name in (LIBRARY, RUNTIME)}
            return {name: file.read() for name, file in members.items() if file is not None}
    except (OSError, tarfile.TarError, KeyError) as error:
        raise ExportError(f"{path}: not the package onnxruntime-web as npm pack writes it ({error})") from error
