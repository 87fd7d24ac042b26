"""Names of pictures as tools write them: the file that is meant, and one picture under several ids."""

import json
import os

import pytest

from pose.datasets.image_names import ImageNames, find_image, plain_name
from pose.datasets.split import hold_out
from pose.inference.boxes import CocoBoxes


@pytest.fixture
def root(tmp_path):
    for name in ("images/a.jpg", "images/cam1/b.jpg", "images/cam2/b.jpg", "images/Two.JPG", "images/two.Jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return str(tmp_path / "images")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("a.jpg", "a.jpg"),
        ("./a.jpg", "a.jpg"),
        ("cam1/b.jpg", "cam1/b.jpg"),
        ("cam2\\b.jpg", "cam2/b.jpg"),
        ("images/cam2/b.jpg", "cam2/b.jpg"),
        ("images\\a.jpg", "a.jpg"),
        ("/home/other/images/cam1/b.jpg", "cam1/b.jpg"),
        ("C:\\Users\\me\\cam2\\b.jpg", "cam2/b.jpg"),
        ("A.JPG", "a.jpg"),
        ("cam1/B.JPG", "cam1/b.jpg"),
        ("Two.JPG", "Two.JPG"),
        ("TWO.JPG", None),  # two files fit
        ("b.jpg", None),  # in a folder that the name does not have
        ("cam3/b.jpg", None),
        ("cam3/a.jpg", None),  # another picture of that name
    ],
)
def test_the_file_that_a_name_means(root, name, meant):
    found = find_image(root, name)
    assert os.path.isfile(found) == (meant is not None)
    assert meant is None or os.path.samefile(found, os.path.join(root, meant))


def test_plain_names():
    assert [plain_name(name) for name in ("a\\b.jpg", "./a//b.jpg", "/a/b.jpg")] == ["a/b.jpg", "a/b.jpg", "/a/b.jpg"]


def records(*names):
    return [{"id": 10 + place, "file_name": name, "width": 40, "height": 30} for place, name in enumerate(names)]


def test_the_picture_that_a_path_is():
    images = ImageNames(records("a.jpg", "left\\b.jpg", "/home/x/c.jpg", "D.JPG", "/y/e.jpg", "/z/e.jpg", "/abs/f.jpg"))
    paths = ("/data/a.jpg", "/data/left/b.jpg", "/data/c.jpg", "/data/d.jpg", "/data/e.jpg", "/z/e.jpg", "/abs/f.jpg")
    assert [images.id_of(path) for path in paths] == [10, 11, 12, 13, None, 15, 16]
    assert images.id_of("/data/b.jpg") is None


def test_all_persons_of_a_picture_under_two_ids(tmp_path):
    people = [{"image_id": 10 + place, "category_id": 1, "bbox": [place, 1, 8, 9]} for place in (0, 1, 2)]
    path = tmp_path / "f.json"
    path.write_text(json.dumps({"images": records("a/b.jpg", "a\\b.jpg", "c.jpg"), "annotations": people}))
    boxes = CocoBoxes(path)
    assert boxes.of_image(tmp_path / "a/b.jpg")[:, 0].tolist() == [0, 1]
    assert boxes.of_image(tmp_path / "c.jpg")[:, 0].tolist() == [2]


def test_a_picture_of_unknown_size_keeps_its_boxes(tmp_path):
    image = {"id": 1, "file_name": "a.jpg", "width": 0, "height": 0}
    path = tmp_path / "f.json"
    path.write_text(
        json.dumps({"images": [image], "annotations": [{"image_id": 1, "category_id": 1, "bbox": [5, 6, 7, 8]}]})
    )
    assert CocoBoxes(path).of_image("a.jpg").tolist() == [[5, 6, 7, 8, 1]]


@pytest.mark.parametrize("seed", range(6))
def test_a_picture_under_two_ids_is_on_one_side(seed):
    images = records(*[f"x/{number}.jpg" for number in range(6)], *[f"x\\{number}.jpg" for number in range(6)])
    people = [
        {
            "id": place,
            "image_id": image["id"],
            "category_id": 1,
            "area": 9.0,
            "bbox": [0, 0, 3, 3],
            "keypoints": [1, 1, 2],
        }
        for place, image in enumerate(images)
    ]
    parts = hold_out({"images": images, "annotations": people}, 2, seed)
    names = [{plain_name(image["file_name"]) for image in part["images"]} for part in parts]
    assert [len(each) for each in names] == [4, 2] and not names[0] & names[1]
    assert [len(part["annotations"]) for part in parts] == [8, 4]
