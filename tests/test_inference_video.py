"""Videos: what is written can be read again, and what cannot is told."""

import http.server
import threading
from functools import partial

import cv2
import numpy as np
import pytest

from pose.errors import DataError, OutputError
from pose.inference.video.files import CODECS, VideoSource, writing_video


def write(path, frames=5, fps=12.5, size=(64, 48)):
    with writing_video(path, fps) as write_frame:
        for frame in range(frames):
            write_frame(np.full((size[1], size[0], 3), 40 * frame, np.uint8))
    return path


def means(source):
    return [float(image.mean()) for image in source]


@pytest.mark.parametrize("suffix", CODECS)
def test_frames_come_back(tmp_path, suffix):
    source = VideoSource(write(tmp_path / f"a{suffix}"))
    assert (source.fps, source.frame_count, source.live, source.title) == (12.5, 5, False, "a")
    assert means(source) == pytest.approx([0, 40, 80, 120, 160], abs=4)


def without_duration(path):
    """A WebM as browsers record it: the header says no duration."""
    data = bytearray(path.read_bytes())
    start = data.index(b"\x44\x89\x88")  # the element Duration with 8 bytes, which becomes a void one
    data[start : start + 11] = b"\xec\x89" + bytes(9)
    path.write_bytes(data)
    return path


def test_a_video_that_does_not_say_how_long_it_is_is_counted(tmp_path):
    path = without_duration(write(tmp_path / "a.webm"))
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT) <= 0
    source = VideoSource(path)
    assert (source.frame_count, source.live) == (5, False) and source.fps == pytest.approx(12.5)
    assert means(source) == pytest.approx([0, 40, 80, 120, 160], abs=4)


def test_an_error_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_text("before")
    with pytest.raises(KeyError), writing_video(path, 25) as write_frame:
        write_frame(np.zeros((48, 64, 3), np.uint8))
        raise KeyError
    assert path.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]


def test_what_cannot_be_read_or_written_is_named(tmp_path):
    (tmp_path / "a.mp4").write_text("no video")
    with pytest.raises(DataError, match=r"a\.mp4"):
        VideoSource(tmp_path / "a.mp4")
    with pytest.raises(DataError, match=r"b\.mp4"):
        VideoSource(tmp_path / "b.mp4")
    with pytest.raises(DataError, match="rtsp://127"):
        VideoSource("rtsp://127.0.0.1:9/none")
    with pytest.raises(DataError, match="camera 77"):
        VideoSource(77)
    with pytest.raises(OutputError, match=r"c\.gif.*\.mp4"), writing_video(tmp_path / "c.gif", 25):
        pass


def test_a_stream(tmp_path):
    write(tmp_path / "a.avi")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source = VideoSource(f"http://127.0.0.1:{server.server_port}/a.avi")
        assert source.title == "stream"
        assert means(source) == pytest.approx([0, 40, 80, 120, 160], abs=4)
        server.shutdown()


def test_a_camera(monkeypatch):
    class Camera:
        left = 3

        def __init__(self, number):
            assert number == 0

        def isOpened(self):  # noqa: N802 - OpenCV's name
            return True

        def get(self, what):
            return {cv2.CAP_PROP_FPS: 0.0, cv2.CAP_PROP_FRAME_COUNT: -1.0}[what]

        def read(self):
            Camera.left -= 1
            return (True, np.zeros((4, 6, 3), np.uint8)) if Camera.left >= 0 else (False, None)

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    source = VideoSource(0)
    assert (source.live, source.frame_count, source.fps, source.title) == (True, None, 25, "camera")
    assert len(list(source)) == 3


def test_a_real_clip(shared_data):
    source = VideoSource(shared_data / "video" / "basketball.mp4")
    assert source.frame_count == 300
    assert next(iter(source)).shape == (240, 426, 3)
