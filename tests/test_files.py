"""What has a final name is whole, and nothing that is read or is no file is written over."""

import io
import json
import os
import resource
from collections import Counter
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pose.checkpoint import save_checkpoint
from pose.datasets.synthetic.dataset import write_annotations_only
from pose.errors import DataError, OutputError
from pose.files import check_outputs, replacing, write_json
from pose.formats import coco
from pose.inference.images import write_image
from pose.inference.inputs import Frame
from pose.inference.outputs import csv_file, json_file
from pose.inference.video.files import CODECS, writing_video
from pose.inference.web.viewer import html_file
from pose.poses import Poses, to_coco_results
from pose.skeleton import COCO
from pose.tables import Page

NOISE = np.random.default_rng(0).integers(0, 255, (96, 128, 3), dtype=np.uint8)


@contextmanager
def full_disk(most_bytes: int):
    """No file of this process may grow beyond that, as on a disk that is full or under a quota."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_frames(output, frames: int = 40) -> None:
    rng = np.random.default_rng(0)
    with output as write:
        for number in range(frames):
            one = np.ones(1)
            poses = Poses(np.ones((1, 4)), one, rng.random((1, 17, 3)), one, one, np.zeros(1, int), COCO)
            write(Frame(number, NOISE), poses, NOISE)


def write_table(path: Path) -> None:
    with redirect_stdout(io.StringIO()):  # what pytest captures is a file, too
        page = Page("title", "about")
        page.add(*["line"] * 9000)
        page.write(path)


def write_video(path: Path) -> None:
    with writing_video(path, 25) as write:
        for number in range(12):
            write(np.roll(NOISE, 8 * number, axis=1))


WRITERS = {
    "a.json": lambda path: write_json(path, list(range(20_000))),
    "annotations.json": lambda path: write_annotations_only(path, 50, 100),
    "keypoints.json": lambda path: write_frames(json_file(path)),
    "keypoints.csv": lambda path: write_frames(csv_file(path, COCO)),
    "page.html": lambda path: write_frames(html_file(path, "a", COCO, 25, 40, (128, 96))),
    "a.png": lambda path: write_image(path, NOISE),
    "a.md": write_table,
    "a.pth": lambda path: save_checkpoint(path, {"model": {"a": torch.rand(100_000)}}),
    **{f"a{suffix}": write_video for suffix in CODECS},
}


@pytest.mark.parametrize("name", WRITERS)
def test_on_a_full_disk_nothing_half_takes_a_final_name(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path)
    whole = path.stat().st_size
    assert whole > 10_000
    path.write_text("# what was there before")
    with full_disk(whole // 2), pytest.raises(OutputError, match=name):
        WRITERS[name](path)
    assert path.read_text() == "# what was there before"
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_never_holds_what_is_no_number(tmp_path, value):
    with pytest.raises(OutputError, match=r"a\.json: not written"):
        write_json(tmp_path / "a.json", [{"score": value}])
    keypoints = np.ones((1, 17, 3))
    with pytest.raises(DataError, match="NaN or infinity"):
        to_coco_results([1], keypoints, [value])
    keypoints[0, 3, 2] = value
    with pytest.raises(DataError, match="NaN or infinity"):
        to_coco_results([1], keypoints, [1.0])
    assert not any(tmp_path.iterdir())


def test_a_video_without_frames_is_none(tmp_path):
    with pytest.raises(OutputError, match=r"a\.mp4: no frame"), writing_video(tmp_path / "a.mp4", 25):
        pass
    assert not any(tmp_path.iterdir())


def test_a_link_is_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a.json").symlink_to(tmp_path / "elsewhere" / "b.json")
    for value in ([1], [2]):
        write_json(tmp_path / "a.json", value)
        assert (tmp_path / "a.json").is_symlink()
        assert json.loads((tmp_path / "elsewhere" / "b.json").read_text()) == value
    assert [file.name for file in (tmp_path / "elsewhere").iterdir()] == ["b.json"]


@pytest.fixture
def no_files(tmp_path):
    """Things that are there and are no regular files."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "null").symlink_to(os.devnull)
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    return [os.devnull, *(tmp_path / name for name in ("pipe", "folder", "null", "circle"))]


def test_what_is_no_regular_file_stays(no_files, tmp_path):
    there = sorted(tmp_path.iterdir())
    for path in no_files:
        with pytest.raises(OutputError, match=Path(path).name), replacing(path) as temporary:
            temporary.write_text("a")
        with pytest.raises(OutputError, match=Path(path).name):
            check_outputs([path])
    assert sorted(tmp_path.iterdir()) == there


def test_an_output_that_is_an_input_is_refused(tmp_path):
    source = tmp_path / "in.pth"
    source.write_text("weights")
    (tmp_path / "link.pth").symlink_to(source)
    os.link(source, tmp_path / "hard.pth")
    (tmp_path / "sub").mkdir()
    for name in ("in.pth", "link.pth", "hard.pth", "sub/../in.pth"):
        with pytest.raises(OutputError, match="is an input too"):
            check_outputs([None, tmp_path / "new.json", tmp_path / name], [None, tmp_path / "absent", source])
    check_outputs([tmp_path / "out.pth", None], [source])
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    check_outputs([tmp_path / "out.pth"], [tmp_path / "circle"])  # an input that cannot be read says so when it is read


def test_where_no_file_can_be_written_is_told_before_the_work(tmp_path):
    (tmp_path / "file").write_text("no folder")
    for path in ("file/a.json", "file/deep/a.json"):
        with pytest.raises(OutputError, match=r"a.json: cannot be written \(.*\); choose another place"):
            check_outputs([tmp_path / path])
    check_outputs([tmp_path / "new" / "deep" / "a.json"])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]  # nothing is left by trying


def test_an_image_in_a_folder_that_is_read_is_an_input(tmp_path):
    (tmp_path / "images" / "deep").mkdir(parents=True)
    image, other = tmp_path / "images" / "deep" / "a.PNG", tmp_path / "images" / "results.json"
    for file in (image, other):
        file.write_text("there")
    (tmp_path / "link.json").symlink_to(image)
    for output in (image, tmp_path / "link.json"):
        with pytest.raises(OutputError, match="is an image of the folder .*images, which is read"):
            check_outputs([output], [tmp_path / "images"])
    check_outputs([other, tmp_path / "images" / "new.png"], [tmp_path / "images"])


def test_two_outputs_of_one_name_are_refused(tmp_path):
    (tmp_path / "link.json").symlink_to(tmp_path / "a.json")  # leads to nothing yet
    with pytest.raises(OutputError, match="another output"):
        check_outputs([tmp_path / "a.json", tmp_path / "link.json"])


def test_an_archive_never_holds_what_is_no_number(tmp_path, monkeypatch):
    """Areas of boxes are products, which may have no end."""
    monkeypatch.setattr(coco, "to_tables", lambda dataset: ({"annotations": [{"area": float("inf")}]}, Counter()))
    dataset = SimpleNamespace(persons=np.ones(1, bool), take=lambda rows: dataset)
    with pytest.raises(OutputError, match=r"a\.zip: not written"):
        coco.write_archive(dataset, tmp_path / "a.zip", None)
    assert not any(tmp_path.iterdir())
