"""Whatever is wrong with a file that a format reads is one error that names the file."""

import json
import zipfile
from dataclasses import replace

import cv2
import numpy as np
import pytest
from test_formats import yolo_folder
from test_formats_of_analysis_tools import labelme_file, shape
from test_formats_of_labelling_tools import POINTS, cvat_file

from pose.errors import DataError
from pose.formats.coco import ARCHIVED
from pose.formats.table import FORMATS, read_dataset

FOUND = {"image_id": 1, "score": 1, "keypoints": [1] * 51, "width": 40, "height": 30}
SIZE = "<original_size><width>40</width><height>30</height></original_size>"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("keypoints", [{**FOUND, "box": [1, 2, 3]}], "record 0 needs .*a box"),
        ("keypoints", [FOUND, {**FOUND, "image_id": 2, "width": None}], "record 1 needs .*a width"),
        ("keypoints", [FOUND, 5], "record 1 needs image_id"),
        ("keypoints", [{**FOUND, "track_id": "x"}], "record 0 needs .*track_id"),
        ("keypoints", [{**FOUND, "keypoints": [float("nan"), 1, 1] * 17}], "no finite x and y"),
        ("label-studio", [None], "task 0 is not in Label Studio's format"),
        ("labelme", {"shapes": None, "imagePath": "a"}, "is not in LabelMe's format"),
        ("labelme", [], "is not in LabelMe's format"),
        ("mpii", [{"joints": [[1, 1]] * 16, "joints_vis": [1] * 16}], "is not in the format mpii .*image"),
        ("aic", [None], "is not in the format aic"),
        ("coco", {"images": [], "annotations": [None]}, ""),
        ("coco", {"images": [], "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "keypoints": 5}]}, ""),
    ],
)
def test_json(tmp_path, name, content, message):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"a\.json.*{message}"):
        read_dataset(path, name)


def test_archives(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(ARCHIVED, "{}")
    with pytest.raises(DataError, match=r"a\.zip: has no annotations\.xml"):
        read_dataset(path, "cvat")
    content = path.read_bytes()
    for header, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):  # the bit by which an archive says that it is encrypted
        place = content.index(header) + flags
        content = content[:place] + bytes([content[place] | 1]) + content[place + 1 :]
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.zip: is not in the format coco .*encrypted"):
        read_dataset(path)


@pytest.mark.parametrize(("frame", "track"), [("x", "1"), ("1", "x")])
def test_numbers_of_cvat(tmp_path, frame, track):
    skeleton = f'<skeleton frame="{frame}" outside="0">{POINTS.format(1)}</skeleton>'
    with pytest.raises(DataError, match=r"a\.xml: a <(skeleton|track)> has the (frame|id) 'x', not a number"):
        read_dataset(cvat_file(tmp_path / "a.xml", f'<track id="{track}" label="person">{skeleton}</track>', SIZE))


def test_yolo(tmp_path):
    folder = yolo_folder(tmp_path / "a", "", [1, 3])
    (folder / "labels" / "train" / "a.txt").write_bytes("0 .5 .5 é".encode("latin-1"))
    with pytest.raises(DataError, match=r"a\.txt, line 1: not a row of numbers"):
        read_dataset(folder)
    with pytest.raises(DataError, match=r"data\.yaml: names must be the classes"):
        read_dataset(yolo_folder(tmp_path / "b", "", [1, 3], names={"a": "b"}))


def test_a_folder_by_the_name_of_a_file(tmp_path):
    for name in ("labels.json", "empty.json", "a.zip", "a.xml", "a.csv", "a.yaml"):
        (tmp_path / name).mkdir()
        with pytest.raises(DataError, match="in none of the formats"):
            read_dataset(tmp_path / name)
    labelme_file(tmp_path / "labels.json" / "a.json", [shape("eye", [1, 2])])
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((30, 40, 3), np.uint8))
    assert len(read_dataset(tmp_path / "labels.json")) == 1


def test_a_file_that_cannot_be_read(tmp_path, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.json").write_text("[]")
    monkeypatch.setitem(FORMATS, "keypoints", replace(FORMATS["keypoints"], recognizes=denied))
    with pytest.raises(DataError, match=r"a\.json: cannot be read \(Permission denied\)"):
        read_dataset(tmp_path / "a.json")
    for name in ("keypoints", "cvat", "yolo", "sleap"):
        with pytest.raises(DataError, match=r"none\.json: annotation file not found"):
            read_dataset(tmp_path / "none.json", name)
