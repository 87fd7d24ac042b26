"""Boxes from COCO-format files: which picture or frame they belong to, and what is refused."""

import json

import numpy as np
import pytest

from pose.errors import DataError
from pose.inference.boxes import CocoBoxes, as_boxes, check_inside, trailing_number, whole_image


def annotation_file(path, boxes, names=("a.jpg", "b.jpg"), **more):
    images = [{"id": 10 + row, "file_name": name, "width": 100, "height": 50} for row, name in enumerate(names)]
    annotations = [{"id": row, "image_id": 10, "category_id": 1, "bbox": box, **more} for row, box in enumerate(boxes)]
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


def results_file(path, records):
    path.write_text(json.dumps([{"category_id": 1, "score": 0.9, **record} for record in records]))
    return path


def test_annotated_boxes_belong_to_the_picture_of_that_name_and_are_clipped_as_in_testing(tmp_path):
    boxes = CocoBoxes(annotation_file(tmp_path / "f.json", [[-10, 0, 60, 20], [80, 30, 30, 30]]))
    assert boxes.of_image("pictures/a.jpg").tolist() == [[0, 0, 59, 19, 1], [80, 30, 19, 19, 1]]
    assert boxes.image_id("a.jpg") == 10
    assert boxes.image_id("c.jpg") is None
    assert len(boxes.of_image("b.jpg")) == len(boxes.of_image("c.jpg")) == 0


def test_file_names_with_folders_need_the_same_folders(tmp_path):
    path = annotation_file(tmp_path / "f.json", [[0, 0, 9, 9]], names=("left/a.jpg", "right/a.jpg"))
    boxes = CocoBoxes(path)
    assert len(boxes.of_image("/data/left/a.jpg")) == 1
    assert len(boxes.of_image("/data/right/a.jpg")) == 0
    assert boxes.image_id("/data/a.jpg") is None


