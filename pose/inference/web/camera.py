"""Camera streams of the page: each browser tab sends its images one by one and is followed apart from the others."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np

from pose.inference.predictor import Predictor
from pose.inference.video.stream import StreamPredictor
from pose.poses import Poses

FPS = 10.0
"""Images a second that a browser is expected to send, for smoothing and for how long somebody may be out of view."""


@dataclass
class _Stream:
    """One tab's persons; ``count`` images were seen."""

    follow: StreamPredictor
    count: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class CameraStreams:
    """The camera streams that are followed at a time.

    Args:
        predictor: Finds the poses of all of them.
        detect_every: Images from one detection to the next.
        most: Streams that are kept; with another one, the one that was silent longest is forgotten and, should it go
            on, begins anew.
    """

    def __init__(self, predictor: Predictor, detect_every: int, most: int = 4) -> None:
        self._predictor, self._detect_every, self._most = predictor, detect_every, most
        self._streams: OrderedDict[str, _Stream] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, name: str, image: np.ndarray) -> Poses:
        """The poses, with ``track_ids``, of a stream's next image.

        Args:
            name: What the tab calls its stream.
            image: (H, W, 3) uint8 BGR.
        """
        with self._lock:
            stream = self._streams.pop(name, None)
            if stream is None:
                stream = _Stream(StreamPredictor(self._predictor, FPS, self._detect_every, "light"))
            self._streams[name] = stream
            while len(self._streams) > self._most:
                self._streams.popitem(last=False)
        with stream.lock:
            poses = stream.follow(stream.count, image)
            stream.count += 1
        return poses
