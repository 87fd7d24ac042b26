"""A local web page to try a network: a picture or a short video in, skeletons and JSON out. Needs Flask."""

from __future__ import annotations

import base64
import errno
import tempfile
import threading
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import cv2
import numpy as np
from flask import Flask, Request, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from pose.datasets.images import decode_image
from pose.errors import CheckpointError, DataError
from pose.inference.boxes import whole_image
from pose.inference.images import as_image
from pose.inference.inputs import Frame
from pose.inference.networks import PoseNetwork
from pose.inference.outputs import records
from pose.inference.predictor import Predictor
from pose.inference.video.files import VIDEO_SUFFIXES, VideoSource
from pose.inference.video.stream import StreamPredictor
from pose.inference.web.camera import CameraStreams
from pose.inference.web.viewer import html_file, page, persons, skeleton_meta
from pose.resources import SAMPLE
from pose.visualization import DRAWN_SCORE
from pose.wording import counted

LOOPBACK = ("127.0.0.1", "localhost", "::1")

_DETECT_EVERY = 5  # frames of a video
_PREVIEW = 1280  # pixels of the longer side of the picture that is sent back
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 88]


class OneAtATime:
    """A network or a detector that several threads may call: one works, the others wait.

    Args:
        wrapped: Called with the arguments; its attributes are this object's too.
        lock: The lock that is held meanwhile.
    """

    def __init__(self, wrapped: Callable[..., Any], lock: threading.Lock) -> None:
        self._wrapped = wrapped
        self._lock = lock

    def __call__(self, *arguments: Any) -> Any:
        with self._lock:
            return self._wrapped(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)


def create_app(
    predictor: Predictor,
    folder: str | Path,
    most_bytes: int = 64_000_000,
    most_frames: int = 600,
    hosts: tuple[str, ...] | None = LOOPBACK,
) -> Flask:
    """The web application; it answers several requests at a time.

    Args:
        predictor: Finds the poses; its network and detector are called by one thread at a time.
        folder: Where uploads lie while they are worked on; nothing is written anywhere else, and nothing stays.
        most_bytes: Larger uploads are refused.
        most_frames: Longer videos are cut.
        hosts: Names by which the page may be asked for, so that no other site's name can be made to lead
            here; None takes any.
    """
    folder = Path(folder)
    lock = threading.Lock()
    predictor.network = cast(PoseNetwork, OneAtATime(predictor.network, lock))  # has its attributes
    single = predictor.detector is whole_image
    detect_every = 1 if single else _DETECT_EVERY
    predictor.detector = OneAtATime(predictor.detector, lock)

    class UploadRequest(Request):
        def _get_file_stream(self, *_: Any, **__: Any) -> IO[bytes]:
            return tempfile.SpooledTemporaryFile(1 << 20, dir=str(folder))  # noqa: SIM115 - closed with the request

    app = Flask("pose")
    app.request_class = UploadRequest
    app.config["MAX_CONTENT_LENGTH"] = most_bytes
    note = "Without a detector the whole picture is taken as one person." if single else ""
    calibration = predictor.calibration
    threshold = DRAWN_SCORE if calibration is None else calibration.threshold
    meta = skeleton_meta(predictor.network.skeleton)
    meta |= {"most_bytes": most_bytes, "note": note, "threshold": threshold, "sample": SAMPLE.is_file()}
    streams = CameraStreams(predictor, detect_every)
    html = page("serve", meta)

    @app.before_request
    def check_host() -> None:
        host = request.host.rsplit(":", 1)[0].strip("[]")
        origin = request.headers.get("Origin")
        if (hosts is not None and host not in hosts) or (origin and origin.partition("://")[2] != request.host):
            raise _refused(403, "this page may only be used by its own address")

    @app.get("/")
    def index() -> Response:
        return Response(html, headers={"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"})

    @app.post("/poses")
    def poses() -> Response:
        upload = request.files.get("file")
        if upload is None or not upload.filename:
            raise _refused(400, "no file came with the request: it belongs in the form's field 'file'")
        name = Path(upload.filename.replace("\\", "/")).name
        suffix = Path(name).suffix.lower()
        with tempfile.TemporaryDirectory(dir=folder) as place:
            path = Path(place, "upload" + (suffix if suffix in VIDEO_SUFFIXES else ""))
            upload.save(path)
            try:
                if suffix in VIDEO_SUFFIXES:
                    return jsonify(_video(predictor, path, name, most_frames, detect_every))
                return jsonify(_image(predictor, path, name))
            except DataError as error:
                raise _refused(422, str(error).replace(str(path), name)) from error
            except CheckpointError as error:
                raise _refused(500, str(error)) from error

    @app.get("/sample.jpg")
    def sample() -> Response:
        if not SAMPLE.is_file():
            raise _refused(404, "the sample photo did not come with this installation")
        return Response(SAMPLE.read_bytes(), mimetype="image/jpeg")

    @app.post("/camera/<name>")
    def camera(name: str) -> Response:
        """The persons of one image of a camera stream, sent as the bytes of a JPEG."""
        try:
            image = decode_image(np.frombuffer(request.get_data(), np.uint8))
        except cv2.error:  # too many pixels
            image = None
        if image is None:
            raise _refused(422, "the camera's image cannot be decoded")
        height, width = image.shape[:2]
        frame = Frame(0, image, Path("camera"))
        return jsonify(width=width, height=height, persons=persons(frame, streams(name[:64], image)))

    @app.errorhandler(HTTPException)
    def tell(error: HTTPException) -> tuple[Response, int]:
        text = error.description
        if error.code == 413:  # werkzeug's reason for all that is too large, fields of a form among it
            large = request.content_length is None or request.content_length > most_bytes
            few = "the form has too many fields, or too much text in them; send one file"
            text = f"the file is larger than {most_bytes // 1_000_000} MB" if large else few
        return jsonify(error=text), error.code or 500

    @app.errorhandler(OSError)
    def tell_of_the_disk(error: OSError) -> tuple[Response, int]:
        if not _is_full(error):
            raise error
        return jsonify(error="the page's disk has no room for this file; try a smaller one, or make room"), 507

    return app


