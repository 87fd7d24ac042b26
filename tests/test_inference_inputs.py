"""Any picture, folder, pattern or video becomes frames; what cannot be read is told and left out."""

import json
import signal
import threading
import time

import cv2
import numpy as np
import pytest
from spot import SPOT

from pose.errors import DataError
from pose.inference.images import as_image, list_images, number_images, write_image
from pose.inference.inputs import Frame, ImageFiles, open_input, read_ahead
from pose.inference.outputs import json_file
from pose.inference.predictor import Predictor
from pose.inference.process import poses_of_video, write_all
from pose.inference.video.files import VideoSource, writing_video
from pose.poses import Poses

PIL = pytest.importorskip("PIL.Image")

COLORS = np.zeros((40, 60, 3), np.uint8)  # RGB: white left of red, over blue
COLORS[:20], COLORS[20:], COLORS[:20, :20] = (220, 40, 30), (20, 60, 200), (250, 250, 250)
BGR = COLORS[..., ::-1]


def nothing(message):
    raise AssertionError(message)


def assert_same(found, expected, tolerance):
    assert found.shape == expected.shape and found.dtype == np.uint8
    inner = np.abs(found.astype(int) - expected)[4:-4, 4:-4]
    assert np.median(inner) <= tolerance and np.percentile(inner, 90) <= 3 * tolerance


@pytest.mark.parametrize(
    ("name", "mode", "tolerance"),
    [("a.jpg", "L", 4), ("a.png", "L", 0), ("a.png", "LA", 0), ("a.png", "RGBA", 0), ("a.png", "P", 60),
     ("a.jpg", "CMYK", 6), ("a.tif", "CMYK", 6), ("a.webp", "RGB", 12), ("a.bmp", "RGB", 0), ("a.tif", "RGB", 0)],
)  # fmt: skip
def test_every_kind_of_pixels_becomes_bgr(tmp_path, name, mode, tolerance):
    converted = PIL.fromarray(COLORS).convert(mode)
    converted.save(tmp_path / name)
    expected = np.asarray(converted.convert("RGB"))[..., ::-1].astype(int)
    assert_same(as_image(tmp_path / name), expected, tolerance)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bits_keep_their_brightness(tmp_path, name):
    cv2.imwrite(str(tmp_path / name), BGR.astype(np.uint16) * 257)
    assert_same(as_image(tmp_path / name), BGR, 0)


@pytest.mark.parametrize(
    ("mark", "corner"), [(1, (0, 0)), (2, (0, 59)), (3, (39, 59)), (4, (39, 0)), (6, (0, 39)), (8, (59, 0))]
)
def test_exif_marks_turn_a_picture_upright(tmp_path, mark, corner):
    """The stored white corner at the left top must come where the mark says."""
    stored = PIL.fromarray(COLORS)
    exif = stored.getexif()
    exif[0x0112] = mark
    stored.save(tmp_path / "a.jpg", exif=exif, quality=95)
    upright = as_image(tmp_path / "a.jpg")
    assert upright.shape[:2] == ((40, 60) if mark < 5 else (60, 40))
    assert (upright[corner] > 200).all()
    assert as_image(tmp_path / "a.jpg", upright=False).shape[:2] == (40, 60)


def test_arrays_of_every_kind_become_bgr():
    assert as_image(BGR.copy()).tolist() == BGR.tolist()
    assert as_image(BGR.astype(np.uint16) * 257).tolist() == BGR.tolist()
    assert as_image(np.dstack([BGR, BGR[..., 0]])).tolist() == BGR.tolist()
    for gray in (BGR[..., 0], BGR[..., :1]):
        assert as_image(gray).tolist() == np.repeat(BGR[..., :1], 3, axis=2).tolist()
    assert as_image(BGR[::-1]).flags.c_contiguous


def test_a_picture_too_large_is_told(tmp_path):
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + body)
    with pytest.raises(DataError, match=r"bomb\.png.*too large"):
        as_image(tmp_path / "bomb.png")


def test_one_pixel(tmp_path):
    write_image(tmp_path / "a.png", np.full((1, 1, 3), 9, np.uint8))
    assert as_image(tmp_path / "a.png").tolist() == [[[9, 9, 9]]]


def test_names_on_the_command_line(tmp_path):
    for name in ("b.PNG", "a.jpg", "c.txt"):
        (tmp_path / name).write_bytes(cv2.imencode(".png", BGR)[1].tobytes())
    with writing_video(tmp_path / "v.mp4", 25) as write_frame:
        write_frame(np.zeros((16, 16, 3), np.uint8))

    def paths(name):
        return [path.name for path in open_input(str(name), True, nothing).paths]

    assert paths(tmp_path) == ["a.jpg", "b.PNG"]
    assert paths(tmp_path / "a.*") == ["a.jpg"]
    assert paths(tmp_path / "c.txt") == ["c.txt"]
    assert isinstance(open_input(str(tmp_path / "v.mp4"), True, nothing), VideoSource)
    for nowhere in (tmp_path / "none.jpg", tmp_path / "*.webp", "99", "http://127.0.0.1:9/x"):
        with pytest.raises(DataError, match=str(nowhere).replace("*", r"\*")):
            open_input(str(nowhere), True, nothing)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no picture"):
        list_images(tmp_path / "empty")


def test_numbers_of_pictures(tmp_path):
    paths = [tmp_path / name for name in ("000000000785.jpg", "x_12.jpg")]
    assert number_images(paths) == [785, 12]
    assert number_images([*paths, tmp_path / "y_12.jpg"]) == [0, 1, 2]
    assert number_images([tmp_path / "a.jpg", tmp_path / "7.jpg"]) == [0, 1]


