import json

import cv2
import numpy as np
import pytest
from small_project import run_tool as run_tool

from pose.datasets.split import hold_out
from pose.errors import DataError


def annotations(count=20):
    images = [{"id": 100 + number, "file_name": f"{number}.jpg"} for number in range(count)]
    people = [
        {
            "id": 2 * number + twin + 1,
            "image_id": 100 + number,
            "category_id": 1,
            "area": 50.0,
            "bbox": [1, 1, 9, 9],
            "keypoints": [3, 4, 2 if number % 2 else 0],
        }
        for number in range(count)
        for twin in (0, 1)
    ]
    return {"info": {"year": 2017}, "images": images, "annotations": people, "categories": []}


def test_whole_pictures_are_held_out_and_nothing_is_lost():
    whole = annotations()
    fit, held = hold_out(whole, 4, seed=1)
    held_images = {image["id"] for image in held["images"]}
    assert len(held_images) == 4 and all(number % 2 for number in held_images)  # odd ones have labels
    assert {person["image_id"] for person in held["annotations"]} == held_images
    assert len(held["annotations"]) == 8 and fit["info"] == whole["info"]
    for kind in ("images", "annotations"):
        both = sorted([*fit[kind], *held[kind]], key=lambda record: record["id"])
        assert both == whole[kind]


def test_the_seed_chooses():
    chosen = {tuple(image["id"] for image in hold_out(annotations(), 4, seed)[1]["images"]) for seed in (0, 0, 1, 2)}
    assert len(chosen) == 3


def test_pictures_without_anyone_who_counts_are_not_held_out():
    whole = annotations()
    for person in whole["annotations"]:
        person.update(
            [("iscrowd", 1)] if person["image_id"] == 101 else [("area", 0)] if person["image_id"] == 103 else []
        )
    with pytest.raises(DataError, match="of 8 pictures"):
        hold_out(whole, 8)
    with pytest.raises(DataError, match="seed must not be negative"):
        hold_out(whole, 3, seed=-1)


@pytest.mark.parametrize("count", [0, 10, 11])
def test_some_are_left_to_train_on(count):
    with pytest.raises(DataError, match=f"cannot hold out {count} of 10"):
        hold_out(annotations(), count)


def test_pictures_that_are_alike_stay_on_one_side():
    alike = [(1, 3), (3, 5), (7, 9), (2, 11)]  # rows; 2 has nobody who counts
    for seed in range(8):
        fit, held = hold_out(annotations(), 3, seed, alike=alike)
        there = {image["id"] - 100 for image in held["images"]}
        for group in ({1, 3, 5}, {7, 9}, {2, 11}):
            assert there & group in (set(), group)
        assert len(fit["images"]) + len(held["images"]) == 20


def test_files_of_other_names_with_one_picture_stay_on_one_side(tmp_path, run_tool):
    whole = annotations(6)
    for number in range(6):
        pixels = np.random.default_rng(number if number != 5 else 1).integers(0, 255, (6, 8, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.jpg"), cv2.resize(pixels, (80 + number, 60)))
    path = tmp_path / "people.json"
    path.write_text(json.dumps(whole))
    held = set()
    for seed in range(6):
        status, out, _ = run_tool("split_dataset.py", path, "--hold-out", 1, "--images", tmp_path, "--seed", seed)
        assert status == 0 and "1 pairs of pictures look the same" in out
        images = json.loads((tmp_path / "people_held_out.json").read_text())["images"]
        held.add(tuple(image["file_name"] for image in images))
    assert held == {("1.jpg", "5.jpg"), ("3.jpg",)}
    status, _, error = run_tool("split_dataset.py", path, "--hold-out", 1, "--images", tmp_path / "none")
    assert status == 2 and "none: is no folder" in error


def test_the_tool_writes_both_beside_the_file(tmp_path, run_tool):
    path = tmp_path / "people.json"
    path.write_text(json.dumps(annotations()))
    status, out, _ = run_tool("split_dataset.py", path, "--hold-out", 3)
    assert status == 0 and "17 pictures, 34 persons" in out and "3 pictures, 6 persons" in out
    assert len(json.loads((tmp_path / "people_held_out.json").read_text())["images"]) == 3
    path.write_text("{}")
    status, _, error = run_tool("split_dataset.py", path, "--hold-out", 3)
    assert status == 2 and "people.json: not a COCO annotation file" in error
