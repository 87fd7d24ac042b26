"""COCO annotations and detections: what is kept, what is refused, and that the message names the place."""

import json

import pytest
from tiny import write_coco

from pose.datasets.coco import read_annotations, read_detections
from pose.errors import DataError
from pose.skeleton import COCO, CROWDPOSE

IMAGES = [
    {"id": 7, "file_name": "seven.jpg", "width": 100, "height": 80},
    {"id": 3, "file_name": "three.jpg", "width": 200, "height": 50},
]


def annotation(**changes):
    keypoints = [0.0] * 51
    keypoints[3:6] = [40.0, 30.0, 1]
    fields = dict(id=1, image_id=7, category_id=1, iscrowd=0, area=50.0, bbox=[10, 20, 30, 40], keypoints=keypoints)
    return {name: value for name, value in {**fields, **changes}.items() if value is not None}


@pytest.fixture
def file(tmp_path):
    def write(*annotations, images=IMAGES):
        return write_coco(tmp_path / "annotations.json", images, list(annotations))

    return write


def test_persons_come_as_arrays(file):
    persons = read_annotations(file(annotation(), annotation(id=2, image_id=3)), COCO)
    assert len(persons) == 2
    assert persons.image_ids[persons.image_index].tolist() == [7, 3]
    assert persons.file_names[persons.image_index].tolist() == [b"seven.jpg", b"three.jpg"]
    assert persons.image_sizes[persons.image_index].tolist() == [[100, 80], [200, 50]]
    assert persons.annotation_ids.tolist() == [1, 2]
    assert persons.box_scores.tolist() == [1, 1]
    assert persons.keypoints[0, 1].tolist() == [40, 30, 1]
    assert persons.keypoints[0, 0].tolist() == [0, 0, 0]


def test_nothing_is_a_python_object_that_workers_would_copy(file):
    for name, array in vars(read_annotations(file(annotation()), COCO)).items():
        assert array is None or not array.dtype.hasobject, name


@pytest.mark.parametrize(
    "other",
    [
        {"category_id": 2},
        {"iscrowd": 1},
        {"area": 0},
        {"keypoints": [5.0, 6.0, 0] * 17},
        {"keypoints": None},
    ],
)
def test_records_that_do_not_train_are_left_out(file, other):
    persons = read_annotations(file(annotation(id=2, **other), annotation()), COCO)
    assert persons.annotation_ids.tolist() == [1]


@pytest.mark.parametrize(
    ("bbox", "clipped"),
    [
        ([10, 20, 30, 40], [10, 20, 29, 39]),  # one pixel less than annotated
        ([-5, -6, 30, 40], [0, 0, 29, 39]),  # x1 is clipped first, the width counts from there
        ([80, 60, 30, 40], [80, 60, 19, 19]),
    ],
)
def test_boxes_are_clipped_to_their_picture_as_the_protocol_does(file, bbox, clipped):
    assert read_annotations(file(annotation(bbox=bbox)), COCO).boxes.tolist() == [clipped]


@pytest.mark.parametrize("bbox", [[10, 20, 0, 40], [10, 20, 30, -1], [100, 20, 30, 40], [10, 90, 30, 40]])
def test_a_box_without_size_inside_its_picture_is_named(file, bbox):
    with pytest.raises(DataError, match=r"annotations\.json: the box .* of annotation 5 has no size") as told:
        read_annotations(file(annotation(), annotation(id=5, bbox=bbox), annotation(id=6, bbox=bbox)), COCO)
    assert "1 more" in str(told.value)


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ([annotation(id=9, keypoints=[1.0, 1.0, 2] * 14)], "annotation 9 has 42 keypoint numbers.*'coco' needs 51"),
        ([annotation(id=9, image_id=8)], "annotation 9 names the unknown picture 8"),
        ([annotation(iscrowd=1)], "no person with labelled keypoints"),
        ([], "no person with labelled keypoints"),
        ([annotation(category_id=None)], "not in COCO's keypoint format.*category_id"),
        ([annotation(bbox=None)], "not in COCO's keypoint format.*bbox"),
        ([annotation(bbox=[1, 2, 3])], "not in COCO's keypoint format"),
        ([annotation(id=9, keypoints=[float("nan"), 1.0, 2] * 17)], "annotation 9 has a keypoint that is no finite"),
        ([annotation(keypoints=["a", "b", 2] * 17)], "not in COCO's keypoint format"),
        ([annotation(bbox=[1, 2, float("nan"), 3])], "needs x, y, width and height as 'bbox'"),
        (["text"], "not in COCO's keypoint format"),
    ],
)
def test_wrong_annotations_are_refused_with_the_files_name(file, annotations, message):
    with pytest.raises(DataError, match=r"annotations\.json: .*" + message) as told:
        read_annotations(file(*annotations), COCO)
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 500


def test_the_skeleton_decides_the_number_of_keypoints(file):
    persons = read_annotations(file(annotation(keypoints=[1.0, 1.0, 2] * 14)), CROWDPOSE)
    assert persons.keypoints.shape == (1, 14, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [', "not JSON"),
        ("[]", "not a COCO annotation file"),
        ('{"images": []}', "not a COCO annotation file"),
        ('{"images": [{"id": 1}], "annotations": []}', "an image record needs id, file_name, width and height"),
        ('{"images": [{"id": 1, "file_name": "a", "width": 1, "height": "b"}], "annotations": []}', "an image record"),
        (json.dumps({"images": IMAGES[:1] * 2, "annotations": []}), "same id"),
    ],
)
def test_a_file_that_is_no_annotation_file_is_refused(tmp_path, text, message):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"broken\.json: .*{message}"):
        read_annotations(path, COCO)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"absent\.json: annotation file not found"):
        read_annotations(tmp_path / "absent.json", COCO)