def test_unreadable_pictures_are_told_and_left_out_unless_there_is_no_other(tmp_path):
    write_image(tmp_path / "1.png", BGR)
    (tmp_path / "2.png").write_text("no picture")
    told = []
    files = ImageFiles([tmp_path / "1.png", tmp_path / "2.png", tmp_path / "3.png"], True, told.append)
    assert [frame.number for frame in files] == [1]
    assert files.skipped == 2
    assert "2.png" in told[0] and "3.png" in told[1]
    with pytest.raises(DataError):
        list(ImageFiles([tmp_path / "2.png"], True, nothing))


def test_rare_pictures_in_a_folder_are_read_or_named(tmp_path):
    encoded = cv2.imencode(".png", BGR)[1].tobytes()
    for name in ("a.gif", "b.HEIC", "c.avif", "d.jxl"):
        (tmp_path / name).write_bytes(encoded if name == "a.gif" else b"of another kind")
    told = []
    files = open_input(str(tmp_path), True, told.append)
    assert [frame.path.name for frame in files] == ["a.gif"] and files.skipped == 3
    assert all(name in line for name, line in zip(("b.HEIC", "c.avif", "d.jxl"), told, strict=True))


def test_the_first_of_several_pictures_in_a_file_is_taken_and_told_once(tmp_path):
    for name in ("a.tiff", "b.tiff"):
        assert cv2.imwritemulti(str(tmp_path / name), [BGR, 255 - BGR, BGR])
    told = []
    for frame in open_input(str(tmp_path), True, told.append):
        assert (frame.image == BGR).all()
    assert len(told) == 1 and "a.tiff: holds 3 pictures" in told[0]


def frames(count, log=None, size=1000):
    for number in range(count):
        if log is not None:
            log.append(number)
        yield Frame(number, np.zeros((1, size // 3 + 1, 3), np.uint8))


def test_reading_ahead_keeps_the_order_and_bounds_the_memory():
    log, seen = [], []
    for frame in read_ahead(frames(50, log), most_bytes=3500):
        seen.append(frame.number)
        time.sleep(0.001)
        assert len(log) - len(seen) <= 5  # three wait, one wants to, one was just handed over
    assert seen == list(range(50))


def test_a_frame_larger_than_the_bound_passes():
    assert [frame.number for frame in read_ahead(frames(3), most_bytes=10)] == [0, 1, 2]


def test_a_camera_never_lags_behind():
    asked, passed = threading.Event(), threading.Event()

    def camera():
        yield from frames(1)
        asked.wait(2)
        yield from (Frame(number, np.zeros((1, 1, 3), np.uint8)) for number in range(1, 10))
        passed.set()

    source = read_ahead(camera(), newest_only=True)
    assert next(source).number == 0
    asked.set()
    passed.wait(2)
    assert [frame.number for frame in source] == [9]


def test_errors_come_after_the_frames_before_them():
    def broken():
        yield from frames(2)
        raise DataError("cut off")

    source = read_ahead(broken())
    assert [next(source).number, next(source).number] == [0, 1]
    with pytest.raises(DataError, match="cut off"):
        next(source)


def test_stopping_early_ends_the_thread():
    source = read_ahead(frames(10_000), most_bytes=2000)
    next(source)
    source.close()
    assert "decoding" not in {thread.name for thread in threading.enumerate()}


def test_what_was_done_before_ctrl_c_is_kept(tmp_path):
    def interrupted():
        for number in range(3):
            yield Frame(number, BGR), poses
        raise KeyboardInterrupt

    one = np.ones(1)
    poses = Poses(np.ones((1, 4)), one, np.ones((1, 2, 3)), one, one, np.zeros(1, int), SPOT)
    with json_file(tmp_path / "a.json") as write:
        assert write_all(interrupted(), [write], lambda frame, poses: frame.image) == (3, True)
    assert [record["frame"] for record in json.loads((tmp_path / "a.json").read_text())] == [0, 1, 2]


def test_ctrl_c_before_the_first_frame_leaves_nothing(tmp_path):
    def interrupted():
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt), json_file(tmp_path / "a.json") as write:
        write_all(interrupted(), [write], lambda frame, poses: frame.image)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_amid_a_frame_waits_until_every_output_has_it(number):
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    first, second = [], []

    def write_first(frame, *_):
        first.append(frame.number)
        if frame.number == 2:
            signal.raise_signal(number)

    def write_second(frame, *_):
        second.append(frame.number)

    pairs = ((Frame(place, BGR), None) for place in range(5))
    try:
        assert write_all(pairs, [write_first, write_second], lambda frame, poses: frame.image) == (3, True)
        assert first == second == [0, 1, 2]
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_an_error_amid_a_video_ends_the_thread_that_reads_it(tmp_path):
    class Broken:
        def __call__(self, number, image, boxes):
            raise KeyboardInterrupt

    with writing_video(tmp_path / "a.mp4", 10) as write:
        for _ in range(30):
            write(np.zeros((480, 640, 3), np.uint8))
    with pytest.raises(KeyboardInterrupt) as kept:  # which holds the frames that were left
        next(poses_of_video(Broken(), VideoSource(tmp_path / "a.mp4")))
    assert kept.traceback and "decoding" not in {thread.name for thread in threading.enumerate()}


def test_what_imread_gives_for_a_wrong_path_is_told():
    predictor = Predictor(network=None)  # no picture comes so far
    for images in (None, [None]):
        with pytest.raises(DataError, match="got None, which cv2.imread gives where it cannot read a file"):
            predictor(images)
