"""What the page of a data set finds: each fault is put in and must be told, and good data must be free of it."""

import json

import cv2
import numpy as np
import pytest
from small_project import run_tool as run_tool

from pose.formats.dataset import ImageRecord, make_dataset
from pose.formats.options import WriteOptions
from pose.formats.table import FORMATS
from pose.inspection.duplicates import ImageFile, find_duplicates, hash_images, perceptual_hash
from pose.inspection.persons import check_persons
from pose.inspection.sides import check_exchanged, check_pairs
from pose.skeleton import COCO

MIRROR = COCO.flip_index
STANDING = np.array(
    [(0, 10), (1, 9), (-1, 9), (2, 10), (-2, 10), (6, 20), (-6, 20), (9, 32), (-9, 32), (10, 42), (-10, 42),
     (4, 45), (-4, 45), (4, 65), (-4, 65), (4, 85), (-4, 85)], np.float64,
)  # fmt: skip


def people(count=400, seed=0):
    """(N, 17, 3): three of four face the camera, whose faces are seen; the others show their backs."""
    rng = np.random.default_rng(seed)
    back = rng.random(count) < 0.25
    points = STANDING + rng.normal(0, 1, (count, 17, 2)) + rng.uniform(20, 60, (count, 1, 2))
    points[..., 0] += np.where(back, -2, 0)[:, None] * STANDING[:, 0]
    visibility = np.full((count, 17), 2.0)
    visibility[back, :3] = 0
    visibility[rng.random((count, 17)) < 0.1] = 0
    return np.dstack([points, visibility])


def names(pairs):
    return {frozenset(COCO.keypoints[index].split("_")[-1] for index in pair) for pair in pairs}


def test_right_pairs_are_left_alone():
    found = check_pairs(people(), MIRROR)
    assert found.wrong == found.missing == () and found.asymmetry < 0.1


def test_a_missing_pair_is_found():
    mirror = MIRROR.copy()
    mirror[[5, 6]] = 5, 6
    found = check_pairs(people(), mirror)
    assert found.missing == ((5, 6),) and found.wrong == () and found.best_asymmetry < found.asymmetry / 2


def test_a_wrong_pair_is_found():
    mirror = MIRROR.copy()
    mirror[[7, 8, 9, 10]] = 10, 9, 8, 7
    found = check_pairs(people(), mirror)
    assert found.wrong == ((7, 10), (8, 9)) and found.missing == ((7, 8), (9, 10))


def test_few_persons_say_nothing():
    found = check_pairs(people(20), np.arange(17))
    assert found.wrong == found.missing == () and found.persons == 20
    assert len(check_exchanged(people(20), MIRROR).exchanged) == 0


def test_exchanged_persons_are_found():
    given = people()
    rows = [3, 70, 71, 200, 399]
    given[rows] = given[rows][:, MIRROR]
    found = check_exchanged(given, MIRROR)
    assert found.accuracy > 0.95
    assert set(found.exchanged.tolist()) <= set(rows) and len(found.exchanged) >= 4


def test_sides_that_nothing_tells_accuse_nobody():
    given = people()
    given[:, :5, 2] = 0  # no face, and as many backs as fronts
    backs = np.arange(len(given)) % 2 == 0
    given[backs] = given[backs][:, MIRROR]
    found = check_exchanged(given, MIRROR)
    assert 0.3 < found.accuracy < 0.7 and len(found.exchanged) <= 4


def test_persons_are_counted_by_rule():
    given = people(6)
    given[1, :, 2] = 0
    given[5, 9, :2] = 150, 50
    boxes = np.array([[20, 20, 60, 90]] * 6, float)
    boxes[3], boxes[4] = [200, 20, 10, 10], [0, 0, 30, 30]
    data = make_dataset(
        COCO, [ImageRecord("a.jpg", 160, 160)], [0] * 6, given,
        boxes=boxes, areas=[900, 900, 0, 900, 1000, 20000], crowd=[True] + [False] * 5,
    )  # fmt: skip
    found = check_persons(data)
    assert [rows.tolist() for rows in found.left_out.values()] == [[0], [1], [2], [3]]
    assert list(found.sizes.values()) == [1 - 1 + 1, 0, 1]
    assert found.cut.tolist() == [4] and set(found.outside) == {4, 5}
    assert found.joints.sum() == found.trained.sum() == 2


def test_a_width_and_height_of_0_bound_nothing(tmp_path, run_tool):
    data = make_dataset(COCO, [ImageRecord("a.jpg", 0, 0)], [0] * 60, people(60))
    found = check_persons(data)
    assert found.trained.all() and not len(found.cut) and not len(found.off_image)
    FORMATS["coco"].write(data, tmp_path / "a.json", WriteOptions())
    status, said, error = run_tool("check_dataset.py", tmp_path / "a.json", "--out", tmp_path / "page")
    assert status == 0 and "60 of 60 annotations train" in said, error


