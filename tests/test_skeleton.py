"""Skeletons: what is built in, what a file may say, and what is refused."""

import json

import numpy as np
import pytest

from pose.skeleton import BUILT_IN, COCO, Skeleton, load_skeleton


def test_coco_is_cocos() -> None:
    assert COCO.num_keypoints == 17
    assert COCO.flip_index.tolist() == [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    assert COCO.upper_body == tuple(range(11))


@pytest.mark.parametrize("skeleton", BUILT_IN.values(), ids=str)
def test_flipping_twice_is_nothing_and_sides_trade_places(skeleton: Skeleton) -> None:
    index = skeleton.flip_index
    np.testing.assert_array_equal(index[index], np.arange(skeleton.num_keypoints))
    for keypoint, mirrored in enumerate(index):
        name = skeleton.keypoints[keypoint]
        expected = name.replace("left", "*").replace("right", "left").replace("*", "right")
        assert skeleton.keypoints[mirrored] == expected


def test_a_file_may_use_names_and_leave_sigmas_out(tmp_path) -> None:
    path = tmp_path / "hand.json"
    path.write_text(
        json.dumps({"keypoints": ["wrist", "left_tip", "right_tip"], "flip_pairs": [["left_tip", "right_tip"]]})
    )
    skeleton = load_skeleton(path)
    assert skeleton.name == "hand"
    assert skeleton.flip_index.tolist() == [0, 2, 1]
    assert skeleton.sigmas_estimated
    assert not COCO.sigmas_estimated


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"keypoints": ["a", "b"], "flip_pairs": [["a", "c"]]}, "'c'"),
        ({"keypoints": ["a", "b"], "flip_pairs": [["a", "b"], ["b", "a"]]}, "two flip_pairs"),
        ({"keypoints": ["a", "b"], "sigmas": [0.1]}, "1 sigmas for 2"),
        ({"keypoints": ["a", "b"], "sigmas": [0.1, 0]}, "positive"),
        ({"keypoints": ["a", "a"]}, "different"),
        ({"keypoints": ["a", "b"], "limbs": [[0, 2]]}, "limbs"),
        ({"keypoints": ["a", "b"], "limbs": [[0]]}, "limbs"),
        ({"keypoints": ["a"], "sigma": [0.1]}, "'sigma'"),
        ({"names": ["a"]}, "keypoints"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused_by_name(tmp_path, fields: dict, word: str) -> None:
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(fields))
    with pytest.raises(ValueError, match="odd.json") as error:
        load_skeleton(path)
    assert word in str(error.value)


def test_an_unknown_skeleton_says_what_there_is() -> None:
    with pytest.raises(FileNotFoundError, match="crowdpose"):
        load_skeleton("cocoo")
