"""Files of pictures become rows of a table: decoded in threads, the persons of a batch of pictures at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pose.datasets.images import check_complete, decode_checked, read_image
from pose.errors import DataError
from pose.inference.bulk.sources import File
from pose.inference.predictor import Predictor
from pose.poses import Poses, rounded

if TYPE_CHECKING:
    import pyarrow

Row = dict[str, Any]
"""A picture: see docs/predict.md#schema."""

Begun = list[tuple[str, "Future[np.ndarray | DataError]"]]
"""Pictures that are being decoded."""


class FindPoses:
    """Finds the persons of batches of pictures, which Ray Data's ``map_batches`` can call as it is.

    A picture that cannot be used is a row with the reason.

    Args:
        predictor: Finds them, or makes who does: a class that is sent to another process takes the latter.
        workers: Threads that decode; OpenCV lets several run at once.

    Attributes:
        decoded: How many pictures were decoded.
        decode_seconds: The CPU's time that reading and decoding took.
    """

    def __init__(self, predictor: Predictor | Callable[[], Predictor], workers: int = 2) -> None:
        self.predictor = predictor if isinstance(predictor, Predictor) else predictor()
        self.decoded = 0
        self.decode_seconds = 0.0
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="decoding")

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> pyarrow.Table:
        """A table of the rows of a batch.

        Args:
            batch: ``path`` with a name and ``bytes`` with the file of each picture, as
                ``ray.data.read_binary_files(..., include_paths=True)`` gives them.
        """
        from pose.inference.bulk.writers import table_of

        files = [bytes(content) for content in batch["bytes"]]
        rows = self.finish(self.begin(list(zip(map(str, batch["path"]), files, strict=True))))
        return table_of(rows, self.predictor.network.skeleton)

    def begin(self, files: Sequence[tuple[str, File]]) -> Begun:
        """Starts to decode pictures, by name and file; the next batch is, while one is looked at."""
        return [(name, self._threads.submit(self._decode, name, file)) for name, file in files]

    def finish(self, begun: Begun) -> list[Row]:
        """The rows of what :meth:`begin` started, in order."""
        images = [(name, future.result()) for name, future in begun]
        good = [image for _, image in images if isinstance(image, np.ndarray)]
        poses = iter(self.predictor(good, self.predictor.detect_all(good)) if good else [])
        return [
            _row(name, image, next(poses)) if isinstance(image, np.ndarray) else _bad(name, image)
            for name, image in images
        ]

    def _decode(self, name: str, file: File) -> np.ndarray | DataError:
        started = time.thread_time()
        try:
            if isinstance(file, DataError):
                return file
            if isinstance(file, Path):
                return read_image(file, orient=True)
            check_complete(file, name)
            return decode_checked(file, name, orient=True)
        except DataError as error:
            return error
        finally:
            with self._lock:
                self.decoded += 1
                self.decode_seconds += time.thread_time() - started


def _row(name: str, image: np.ndarray, poses: Poses) -> Row:
    keypoints, scores = rounded(poses.keypoints, poses.scores)
    return {
        "image": name,
        "width": image.shape[1],
        "height": image.shape[0],
        "error": None,
        "boxes": poses.boxes.round(3).tolist(),
        "box_scores": poses.box_scores.round(5).tolist(),
        "keypoints": keypoints.reshape(len(keypoints), 3 * keypoints.shape[1]).tolist(),
        "scores": scores.tolist(),
    }


def _bad(name: str, error: DataError) -> Row:
    lists: Row = {"boxes": [], "box_scores": [], "keypoints": [], "scores": []}
    return {"image": name, "width": None, "height": None, "error": " ".join(str(error).split()), **lists}
