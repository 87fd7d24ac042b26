import json

import numpy as np
import pytest
from small_project import run_tool as run_tool

from pose.datasets.coco import read_annotations
from pose.datasets.convert import as_skeleton
from pose.errors import DataError
from pose.skeleton import COCO, Skeleton, load_skeleton

LSP = load_skeleton("configs/lsp/skeleton.json")


def coco_file():
    points = np.stack([np.arange(17), 100 + np.arange(17), np.where(np.arange(17) == 5, 0, 2)], axis=1)
    person = {"id": 7, "image_id": 3, "category_id": 1, "iscrowd": 0, "area": 5.0, "bbox": [0, 0, 5, 5]}
    return {
        "images": [{"id": 3, "file_name": "3.jpg", "width": 50, "height": 200}],
        "annotations": [{**person, "keypoints": points.ravel().tolist(), "num_keypoints": 16}],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO.keypoints), "skeleton": []}],
    }


def test_keypoints_of_the_same_name_move_to_their_place():
    converted, _ = as_skeleton(coco_file(), COCO, LSP)
    points = np.reshape(converted["annotations"][0]["keypoints"], (14, 3))
    for name, (x, y, visibility) in zip(LSP.keypoints, points.tolist(), strict=True):
        if name in ("neck", "head_top"):
            assert visibility == 0
        else:
            place = COCO.keypoints.index(name)
            assert (x, y, visibility) == (place, 100 + place, 0 if place == 5 else 2)
    assert converted["annotations"][0]["num_keypoints"] == 11
    assert converted["annotations"][0]["bbox"] == [0, 0, 5, 5] and converted["images"] == coco_file()["images"]


def test_the_files_own_order_category_and_persons_without_keypoints_are_heeded():
    plain = as_skeleton(coco_file(), COCO, LSP)[0]["annotations"][0]
    other = coco_file()
    (person,) = other["annotations"]
    person["keypoints"] = np.reshape(person["keypoints"], (17, 3))[::-1].ravel().tolist()
    other["categories"][0] |= {"id": 0, "keypoints": list(COCO.keypoints[::-1])}
    person["category_id"] = 0
    other["annotations"].append({**person, "id": 8, "keypoints": None})
    converted, notices = as_skeleton(other, COCO, LSP)
    assert converted["annotations"][0]["keypoints"] == plain["keypoints"]
    assert converted["annotations"][1]["keypoints"] is None
    assert converted["categories"][0]["keypoints"] == list(LSP.keypoints)
    assert any("order" in notice for notice in notices)
    other["categories"][0]["keypoints"][3] = "thumb"
    with pytest.raises(DataError, match="thumb"):
        as_skeleton(other, COCO, LSP)


def test_what_does_not_fit_is_refused():
    with pytest.raises(DataError, match="share no keypoint's name"):
        as_skeleton(coco_file(), COCO, Skeleton("hand", ("thumb",)))
    with pytest.raises(DataError, match="annotation 7 has 51 keypoint numbers, the skeleton 'lsp' needs 42"):
        as_skeleton(coco_file(), LSP, COCO)
    wrong = coco_file()
    wrong["annotations"][0]["keypoints"] = ["x"] * 51
    for contents in ({}, wrong):
        with pytest.raises(DataError, match="no annotation file|not in COCO's keypoint format"):
            as_skeleton(contents, COCO, LSP)


def test_the_tool_writes_what_training_reads(tmp_path, run_tool):
    path, out = tmp_path / "coco.json", tmp_path / "lsp.json"
    path.write_text(json.dumps(coco_file()))
    command = ["convert_annotations.py", path, "--target", "configs/lsp/skeleton.json", "--out", out]
    status, said, error = run_tool(*command)
    assert status == 0, error
    assert "1 persons with some of 12 keypoints: right_ankle" in said
    assert read_annotations(out, LSP).keypoints.shape == (1, 14, 3)
    status, _, error = run_tool(*command[:-1], path)
    assert status == 2 and "is an input too" in error
    status, _, error = run_tool(command[0], tmp_path / "absent.json", *command[2:])
    assert status == 2 and "absent.json: annotation file not found" in error
    status, _, error = run_tool(*command[:2], "--target", "nothing.json", "--out", out)
    assert status == 2 and "nothing.json" in error