def test_crowds_and_other_categories_are_no_persons(tmp_path):
    boxes = CocoBoxes(annotation_file(tmp_path / "f.json", [[0, 0, 9, 9]], iscrowd=1))
    assert len(boxes.of_image("a.jpg")) == 0
    assert f"{tmp_path / 'f.json'}: 1 crowd regions: left out, they are no person's box" in boxes.notices
    path = annotation_file(tmp_path / "f.json", [[0, 0, 9, 9]], category_id=3)
    assert len(CocoBoxes(path).of_image("a.jpg")) == 1  # the only category there is
    file = json.loads(path.read_text())
    path.write_text(json.dumps({**file, "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}]}))
    assert len(CocoBoxes(path).of_image("a.jpg")) == 0


def test_results_belong_to_the_picture_whose_name_ends_with_the_number_or_to_that_frame(tmp_path):
    records = [{"image_id": 73, "bbox": [1, 2, 3, 4]}, {"image_id": 73, "bbox": [5, 6, 7, 8], "score": 0.2}]
    path = results_file(tmp_path / "f.json", records)
    assert CocoBoxes(path).of_image("COCO_val2014_000000000073.jpg")[:, 4].tolist() == [0.9, 0.2]
    sure = CocoBoxes(path, threshold=0.5)
    assert sure.of_image("000000000073.jpg").tolist() == [[1, 2, 3, 4, 0.9]]
    assert sure.notices == (f"{path}: 1 boxes score below the box threshold of 0.5: left out",)
    assert len(CocoBoxes(path).of_image("74.jpg")) == len(CocoBoxes(path).of_image("face.jpg")) == 0
    assert len(CocoBoxes(path).of_frame(73)) == 2
    assert len(CocoBoxes(path).of_frame(0)) == 0


def test_annotations_of_frames_belong_to_the_frame_their_file_name_ends_with(tmp_path):
    path = annotation_file(tmp_path / "f.json", [[0, 0, 9, 9]], names=("frame_000007.jpg",))
    assert len(CocoBoxes(path).of_frame(7)) == 1
    assert len(CocoBoxes(path).of_frame(10)) == 0


@pytest.mark.parametrize(
    "content",
    ["[", "{}", "3", '[{"image_id": 1}]', '[{"image_id": 1, "bbox": [1, 2, 3], "score": 1}]', '{"images": []}',
     '[{"image_id": 1, "bbox": [1, 2, 0, 4], "score": 1}]', '[{"image_id": 1, "bbox": [1, 2, NaN, 4], "score": 1}]',
     '{"images": [], "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}]}'],
)  # fmt: skip
def test_files_that_are_neither_kind_are_named(tmp_path, content):
    path = tmp_path / "boxes.json"
    path.write_text(content)
    with pytest.raises(DataError, match="boxes.json"):
        CocoBoxes(path)


def test_a_missing_file_and_an_annotated_box_outside_its_picture_are_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.json"):
        CocoBoxes(tmp_path / "none.json")
    with pytest.raises(DataError, match=r"f\.json.*\[200.0, 0.0, 9.0, 9.0\] on picture 10 has no size inside its"):
        CocoBoxes(annotation_file(tmp_path / "f.json", [[200, 0, 9, 9]]))


def test_one_box_without_size_is_left_out_and_counted(tmp_path):
    annotated = CocoBoxes(annotation_file(tmp_path / "a.json", [[200, 0, 9, 9], [1, 2, 9, 9]]))
    found = [{"image_id": 7, "bbox": box} for box in ([1, 2, 0, 4], [1, 2, 9, 9])]
    listed = CocoBoxes(results_file(tmp_path / "r.json", found))
    for boxes, name in ((annotated, "a.jpg"), (listed, "7.jpg")):
        assert len(boxes.of_image(name)) == 1
        assert "1 of 2 boxes are left out" in boxes.notices[0] and "has no size" in boxes.notices[0]


def test_records_are_read_by_the_rules_of_training(tmp_path):
    path = annotation_file(tmp_path / "f.json", [[0, 0, 9, 9]], iscrowd=None)
    boxes = CocoBoxes(path)
    assert len(boxes.of_image("a.jpg")) == 1 and "iscrowd null" in boxes.notices[0]
    with pytest.raises(DataError, match="needs x, y, width and height as 'bbox'"):
        CocoBoxes(annotation_file(tmp_path / "f.json", [[0, 0, 9, 9] * 2]))
    with pytest.raises(DataError, match="needs 0 or 1 as 'iscrowd'"):
        CocoBoxes(annotation_file(tmp_path / "f.json", [[0, 0, 9, 9]], iscrowd=2))


def test_boxes_for_other_pictures_or_frames_are_refused(tmp_path):
    boxes = CocoBoxes(results_file(tmp_path / "f.json", [{"image_id": 73, "bbox": [1, 2, 3, 4]}]))
    told = []
    boxes.check_images([tmp_path / "73.jpg"], told.append)
    assert not told
    boxes.check_images([tmp_path / "9.jpg", tmp_path / "73.jpg"], told.append)
    assert len(told) == 1 and f"does not speak of 1 of 2 pictures, {tmp_path / '9.jpg'} among them" in told[0]
    with pytest.raises(DataError, match=r"f\.json"):
        boxes.check_images([tmp_path / "9.jpg"], print)
    boxes.check_frames("v.mp4", 74)
    with pytest.raises(DataError, match=r"f\.json.*v\.mp4"):
        boxes.check_frames("v.mp4", 73)


def test_a_refusal_says_what_the_pictures_are_called(tmp_path):
    boxes = CocoBoxes(annotation_file(tmp_path / "f.json", [[0, 0, 9, 9]], names=("left/a.jpg",)))
    with pytest.raises(
        DataError, match="its pictures are called 'left/a.jpg'; choose the boxes made for these .* folder"
    ):
        boxes.check_images([tmp_path / "right/a.jpg"], print)


def test_files_without_persons_are_no_mistake(tmp_path):
    """Nothing found, or nothing good enough, is not the same as boxes for other pictures."""
    doubtful = results_file(tmp_path / "f.json", [{"image_id": 73, "bbox": [1, 2, 3, 4], "score": 0.1}])
    for boxes in (
        CocoBoxes(results_file(tmp_path / "empty.json", [])),
        CocoBoxes(doubtful, threshold=0.5),
        CocoBoxes(annotation_file(tmp_path / "a.json", [], names=("73.jpg",))),
    ):
        boxes.check_images([tmp_path / "73.jpg"], print)
        boxes.check_frames("v.mp4", 74)
        assert len(boxes.of_image(tmp_path / "73.jpg")) == 0


def test_boxes_as_arrays():
    assert as_boxes([[1, 2, 3, 4]]).tolist() == [[1, 2, 3, 4, 1]]
    assert as_boxes([[1, 2, 3, 4, 0.5]]).tolist() == [[1, 2, 3, 4, 0.5]]
    assert as_boxes([]).shape == (0, 5)
    for wrong in ([1, 2, 3, 4], [[1, 2, 3]], [[1, 2, 0, 4]], [[1, 2, np.nan, 4]], [["a", 2, 3, 4]]):
        with pytest.raises(DataError):
            as_boxes(wrong)


def test_a_box_must_touch_its_picture():
    image = np.zeros((50, 100, 3), np.uint8)
    check_inside(as_boxes([[-5, -5, 10, 10], [99, 49, 10, 10]]), image)
    for outside in ([100, 0, 5, 5], [0, 50, 5, 5], [-5, 0, 5, 5]):
        with pytest.raises(DataError, match="100 x 50"):
            check_inside(as_boxes([outside]), image)
    assert whole_image(image).tolist() == [[0, 0, 100, 50, 1]]


def test_numbers_in_names():
    assert trailing_number("a/b12/000000000785.jpg") == 785
    assert trailing_number("COCO_val2014_000000000073.jpg") == 73
    assert trailing_number("12a.jpg") is None
