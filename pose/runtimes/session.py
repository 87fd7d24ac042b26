"""What an exported file is once it is opened, whichever runtime executes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pose.errors import CheckpointError
from pose.files import sha256
from pose.onnx_format import METADATA_KEY, NetworkMetadata

DETAILS = ".json"
"""Behind a file's whole name: the metadata of formats that have no place for it inside."""

HASHES = "sha256"
"""The entry there that holds the SHA-256 of the file, and of what else belongs to it, by the ending of the name."""


class NetworkSession:
    """An opened network.

    Args:
        run: Normalized crops (N, 3, H, W) float32, N at least 1, to the file's outputs.
        metadata: What the file says of itself.
        one_image: Whether ``run`` takes single images only, and must be called for each of a batch.
        gives_keypoints: Whether the outputs are keypoints instead of heatmaps.
        takes_pixels: Whether crops go in as they are, (N, H, W, 3) uint8 RGB.
    """

    def __init__(
        self,
        run: Callable[[np.ndarray], list[np.ndarray]],
        metadata: NetworkMetadata,
        one_image: bool,
        gives_keypoints: bool = False,
        takes_pixels: bool = False,
    ) -> None:
        self._run, self.metadata, self.one_image = run, metadata, one_image
        self.gives_keypoints, self.takes_pixels = gives_keypoints, takes_pixels

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """(N, 3, H, W) float32, or pixels where those are taken, to the outputs, each (N, ...)."""
        if not self.one_image:
            return self._run(images)
        each = [self._run(np.ascontiguousarray(images[i : i + 1])) for i in range(len(images))]
        return [np.concatenate(parts) for parts in zip(*each, strict=True)]


def details_path(path: str | Path) -> Path:
    """Where the metadata of a file lies that has no place for it inside."""
    return Path(path).with_name(Path(path).name + DETAILS)


def read_details(path: str | Path) -> NetworkMetadata:
    """The metadata beside a file.

    Raises:
        CheckpointError: The metadata or a part of the file is missing or broken, or the file has been replaced since.
    """
    path, details = Path(path), details_path(path)
    if not details.is_file():
        raise CheckpointError(f"{details}: missing; it belongs to {path.name} and must lie beside it")
    try:
        known = json.loads(details.read_text(encoding="utf-8"))
        metadata, hashes = NetworkMetadata.from_json(known[METADATA_KEY]), dict(known.get(HASHES, {}))
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{details}: cannot be used ({error!r}); export the network again") from error
    for suffix, expected in hashes.items():
        part = path.with_suffix(suffix)
        if not part.is_file():
            raise CheckpointError(f"{part}: missing; it belongs to {path.name} and must lie beside it")
        if sha256(part) != expected:
            raise CheckpointError(
                f"{part}: is not what {details.name} was written with, another export may have replaced it; export the "
                "network again"
            )
    return metadata