def _is_full(error: BaseException | None) -> bool:
    """Whether an error, or what it came of, says that no more can be written."""
    while error is not None and getattr(error, "errno", None) not in _FULL:
        error = error.__cause__ or error.__context__
    return error is not None


def _refused(code: int, text: str) -> HTTPException:
    error = HTTPException(text)
    error.code = code
    return error


def _image(predictor: Predictor, path: Path, name: str) -> dict[str, Any]:
    image = as_image(path)
    found = predictor(image)
    frame = Frame(0, image, Path(name))
    height, width = image.shape[:2]
    factor = min(1.0, _PREVIEW / max(height, width))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    preview = cv2.imencode(".jpg", cv2.resize(image, size, interpolation=cv2.INTER_AREA), _QUALITY)[1].tobytes()
    return {
        "file_name": name,
        "width": width,
        "height": height,
        "persons": persons(frame, found),
        "records": records(frame, found),
        "picture": "data:image/jpeg;base64," + base64.b64encode(preview).decode(),
    }


def _video(predictor: Predictor, path: Path, name: str, most_frames: int, detect_every: int) -> dict[str, Any]:
    source = VideoSource(path)
    stream = StreamPredictor(predictor, source.fps, detect_every, "light")
    target = path.with_name("page.html")
    found: list[dict[str, Any]] = []
    count = 0
    expected = min(source.frame_count, most_frames) if source.frame_count else source.frame_count
    with html_file(target, name, predictor.network.skeleton, source.fps, expected, source.size) as write:
        for image in islice(source, most_frames):
            frame = Frame(count, image)
            poses = stream(count, image)
            write(frame, poses, image)
            found += records(frame, poses)
            count += 1
    cut = f", the first of {source.frame_count}" if source.frame_count and source.frame_count > count else ""
    tracks = len({record["track_id"] for record in found})
    note = f"{name}: {counted(tracks, 'person')} in {counted(count, 'frame')}{cut}."
    return {"file_name": name, "records": found, "page": target.read_text(encoding="utf-8"), "note": note}