def detection(**changes):
    fields = {"image_id": 7, "category_id": 1, "bbox": [10.5, 20, 30, 40], "score": 0.5}
    return {**fields, **changes}


@pytest.fixture
def detections(tmp_path, file):
    def read(*records, threshold=0.0):
        path = tmp_path / "detections.json"
        path.write_text(json.dumps(list(records)))
        return read_detections(path, file(annotation()), COCO, threshold)

    return read


def test_detected_boxes_are_used_as_they_are(detections):
    persons, notices = detections(detection(bbox=[-5.5, 20, 300, 40], score=0.25), detection(image_id=3))
    assert notices == ()
    assert persons.boxes.tolist() == [[-5.5, 20, 300, 40], [10.5, 20, 30, 40]]
    assert persons.box_scores.tolist() == [0.25, 0.5]
    assert persons.image_ids[persons.image_index].tolist() == [7, 3]
    assert not persons.keypoints.any()
    assert persons.annotation_ids.tolist() == [-1, -1]


def test_other_categories_lower_scores_and_other_pictures_are_left_out(detections):
    kept, notices = detections(
        detection(score=0.3), detection(category_id=2), detection(score=0.2), detection(image_id=99), threshold=0.3
    )
    assert kept.box_scores.tolist() == [0.3]
    assert "1 boxes of other categories are left out; persons are 1" in notices[0]
    assert "1 of 2 boxes are left out" in notices[1]
    kept, notices = detections(detection(), detection(image_id=99), detection(image_id=98))
    assert len(kept) == 1
    assert "2 of 3 boxes are left out" in notices[0] and "picture 99 is on one that" in notices[0]


def test_pictures_with_annotations_and_no_box_are_counted(tmp_path, file):
    """More than a tenth of them: perhaps the boxes are of a part of the pictures."""
    images = [{**IMAGES[0], "id": number, "file_name": f"{number}.jpg"} for number in range(20)]
    truth = file(*(annotation(id=number + 1, image_id=number) for number in range(19)), images=images)
    path = tmp_path / "detections.json"
    for count, notices in ((19, 0), (18, 0), (17, 1), (1, 1)):
        path.write_text(json.dumps([detection(image_id=number) for number in range(count)]))
        told = read_detections(path, truth, COCO)[1]
        assert len(told) == notices
        assert not told or told[0] == f"{path}: no box is left on {19 - count} of 19 pictures with persons"
    path.write_text(json.dumps([detection(image_id=number, score=number / 20) for number in range(19)]))
    assert "no box is left on 10 of 19" in read_detections(path, truth, COCO, 0.5)[1][-1]
    cars = [annotation(id=100 + number, image_id=number, category_id=3) for number in range(20)]
    path.write_text(json.dumps([detection(image_id=0)]))
    assert read_detections(path, file(annotation(image_id=0), *cars, images=images), COCO)[1] == ()
    for wrong in ({}, {"image_id": [1]}, {"image_id": "one"}):  # records are not checked for boxes
        file(annotation(image_id=0), wrong, images=images)
        assert read_detections(path, truth, COCO)[1] == ()


@pytest.mark.parametrize("box", [[1, 2, 0, 4], [1, 2, -3, 4], [1, float("nan"), 3, 4], [1000, 2, 3, 4]])
def test_one_box_without_size_is_left_out_and_counted(detections, box):
    kept, notices = detections(detection(), detection(bbox=box), detection(score=0.1))
    assert kept.box_scores.tolist() == [0.5, 0.1]
    assert "1 of 3 boxes are left out" in notices[0] and "on picture 7 has no size" in notices[0]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([detection(image_id=99)], "none of its 1 boxes is on a picture of .*annotations.json"),
        ([detection(bbox=[1, 2, 0, 4])], "on picture 7 has no size; remove it"),
        ([detection(bbox=[100, 2, 5, 4])], "has no size inside the picture"),
        ([detection(bbox=[1, 2, float("inf"), 4])] * 3, "has no size, and so do all 3"),
        ([{"image_id": 7}], "not a COCO detections file"),
        ([detection(bbox=[1] * 8)], "not a COCO detections file"),
        ([detection(image_id=10**30)], "not a COCO detections file"),
        ([detection(bbox="box")], "not a COCO detections file"),
        (["text"], "not a COCO detections file"),
    ],
)
def test_wrong_detections_are_refused_with_the_files_name(detections, records, message):
    with pytest.raises(DataError, match=r"detections\.json: .*" + message):
        detections(*records)


def test_real_annotations_and_detections_have_the_published_counts(shared_data):
    root = shared_data / "coco_sample"
    counts = [
        len(read_annotations(root / f"annotations/person_keypoints_{split}2017.json", COCO))
        for split in ("train", "val")
    ]
    assert counts == [140, 73]
    persons, notices = read_detections(
        root / "person_detection_results/COCO_val2017_detections_AP_H_56_person.json",
        root / "annotations/person_keypoints_val2017.json",
        COCO,
    )
    assert (len(persons), notices) == (980, ())
