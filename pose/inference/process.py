"""An input becomes its outputs: frames, their poses, and everything that is made of them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any

import numpy as np

from pose.errors import DataError
from pose.inference.boxes import NO_BOXES, CocoBoxes, check_inside, touching
from pose.inference.inputs import Frame, ImageFiles, read_ahead
from pose.inference.outputs import Stop, Write
from pose.inference.predictor import Predictor
from pose.inference.profiler import Profiler
from pose.inference.video.files import VideoSource
from pose.inference.video.stream import StreamPredictor
from pose.poses import Poses

TOGETHER = 8
"""Pictures whose crops share a batch, at most."""

TOGETHER_BYTES = 1 << 26
"""And their pixels; a larger picture goes alone."""


def poses_of_images(
    predictor: Predictor, files: ImageFiles, boxes: CocoBoxes | None = None
) -> Iterator[tuple[Frame, Poses]]:
    """Each picture with its poses, in order; a few pictures at a time share batches.

    Args:
        predictor: Finds the poses.
        files: The pictures, ``upright=False`` with boxes of a COCO file, which count stored pixels.
        boxes: The boxes of these pictures; None asks the predictor's detector. A picture whose boxes cannot be
            used is left out like one that cannot be read.

    Raises:
        DataError: The only picture cannot be used, or the file has boxes for none.
    """
    if boxes is not None:
        boxes.check_images(files.paths, files.warn)
    with closing(read_ahead(files)) as ahead:
        for chunk in _chunks(ahead):
            frames, own = [], []
            for frame in chunk:
                assert frame.path is not None
                try:
                    found = None if boxes is None else _file_boxes(boxes, boxes.of_image(frame.path), frame, files.warn)
                except DataError as error:
                    files.skip(error)
                    continue
                known = None if boxes is None else boxes.image_id(frame.path)
                frames.append(frame if known is None else replace(frame, number=known))
                own.append(found)
            yield from zip(frames, predictor([frame.image for frame in frames], own), strict=True)


def poses_of_video(
    predictor: StreamPredictor,
    source: VideoSource,
    boxes: CocoBoxes | None = None,
    warn: Callable[[str], None] = print,
) -> Iterator[tuple[Frame, Poses]]:
    """Each frame with its poses and their tracks, in order.

    Args:
        predictor: Finds and follows them.
        source: The video.
        boxes: The boxes of frames by their number; None asks the predictor's detector.
        warn: Takes messages about boxes outside their frame, which are left out.

    Raises:
        DataError: The file has boxes for none of the frames.
    """
    if boxes is not None and source.frame_count is not None:
        boxes.check_frames(source.name, source.frame_count)
    frames = (Frame(number, image) for number, image in enumerate(source))
    with closing(read_ahead(frames, newest_only=source.live)) as ahead:  # its thread must not outlive an error
        for frame in ahead:
            try:
                own = None if boxes is None else _file_boxes(boxes, boxes.of_frame(frame.number), frame, warn)
            except DataError as error:  # hours of work may be done before it: the frame stays, without persons
                warn(f"{error}: the frame is taken without a box")
                own = NO_BOXES
            yield frame, predictor(frame.number, frame.image, own)


def write_all(
    pairs: Iterable[tuple[Frame, Poses]],
    writes: Sequence[Write],
    draw: Callable[[Frame, Poses], np.ndarray],
    profiler: Profiler | None = None,
) -> tuple[int, bool]:
    """Hands every frame to every output.

    Args:
        pairs: Frames with their poses.
        writes: The outputs.
        draw: Makes the drawn picture of a frame and its poses.
        profiler: Times drawing and writing.

    Returns:
        How many frames were written, the same to every output, and whether a person stopped it with Ctrl-C or in the
        window.

    Raises:
        KeyboardInterrupt: Ctrl-C came before the first frame.
    """
    profiler = profiler or Profiler()
    count = 0
    try:
        for frame, poses in pairs:
            with profiler("draw"):
                drawn = draw(frame, poses)
            with profiler("write"), signals_wait():
                count += 1
                for write in writes:
                    write(frame, poses, drawn)
    except (Stop, KeyboardInterrupt):
        if not count:
            raise
        return count, True
    return count, False


@contextmanager
def signals_wait() -> Iterator[None]:
    """Within the block signals wait that would raise amid it, e.g. when some outputs have a frame and others not."""
    came: list[tuple[int, FrameType | None]] = []
    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        handlers = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    for number in handlers:
        signal.signal(number, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for number, frame in came:
        handlers[number](number, frame)


def _chunks(frames: Iterable[Frame]) -> Iterator[list[Frame]]:
    chunk: list[Frame] = []
    held = 0
    for frame in frames:
        if chunk and (len(chunk) == TOGETHER or held + frame.image.nbytes > TOGETHER_BYTES):
            yield chunk
            chunk, held = [], 0
        chunk.append(frame)
        held += frame.image.nbytes
    if chunk:
        yield chunk


def _file_boxes(file: CocoBoxes, boxes: np.ndarray, frame: Frame, warn: Callable[[str], None]) -> np.ndarray:
    """The boxes that touch the picture; the others are counted and told, an error where they are all."""
    inside = touching(boxes, frame.image)
    if inside.all():
        return boxes
    where = frame.path or f"frame {frame.number}"
    try:
        check_inside(boxes, frame.image)
    except DataError as error:
        if not inside.any():
            raise DataError(f"{file.path}: {where}: {error}; correct or remove it") from error
        warn(f"{file.path}: {where}: {(~inside).sum():,} of {len(boxes):,} boxes are left out, {error}")
    return boxes[inside]
