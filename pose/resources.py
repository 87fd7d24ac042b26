"""Files that come with the project, in a clone and in an installed package: configurations, weights and a photo.

In a clone they are ``configs/``, ``data/weights/`` and ``data/sample/`` beside the package; a wheel carries the same
folders inside the package, in ``pose/shipped/`` (setup.py says how).
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

_SHIPPED = Path(str(files("pose"))) / "shipped"

ROOT = _SHIPPED if _SHIPPED.is_dir() else _SHIPPED.parents[1]
"""The folder that has ``configs/``, ``data/weights/`` and ``data/sample/``."""

SAMPLE = ROOT / "data" / "sample" / "street.jpg"
"""A photo with people in it, for first tries."""


def configuration(path: str | Path) -> Path:
    """The file that ``path`` names: from the current folder, else ``configs/...`` as it comes with the project.

    Returns:
        ``path`` itself where there is neither.
    """
    path = Path(path)
    ours = ROOT / path
    return ours if not path.is_file() and path.parts[:1] == ("configs",) and ours.is_file() else path
