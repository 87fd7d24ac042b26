"""What the rules change or leave out is told by every tool that reads annotations, and image records have one rule."""

import json
from functools import partial

import numpy as np
import pytest
from small_project import ANNOTATIONS, run_tool, write_project
from tiny import person, write_coco, write_config, write_tiny_set

from pose.datasets.annotations import boxes_in, persons_in
from pose.datasets.coco import read_annotations, read_detections
from pose.datasets.image_records import listed_images
from pose.datasets.train_set import TrainSet
from pose.datasets.train_sets import held_out, read_train_sets
from pose.errors import DataError
from pose.evaluation.coco_eval import annotation_notices, load_annotations
from pose.formats.table import read_dataset
from pose.inference.boxes import CocoBoxes
from pose.skeleton import COCO

__all__ = ["run_tool"]

DOG = "annotations of category dog are left out; persons are category person"


def drawn(rng):
    """Keypoints (17, 3), all seen."""
    return np.hstack([rng.uniform(8, 56, (17, 2)), np.full((17, 1), 2)])


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Annotations without areas, one of a dog; twice, the second a few pixels off; the first as perfect results."""
    folder = write_project(tmp_path_factory.mktemp("project"))
    file = json.loads((folder / "data" / ANNOTATIONS).read_text())
    names = list(COCO.keypoints)
    file["categories"] = [
        {"id": 1, "name": "person", "keypoints": names},
        {"id": 2, "name": "dog", "keypoints": names},
    ]
    for each in file["annotations"]:
        del each["area"]
    file["annotations"][-1]["category_id"] = 2
    (folder / "a.json").write_text(json.dumps(file))
    records = [
        {key: each[key] for key in ("image_id", "category_id", "keypoints")} | {"score": 0.5}
        for each in file["annotations"]
        if each["num_keypoints"]
    ]
    (folder / "results.json").write_text(json.dumps(records))
    noise = np.random.default_rng(0)
    for each in file["annotations"]:
        points = np.reshape(each["keypoints"], (17, 3))
        points[:, :2] += noise.normal(0, 2, (17, 2)) * (points[:, 2:] > 0)
        each["keypoints"] = points.ravel().tolist()
    (folder / "b.json").write_text(json.dumps(file))
    return folder


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("score_results.py", ("results.json", "a.json")),
        ("compare_results.py", ("results.json", "results.json", "a.json", "--resamples", "100")),
        ("estimate_sigmas.py", ("coco", "a.json", "b.json")),
        ("split_dataset.py", ("a.json", "--hold-out", "1", "--out-dir", "parts")),
        ("check_dataset.py", ("a.json", "--out", "page")),
        ("convert_annotations.py", ("a.json", "out.json")),
        ("test_detector.py", ("--boxes", "boxes.json", "--annotations", "a.json")),
    ],
)
def test_every_tool_tells_what_the_rules_did(project, run_tool, monkeypatch, tmp_path, tool, arguments):
    for name in ("a.json", "b.json", "results.json"):
        (tmp_path / name).write_text((project / name).read_text())
    people = json.loads((tmp_path / "a.json").read_text())["annotations"]
    boxes = [{key: each[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.5} for each in people]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    monkeypatch.chdir(tmp_path)
    status, printed, error = run_tool(tool, *arguments)
    assert not status, error
    assert f"1 {DOG}" in printed
    assert any(
        words in printed for words in ("persons without an area", "areas made of boxes", "areas from boxes: ")
    ), printed
    if tool in ("score_results.py", "compare_results.py", "estimate_sigmas.py"):
        assert "areas from boxes: OKS forgives" in printed
    if tool in ("score_results.py", "compare_results.py"):
        assert "results.json: 1 records of other categories are left out; persons are 1 (others: 1 of 2)" in printed


def test_browsing_tells_beside_the_sheets(run_tool, tmp_path):
    root = write_tiny_set(tmp_path / "set")
    path = root / "annotations/person_keypoints_train2017.json"
    file = json.loads(path.read_text())
    file["annotations"][0]["num_keypoints"] = 3
    path.write_text(json.dumps(file))
    config = write_config(tmp_path / "config.py", root)
    status, printed, error = run_tool("browse_dataset.py", config, "--count", 1, "--out", tmp_path / "out")
    assert not status and "1 persons whose num_keypoints is wrong: counted anew" in error
    assert printed.splitlines() == [str(tmp_path / "out" / "train_001.png")]


def test_who_does_not_train_is_told_by_reason_and_stays_an_ignore_region_of_what_is_held_out(tmp_path):
    rng = np.random.default_rng(0)
    images = [{"id": number, "file_name": f"{number}.jpg", "width": 64, "height": 64} for number in (1, 2)]
    people = [person(1 + each % 2, each + 1, drawn(rng)) for each in range(10)]
    people[0].update(area=0)
    people[1].update(iscrowd=1)
    for each in people[2:4]:
        each.update(keypoints=None)
    write_coco(tmp_path / "a.json", images, people)
    one = TrainSet("a.json", ".")
    (line, *_) = read_train_sets([one], tmp_path, COCO).told
    wanted = "1 crowd regions, 2 persons without a labelled keypoint, 1 persons of area 0"
    assert line == f"a: 6 persons with {6 * 17} joints; left out: {wanted}"
    file, told = held_out([TrainSet("a.json", ".", hold_out=1)], tmp_path, COCO)
    assert len(file["annotations"]) == 5 and any("persons of area 0" in each for each in told)
    (tmp_path / "held.json").write_text(json.dumps(file))
    truth = load_annotations(tmp_path / "held.json", COCO)
    assert sum(each["num_keypoints"] > 0 for each in truth.dataset["annotations"]) == 3
    assert len(annotation_notices(truth)) == 1 and "areas from boxes" in annotation_notices(truth)[0]


NAMED = [
    ("file_name", None, "number 1 has None as file_name"),
    ("file_name", 5, "number 1 has 5 as file_name"),
    ("id", "2", "number 1 has '2' as id"),
    ("id", 2.5, "number 1 has 2.5 as id"),
    ("width", "wide", "number 1 has 'wide', 64 as width and height"),
    ("width", 64.5, "number 1 has 64.5, 64 as width and height"),
    ("height", -1, "number 1 has 64, -1 as width and height"),
]


@pytest.fixture
def changed(tmp_path):
    """Writes a file of two pictures and as many persons whose second image record is changed."""

    def write(**fields):
        rng = np.random.default_rng(0)
        images = [{"id": number, "file_name": f"{number}.jpg", "width": 64, "height": 64} for number in (1, 2)]
        images[1].update(fields)
        images[1] = {key: value for key, value in images[1].items() if value is not None}
        people = [person(number, number, drawn(rng)) for number in (1, 2)]
        return write_coco(tmp_path / "a.json", images, people)

    return write


READERS = {
    "training and testing": partial(read_annotations, skeleton=COCO),
    "boxes of the demo": CocoBoxes,
    "converting": read_dataset,
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize(("field", "value", "said"), NAMED)
def test_a_wrong_image_record_is_named_by_every_reader(changed, reader, field, value, said):
    with pytest.raises(DataError, match=rf"a\.json: an image record needs id, file_name, .*; {said}"):
        reader(changed(**{field: value}))


@pytest.mark.parametrize("sizes", [dict(width=None, height=None), dict(width=0, height=0), dict(width=None)])
def test_pictures_of_unknown_size_are_read_by_every_reader_and_counted(changed, sizes):
    path = changed(**sizes)
    file = json.loads(path.read_text())
    assert [image.size for image in listed_images(file, path)] == [(64, 64), (0, 0)]
    assert len(read_annotations(path, COCO)) == len(CocoBoxes(path).of_image("1.jpg")) + 1 == 2
    assert len(read_dataset(path)) == 2
    for persons in (persons_in(file, path, COCO), boxes_in(file, path)):
        assert f"{path}: 1 pictures of unknown size: their persons' boxes are not clipped" in persons.notices


@pytest.mark.parametrize("sizes", [dict(width="64"), dict(width=64.0)])
def test_sizes_that_are_plain_numbers_are_read(changed, sizes):
    path = changed(**sizes)
    assert read_annotations(path, COCO).image_sizes.tolist() == [[64, 64]] * 2


def test_a_record_without_an_id_is_named_by_its_place(tmp_path):
    file = {"images": [{"id": 1}], "annotations": [{"image_id": 1, "category_id": 1}]}
    with pytest.raises(DataError, match="annotation number 0 needs a whole number"):
        persons_in(file, "a.json")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (dict(score=None), r"record 1 \(picture 2\) has no finite number as score, but None"),
        (dict(bbox=[1, 2, 3]), r"record 1 \(picture 2\) has \[1, 2, 3\] as bbox"),
        (dict(image_id=2**70), "record 1 has 1180591620717411303424 as image_id"),
        (dict(category_id="person"), r"record 1 \(picture 2\) has 'person' as category_id"),
    ],
)
def test_a_wrong_detection_is_named_in_test_and_demo(changed, tmp_path, fields, said):
    good = [{"image_id": number, "category_id": 1, "bbox": [1, 2, 9, 9], "score": 0.5} for number in (1, 2)]
    good[1].update(fields)
    path = tmp_path / "found.json"
    path.write_text(json.dumps(good))
    for read in (CocoBoxes, partial(read_detections, annotations=changed(), skeleton=COCO)):
        with pytest.raises(DataError, match=rf"found\.json: not a COCO detections file: {said}"):
            read(path)