def write_images(folder):
    folder.mkdir()
    rng = np.random.default_rng(0)
    shapes = [cv2.resize(rng.integers(0, 255, (7, 9, 3), np.uint8), (180, 140)) for _ in range(5)]
    shapes += [
        cv2.resize(shapes[0], (90, 70), interpolation=cv2.INTER_AREA),
        shapes[1][:, ::-1],
        np.full((50, 50, 3), 9, np.uint8),
    ]
    shapes.append(shapes[-1])
    for number, image in enumerate(shapes):
        cv2.imwrite(str(folder / f"{number}.jpg"), image)
    return [folder / f"{number}.jpg" for number in range(len(shapes))]


def test_like_images_are_found(tmp_path):
    files = write_images(tmp_path / "images")
    (tmp_path / "images" / "9.jpg").write_bytes(b"no image")
    hashes, mirrored, broken = hash_images([ImageFile(path) for path in [*files, tmp_path / "images" / "9.jpg"]])
    found = find_duplicates(hashes, mirrored)
    assert [(each.first, each.second, each.mirrored) for each in sorted(found, key=lambda each: each.first)] == [
        (0, 5, False),
        (1, 6, True),
    ], "plain images are like nothing"
    assert len(broken) == 1 and "9.jpg" in broken[0]
    assert perceptual_hash(cv2.imread(str(files[2]))) not in (0, perceptual_hash(cv2.imread(str(files[3]))))


def test_the_tool_writes_the_page(tmp_path, run_tool):
    files = write_images(tmp_path / "images")
    rows = np.arange(120) % 5
    images = [ImageRecord(file.name, 180, 140) for file in files[:5]]
    given = people(120)
    given[7] = given[7][MIRROR]
    FORMATS["coco"].write(make_dataset(COCO, images, rows, given), tmp_path / "a.json", WriteOptions())
    other = make_dataset(COCO, [ImageRecord("5.jpg", 90, 70)], [0], people(1))
    FORMATS["coco"].write(other, tmp_path / "b.json", WriteOptions())
    tool, folder = "check_dataset.py", tmp_path / "page"
    images_of = ("--images", tmp_path / "images", "--against", tmp_path / "b.json")
    status, said, error = run_tool(tool, tmp_path / "a.json", *images_of, "--out", folder)
    assert status == 0, error
    assert "120 of 120 annotations train, on 5 images" in said
    assert "like images: 1 pairs across splits, 0 within one; 0 unreadable" in said
    page = (folder / "dataset.html").read_text()
    assert "No other pairs fit the data better" in page and "0.jpg and 5.jpg" in page
    assert page.count("data:image/jpeg;base64,") > 4 and "http" not in page.replace("http://www.w3.org", "")
    status, said, _ = run_tool(tool, tmp_path / "a.json", "--out", folder)
    assert status == 0 and "Not looked for" in (folder / "dataset.html").read_text()
    for arguments, message in [
        ((tmp_path / "a.json", "--against", tmp_path / "b.json"), "--against: needs --images"),
        ((tmp_path / "absent.json",), "absent.json: annotation file not found"),
    ]:
        status, _, error = run_tool(tool, *arguments, "--out", folder)
        assert status == 2 and message in error


def test_other_splits_have_their_own_images_and_the_same_category(tmp_path, run_tool):
    """A split whose images lie elsewhere, in a format that has to measure them, and which holds two classes."""
    files = write_images(tmp_path / "images")
    images = [ImageRecord(file.name, 180, 140) for file in files[:5]]
    given = make_dataset(COCO, images, np.arange(60) % 5, people(60))
    FORMATS["coco"].write(given, tmp_path / "a.json", WriteOptions())
    tables = json.loads((tmp_path / "a.json").read_text())
    cat = {**tables["categories"][0], "id": 7, "name": "cat"}
    (tmp_path / "a.json").write_text(json.dumps({**tables, "categories": [*tables["categories"], cat]}))
    found = [{"image_id": 1, "score": 1, "keypoints": people(1)[0].ravel().tolist(), "file_name": "other.jpg"}]
    (tmp_path / "found.json").write_text(json.dumps(found))
    (tmp_path / "elsewhere").mkdir()
    files[0].rename(tmp_path / "elsewhere" / "other.jpg")
    files[5].rename(files[0])  # the same image, smaller: of another size than was annotated
    (tmp_path / "b.json").write_text((tmp_path / "a.json").read_text().replace("0.jpg", "other.jpg"))
    splits = ("--against", tmp_path / "found.json", tmp_path / "b.json", "--against-images", tmp_path / "elsewhere")
    options = ("--images", tmp_path / "images", "--category", "person", "--out", tmp_path / "page")
    status, said, error = run_tool("check_dataset.py", tmp_path / "a.json", *options, *splits)
    assert status == 0, error
    assert "like images: 1 pairs across splits, 0 within one" in said


@pytest.mark.parametrize("count", [0, 1])
def test_nobody_to_train_on(tmp_path, run_tool, count):
    given = people(count)
    given[..., 2] = 0
    FORMATS["coco"].write(
        make_dataset(COCO, [ImageRecord("a.jpg", 9, 9)], [0] * count, given, boxes=[[0, 0, 5, 5]] * count),
        tmp_path / "a.json",
        WriteOptions(),
    )
    status, _, error = run_tool("check_dataset.py", tmp_path / "a.json", "--out", tmp_path / "page")
    assert status == 2 and "nobody in it trains" in error
