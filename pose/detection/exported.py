"""The project's own person detector in a file, run by ONNX Runtime or by native layers; torch is not needed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from pose.detection.decode import best, boxes_at_peaks
from pose.detection.letterbox import GRAY, LONGEST_SIDE, SIZE_DIVISOR, TestSettings, letterbox, to_image
from pose.detection.suppression import MAX_PERSONS
from pose.errors import CheckpointError
from pose.onnx_format import open_session

METADATA_KEY = "person_detector"
"""The entry of a file's metadata that holds :class:`DetectorFile`."""

NATIVE = ".native"
"""What the name of a file of native layers ends with."""

INPUT_KEY = "input"
"""The entry of such a file that holds mean and standard deviation of RGB in [0, 255]; an ONNX file takes pixels."""


@dataclass(frozen=True)
class DetectorFile(TestSettings):
    """What a file says of itself, beside how its boxes are found.

    Args:
        longest_side: No side of the input is longer.
        size_divisor: Both sides are multiples of it.
        gray: What the input is where the picture is not.
    """

    longest_side: int = LONGEST_SIDE
    size_divisor: int = SIZE_DIVISOR
    gray: int = GRAY

    def to_json(self) -> str:
        """The text for :data:`METADATA_KEY`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> DetectorFile:
        """Reads what :meth:`to_json` wrote; entries that are not known are passed over.

        Raises:
            ValueError, TypeError, KeyError: The text is not such metadata.
        """
        known = json.loads(text)
        return cls(**{field.name: type(getattr(cls, field.name))(known[field.name]) for field in fields(cls)})


def is_ours(session: Any) -> bool:
    """Whether an ONNX Runtime session is of a file of this kind."""
    return METADATA_KEY in session.get_modelmeta().custom_metadata_map


class ExportedDetector:
    """Finds persons as :class:`pose.detection.detector.PersonDetector` does.

    Args:
        path: A file of ``tools/export_detector.py``.
        threshold: Boxes of a lower score are left out; None takes the file's.
        session: An ONNX file that is opened already.

    Raises:
        CheckpointError: The file is missing, broken or not such a detector.
    """

    def __init__(self, path: str | Path, threshold: float | None = None, session: Any = None) -> None:
        self._find, details = _open_native(path) if Path(path).suffix == NATIVE else _open_onnx(path, session)
        try:
            self.known = DetectorFile.from_json(details[METADATA_KEY])
        except (ValueError, TypeError, KeyError) as error:
            raise CheckpointError(f"{path}: not a person detector of this project ({error!r})") from error
        self.threshold = self.known.threshold if threshold is None else threshold

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 BGR to (N, 5) float64 x, y, width, height in its pixels and the score, the best first."""
        pixels, scale = letterbox(image, self.known.input_area)
        found = best(self._find(pixels), self.threshold, self.known.overlap)
        return to_image(found.astype(np.float64), scale, image.shape)


Finder = Callable[[np.ndarray], np.ndarray]
"""(H, W, 3) uint8 BGR to (N, 5) float32 x1, y1, x2, y2 in its pixels and the score, the best first."""


def _open_onnx(path: str | Path, session: Any) -> tuple[Finder, dict[str, str]]:
    """An ONNX file's function and metadata."""
    opened = session or open_session(path)

    def find(pixels: np.ndarray) -> np.ndarray:
        return opened.run(None, {"images": np.ascontiguousarray(pixels[None, ..., ::-1])})[0][0]

    return find, opened.get_modelmeta().custom_metadata_map


def _open_native(path: str | Path) -> tuple[Finder, dict[str, str]]:
    """The function and metadata of a file of native layers, which end in the network's maps."""
    from pose.native.program_file import load_program
    from pose.runtimes.native import cores, open_program, run_images
    from pose.runtimes.pixels import normalize

    steps, details = load_program(path)
    program, threads = open_program(path, steps), cores()
    try:
        known = json.loads(details[INPUT_KEY])
        mean, std = (np.array(known[name], np.float32).reshape(3) for name in ("mean", "std"))
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path}: not a person detector of this project ({error!r})") from error

    def find(pixels: np.ndarray) -> np.ndarray:
        maps = run_images(program, normalize(pixels[None], mean, std), threads)[0]
        return boxes_at_peaks(maps, 2 * MAX_PERSONS)

    return find, details
