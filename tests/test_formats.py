"""Every format there and back: not a point moves by more than rounding, and what is lost is counted."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_project import run_tool as run_tool

from pose.errors import DataError
from pose.formats.dataset import ImageRecord, make_dataset, relative_name, with_skeleton
from pose.formats.names import limbs_from_numbers, pairs_by_name, skeleton_from_names, write_skeleton
from pose.formats.options import ReadOptions, WriteOptions
from pose.formats.table import FORMATS, read_dataset
from pose.skeleton import COCO, Skeleton, load_skeleton

HAND = skeleton_from_names("hand", ["Wrist", "LThumb", "RThumb", "tip"], [[1, 2], [1, 3], [2, 4], [3, 4]])


def dataset(skeleton=COCO, folder=None):
    """Five persons on three of four images: one unlabeled, one crowd region, one without box and area."""
    rng = np.random.default_rng(0)
    sizes = [(64, 48), (641, 479), (30, 50), (20, 10)]
    images = [ImageRecord(f"sub/{number}.jpg", *size, 10 + number) for number, size in enumerate(sizes)]
    owners = [1, 0, 1, 2, 1]
    limits = np.array(sizes)[owners]
    points = rng.random((5, skeleton.num_keypoints, 2)) * limits[:, None]
    visibility = rng.integers(0, 3, (5, skeleton.num_keypoints))
    visibility[:, 0], visibility[[3, 4]] = 2, 0
    boxes = np.hstack([limits * 0.125, limits * [0.5, 0.7]])
    boxes[2] = np.nan
    areas = np.array([100.5, 200, np.nan, 30, 4000])
    crowd = [False, False, False, False, True]
    keypoints = np.dstack([points, visibility])
    made = make_dataset(skeleton, images, owners, keypoints, boxes=boxes, areas=areas, crowd=crowd, ids=[7, 3, 9, 4, 5])
    if folder is not None:
        write_images(made, folder)
    return made


def write_images(given, folder):
    for image in given.images:
        (folder / image.file_name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / image.file_name), np.zeros((image.height, image.width, 3), np.uint8))


def by_place(given):
    """Persons by image and first labeled place, for formats that keep no order."""
    names = [given.images[owner].file_name.split("/")[-1] for owner in given.owners]
    keys = [(name, tuple(point.round(1))) for name, point in zip(names, given.keypoints[:, 0], strict=True)]
    return given.take(sorted(range(len(given)), key=lambda row: keys[row]))


def assert_same_persons(found, given, tolerance, boxes=True, visibility=True):
    found, given = by_place(found.take(found.persons)), by_place(given.take(given.persons))
    assert len(found) == len(given) > 0
    for one, other in zip(found.owners, given.owners, strict=True):
        assert found.images[one].file_name.endswith(given.images[other].file_name.split("/")[-1])
        assert (found.images[one].width, found.images[one].height) == (
            given.images[other].width,
            given.images[other].height,
        )
    np.testing.assert_allclose(found.keypoints[..., :2], given.keypoints[..., :2], atol=tolerance)
    seen = (found.keypoints[..., 2], given.keypoints[..., 2])
    np.testing.assert_array_equal(*(seen if visibility else [each > 0 for each in seen]))
    if boxes:
        drawn = np.isfinite(given.boxes).all(1)
        np.testing.assert_allclose(found.boxes[drawn], given.boxes[drawn], atol=tolerance)


def there_and_back(name, given, path, options=None, write_options=None):
    lost = FORMATS[name].write(given, path, write_options or WriteOptions())
    return read_dataset(path, None, options), lost


def test_coco(tmp_path):
    given = dataset()
    found, lost = there_and_back("coco", given, tmp_path / "a.json")
    assert_same_persons(found, given, 1e-6)
    assert found.images == given.images and found.skeleton is COCO
    np.testing.assert_array_equal(found.ids, given.ids)
    np.testing.assert_array_equal(found.crowd, given.crowd)
    np.testing.assert_array_equal(found.areas[[0, 1, 3, 4]], given.areas[[0, 1, 3, 4]])
    assert +lost == {"boxes made of keypoints": 1, "areas made of boxes (AP reads higher)": 1}


def test_cvat_archive(tmp_path):
    given = dataset(HAND)
    found, lost = there_and_back("cvat-coco", given, tmp_path / "a.zip")
    assert zipfile.ZipFile(tmp_path / "a.zip").namelist() == ["annotations/person_keypoints_default.json"]
    assert_same_persons(found, given, 1e-6)
    assert found.skeleton.keypoints == HAND.keypoints and found.skeleton.limbs == HAND.limbs
    assert lost["persons and regions without keypoints"] == 2


def test_yolo(tmp_path):
    given = dataset(HAND, tmp_path / "images")
    out = tmp_path / "yolo"
    found, lost = there_and_back("yolo", given, out, write_options=WriteOptions(tmp_path / "images", "val"))
    assert_same_persons(found, given, 1e-4)
    assert [image.file_name for image in found.images] == [f"images/val/sub/{n}.jpg" for n in range(4)]
    assert found.skeleton.flip_pairs == ((1, 2),) and found.skeleton.keypoints == HAND.keypoints
    assert +lost == {"areas": 4, "crowd regions": 1, "limbs": 4}
    assert (out / "labels" / "val" / "sub" / "3.txt").read_text() == ""
    FORMATS["yolo"].write(given, out, WriteOptions(tmp_path / "images", "test"))
    assert len(read_dataset(out).images) == 8, "a second split joins the first"
    with pytest.raises(DataError, match="has kpt_shape"):
        FORMATS["yolo"].write(dataset(COCO), out, WriteOptions())


def test_images_that_are_not_there_are_no_links(tmp_path, run_tool):
    FORMATS["coco"].write(dataset(), tmp_path / "a.json", WriteOptions())
    for tool in ("convert_annotations.py", "check_dataset.py"):
        status, _, error = run_tool(
            tool, tmp_path / "a.json", "--images", tmp_path / "none", "--out", tmp_path / "x.json"
        )
        assert status == 2 and error.count("\n") == 1 and "none: no such folder" in error
    assert not (tmp_path / "x.json").exists()


def renamed(given, *names):
    """The same persons on images of other names."""
    images = [replace(image, file_name=name) for image, name in zip(given.images, names, strict=True)]
    return replace(given, images=tuple(images))


def test_yolo_keeps_images_of_other_folders_within_it(tmp_path):
    """A set beside its images, one that escapes, one of another machine, and one of another YOLO folder."""
    images, out = tmp_path / "work" / "images", tmp_path / "work" / "yolo"
    given = dataset(HAND)
    given = renamed(given, *(Path(image.file_name).name for image in given.images))
    write_images(given, images)
    names = ["../images/0.jpg", "images/1.jpg", "sub\\..\\..\\..\\2.jpg", "/data/images/train/3.jpg"]
    moved = renamed(given, *names)
    before = {*tmp_path.rglob("*")}
    lost = FORMATS["yolo"].write(moved, out, WriteOptions(images))
    assert all(path.is_relative_to(out) for path in {*tmp_path.rglob("*")} - before)
    assert lost["images that are not in the folder of images (labels alone)"] == 1
    (out / "images" / "train" / "2.jpg").symlink_to(images / "2.jpg")
    found = read_dataset(out)
    assert_same_persons(found, given, 1e-4)
    assert [image.file_name for image in found.images] == [
        f"images/train/{name}.jpg" for name in ("0", "1", "2", "data/train/3")
    ]
    again, _ = there_and_back("yolo", found, tmp_path / "again", write_options=WriteOptions(out))
    assert_same_persons(again, given, 1e-4)


def yolo_splits(folder):
    """A folder as Roboflow exports them: places that begin with .., three splits, the last without its folder."""
    places = dict(train="../train/images", val="../valid/images", test="../test/images")
    folder.mkdir()
    (folder / "data.yaml").write_text(json.dumps({"kpt_shape": [1, 3], "names": ["person"], **places}))
    for split, count in (("train", 2), ("valid", 1)):
        for kind in ("images", "labels"):
            (folder / split / kind).mkdir(parents=True)
        for number in range(count):
            cv2.imwrite(str(folder / split / "images" / f"{number}.png"), np.zeros((10, 20, 3), np.uint8))
            (folder / split / "labels" / f"{number}.txt").write_text("0 .5 .5 .4 .4 .5 .5 2\n")
    return folder


@pytest.mark.parametrize(
    ("split", "persons", "told"),
    [
        (None, 3, {"images of 'train' in one with other splits": 2, "images of 'val' in one with other splits": 1}),
        ("train", 2, {}),
        ("val", 1, {}),
    ],
)
def test_yolo_splits_are_read_one_by_one_or_together_with_a_word(tmp_path, split, persons, told):
    found = read_dataset(yolo_splits(tmp_path / "y"), options=ReadOptions(split=split))
    assert len(found) == persons and found.left_out == {"splits without an image": 1, **told}


def test_yolo_without_the_wanted_split(tmp_path):
    with pytest.raises(DataError, match="has no images of the split 'test'; there are train, val"):
        read_dataset(yolo_splits(tmp_path / "y"), options=ReadOptions(split="test"))


def test_yolo_labels_whose_image_is_gone_are_counted(tmp_path):
    folder = yolo_splits(tmp_path / "y")
    (folder / "train/images/1.png").unlink()
    (folder / "train/labels/classes.txt").write_text("person\n")  # as LabelImg writes beside them
    found = read_dataset(folder, options=ReadOptions(split="train"))
    assert len(found) == 1
    assert found.left_out["persons of label files whose image is in no split"] == 1


@pytest.mark.parametrize("name", ["yolo", "openpose"])
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.jpg", "a.png", "b.jpg", "c.jpg"], r"images a\.jpg and a\.png would share the file of a"),
        (["../a.jpg", "a.jpg", "b.jpg", "c.jpg"], r"\.\./a\.jpg and a\.jpg would share"),
        (["a.jpg", "..", "b.jpg", "c.jpg"], "called '..', which names no file"),
        (["a.jpg", "", "b.jpg", "c.jpg"], "called '', which names no file"),
    ],
)
def test_images_that_would_share_a_file_are_refused(tmp_path, name, names, message):
    with pytest.raises(DataError, match=message):
        FORMATS[name].write(renamed(dataset(), *names), tmp_path / "out", WriteOptions())
    assert not (tmp_path / "out").exists()


def test_names_that_go_back_and_forth(tmp_path):
    assert relative_name("a\\..\\b\\.\\c.jpg") == "b/c.jpg"
    assert relative_name("../images/c.jpg") == "../images/c.jpg", "it says where the image is"
    assert relative_name("C:\\data\\..\\c.jpg") == relative_name("//c.jpg") == "c.jpg"


def test_yolo_leaves_nothing_outside_the_image(tmp_path):
    given = dataset(HAND, tmp_path / "images")
    given.keypoints[0, 0, :2] = -3, 5
    given.boxes[1] = -10, -10, 40, 40
    found, lost = there_and_back("yolo", given, tmp_path / "y", write_options=WriteOptions(tmp_path / "images"))
    assert lost["joints outside their image (unlabeled now)"] == 1
    assert lost["boxes beyond their image (cut)"] == 1
    numbers = np.array([line.split() for p in (tmp_path / "y").rglob("*.txt") for line in p.read_text().splitlines()])
    assert (numbers[:, 1:5].astype(float) >= 0).all() and (numbers[:, 1:5].astype(float) <= 1).all()
    assert found.labeled.sum() == given.labeled.sum() - 1


def yolo_folder(folder, lines, shape, **fields):
    for name in ("images", "labels"):
        (folder / name / "train").mkdir(parents=True)
    cv2.imwrite(str(folder / "images" / "train" / "a.png"), np.zeros((100, 200, 3), np.uint8))
    (folder / "labels" / "train" / "a.txt").write_text(lines)
    (folder / "data.yaml").write_text(json.dumps({"train": "images/train", "kpt_shape": shape, **fields}))
    return folder


def test_yolo_with_two_columns_and_several_classes(tmp_path):
    lines = "1 .5 .5 .2 .4 .5 .5 0 0 -1 -1\n0 .5 .5 .1 .1 .1 .1 .1 .1 .1 .1\n\n"
    folder = yolo_folder(tmp_path, lines, [3, 2], names=["ball", "person"], path="/elsewhere/gone")
    found = read_dataset(folder)
    assert found.keypoints.tolist() == [[[100, 50, 2], [0, 0, 0], [0, 0, 0]]]
    np.testing.assert_allclose(found.boxes, [[80, 30, 40, 40]])
    assert found.left_out == {"objects of class 'ball'": 1}
    assert found.skeleton.keypoints == ("keypoint_0", "keypoint_1", "keypoint_2")
    assert read_dataset(folder, options=ReadOptions(category="ball")).keypoints[0, 0].tolist() == [20, 10, 2]


@pytest.mark.parametrize(
    ("lines", "fields", "message"),
    [
        ("0 .5 .5 .2 .4 .5 .5", {}, "a.txt, line 1: has 7 numbers"),
        ("0 .5 .5 .2 .4 .5 x 2", {}, "line 1: not a row of numbers"),
        ("0 .5 .5 .2 .4 .5 .5 7", {}, "third column is not 0, 1 or 2"),
        ("0 .5 .5 .2 .4 .5 nan 2", {}, "not finite"),
        ("", {"names": ["cat", "dog"]}, "choose one by --category"),
        ("", {"flip_idx": [1]}, "no mirror"),
        ("", {"train": "nowhere"}, "no images in nowhere"),
    ],
)
def test_yolo_that_is_wrong(tmp_path, lines, fields, message):
    with pytest.raises(DataError, match=message):
        read_dataset(yolo_folder(tmp_path, lines, [1, 3], **fields))


def test_found_persons(tmp_path):
    given = dataset()
    found, lost = there_and_back("keypoints", given, tmp_path / "keypoints.json")
    assert_same_persons(found, given, 1e-3, boxes=False, visibility=False)
    assert [image.file_name for image in found.images] == ["sub/1.jpg", "sub/0.jpg"]
    assert lost["hidden joints (seen now)"] == (given.keypoints[..., 2] == 1).sum()
    assert np.isfinite(found.scores).all() and lost["images without persons"] == 2
    coco, _ = there_and_back("coco", found, tmp_path / "coco.json")
    assert_same_persons(coco, found, 1e-6)


def test_found_persons_of_the_demo_need_the_images(tmp_path):
    cv2.imwrite(str(tmp_path / "me.png"), np.zeros((30, 40, 3), np.uint8))
    points = [[1.5, 2.5, 0.9]] * 16 + [[3, 3, 0.1]]
    record = {"image_id": 0, "category_id": 1, "keypoints": sum(points, []), "score": 0.8, "box": [0, 0, 9, 9]}
    (tmp_path / "k.json").write_text(json.dumps([{**record, "box_score": 1, "file_name": "me.png"}]))
    with pytest.raises(DataError, match="give the image folder by --images"):
        read_dataset(tmp_path / "k.json")
    found = read_dataset(tmp_path / "k.json", options=ReadOptions(images=tmp_path))
    assert found.images[0] == ImageRecord("me.png", 40, 30, 0)
    assert found.labeled.sum() == 16 and found.joint_scores[0, 16] == 0.1


def test_body_joints_of_larger_skeletons(tmp_path):
    person = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5]}
    tables = {"images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}], "categories": []}
    halpe = {**person, "keypoints": [1, 2, 2] * 136}
    whole = {**person, "keypoints": [1, 2, 2] * 17, "face_kpts": [1, 1, 1] * 68, "foot_kpts": [1, 1, 1] * 6}
    for record, name, count, beyond in ((halpe, "halpe_body", 26, 110), (whole, "coco", 17, 74)):
        (tmp_path / "a.json").write_text(json.dumps({**tables, "annotations": [record]}))
        found = read_dataset(tmp_path / "a.json")
        assert (found.skeleton.name, found.skeleton.num_keypoints) == (name, count)
        assert +found.left_out == {"face, hand and foot keypoints": beyond}


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["nose", "left_eye", "right_eye"], [(1, 2)]),
        (["LEye", "REye", "Nose"], [(0, 1)]),
        (["eye_l", "eye_r", "tail"], [(0, 1)]),
        (["L eye", "R eye"], [(0, 1)]),
        (["leftEye", "rightEye"], [(0, 1)]),
        (["eyeLeft", "eyeRight"], [(0, 1)]),
        (["lknee", "rknee", "lip", "rib"], [(0, 1)]),
        (["pawR", "pawL"], [(0, 1)]),
        (["bright_spot", "blight_spot", "left", "right"], [(2, 3)]),
        (["Left Shoulder", "right shoulder"], [(0, 1)]),
        (["left_eye", "nose"], []),
    ],
)
def test_pairs_by_name(names, pairs):
    assert list(pairs_by_name(names)) == pairs


def test_limbs_from_0_or_1():
    names = ["left_eye", "right_eye", "nose", "neck"]
    from_0 = [[0, 2], [1, 2], [2, 3]]
    from_1 = [[1, 3], [2, 3], [3, 4]]
    for limbs in (from_0, from_1):
        assert limbs_from_numbers(limbs, names, [(0, 1)]) == ((0, 2), (1, 2), (2, 3))
    # without a 0 or a 4, the reading in which left and right are alike
    assert limbs_from_numbers([[1, 3], [2, 3]], names, [(0, 1)]) == ((0, 2), (1, 2))
    assert limbs_from_numbers([[1, 3], [2, 3]], names, [(1, 2)]) == ((1, 3), (2, 3))
    with pytest.raises(DataError, match="from 0 to 4, but there are 4"):
        limbs_from_numbers([[0, 4]], names, [])


def test_a_written_skeleton_is_read(tmp_path):
    write_skeleton(tmp_path / "hand.json", HAND)
    assert load_skeleton(tmp_path / "hand.json") == HAND
    assert HAND.sides == ("center", "left", "right", "center")


def test_another_skeleton_by_name():
    given = dataset()
    other = with_skeleton(given, Skeleton("two", ("neck", "nose")))
    np.testing.assert_array_equal(other.keypoints[:, 1], given.keypoints[:, 0])
    assert not other.labeled[:, 0].any()
    assert other.left_out == {"keypoints that two does not have": given.labeled[:, 1:].sum()}
    with pytest.raises(DataError, match="share no"):
        with_skeleton(given, HAND)


def test_the_tool(tmp_path, run_tool):
    given = dataset(HAND, tmp_path / "images")
    FORMATS["coco"].write(given, tmp_path / "a.json", WriteOptions())
    images, tool = ("--images", tmp_path / "images"), "convert_annotations.py"
    skeleton = ("--write-skeleton", tmp_path / "hand.json")
    status, said, error = run_tool(tool, tmp_path / "a.json", tmp_path / "y", "--to", "yolo", *images, *skeleton)
    assert status == 0, error
    assert "3 persons with" in said and "not written as it was: 5 areas; 1 crowd regions; 4 limbs" in said
    assert cv2.imread(str(tmp_path / "hand.png")).shape[0] > 100
    status, said, error = run_tool(tool, tmp_path / "y", tmp_path / "b.json")
    assert status == 0, error
    bad = tmp_path / "bad.json"
    bad.write_text('[{"image_id": 1, "score": 1, "keypoints": "x"}]')
    assert_same_persons(read_dataset(tmp_path / "b.json"), given, 1e-4)
    for arguments, message in [
        ((tmp_path / "y", tmp_path / "y", "--to", "yolo"), "the input is in this folder"),
        ((tmp_path / "a.json", tmp_path / "a.json"), "is an input too"),
        ((tmp_path / "a.json", tmp_path / "b.xyz"), "--to: say which format"),
        ((tmp_path / "a.json",), "OUT: say what to write"),
        ((bad, tmp_path / "b.json"), "bad.json: record 0 needs"),
        ((tmp_path / "images", tmp_path / "b.json"), "in none of the formats"),
        ((tmp_path / "a.json", tmp_path / "a.json" / "y", "--to", "yolo"), "cannot be written"),
    ]:
        status, _, error = run_tool(tool, *arguments)
        assert (status, message in error) == (2, True), error
