"""Sigmas from repeated annotations: those that the annotators were given come back."""

import json

import numpy as np
import pytest
from small_project import run_tool

from pose.errors import DataError
from pose.evaluation.sigmas import estimate_sigmas
from pose.skeleton import load_skeleton

__all__ = ["run_tool"]

NAMES = ("left_hand", "right_hand", "head")
SIGMAS = np.array([0.03, 0.06, 0.1])


def annotators(folder, count, persons=800, seed=0):
    """Files of the same persons, two an image, every keypoint off by its sigma; each leaves some keypoints out."""
    rng = np.random.default_rng(seed)
    sizes = np.exp(rng.uniform(np.log(40), np.log(300), persons))
    corners = np.stack([np.where(np.arange(persons) % 2, 1000, 0), rng.uniform(0, 300, persons)], axis=1)
    places = corners[:, None] + rng.uniform(0.1, 0.9, (persons, 3, 2)) * sizes[:, None, None]
    images = [{"id": index, "file_name": f"{index}.jpg", "width": 2000, "height": 2000} for index in range(persons)]
    category = {"id": 1, "name": "person"}
    paths = []
    for number in range(count):
        moved = places + rng.normal(0, 1, places.shape) * (SIGMAS[:, None] / np.sqrt(2)) * sizes[:, None, None]
        shown = rng.random((persons, 3)) < 0.8
        points = np.concatenate([moved * shown[..., None], 2 * shown[..., None]], axis=2)
        order = rng.permutation(persons)
        annotations = [
            {
                "id": index + 1,
                "image_id": int(person // 2),
                "category_id": 1,
                "iscrowd": 0,
                "bbox": [*corners[person].tolist(), sizes[person], sizes[person]],
                "area": sizes[person] ** 2,
                "keypoints": points[person].ravel().tolist(),
                "num_keypoints": int(shown[person].sum()),
            }
            for index, person in enumerate(order.tolist())
        ]
        paths.append(folder / f"annotator{number}.json")
        paths[-1].write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    return paths


@pytest.fixture
def skeleton(tmp_path):
    path = tmp_path / "hands.json"
    path.write_text(json.dumps({"keypoints": NAMES, "flip_pairs": [["left_hand", "right_hand"]]}))
    assert load_skeleton(path).sigmas_estimated
    return path


@pytest.mark.parametrize("count", [2, 4])
def test_the_annotators_spread_comes_back(skeleton, run_tool, tmp_path, count):
    out = tmp_path / "measured.json"
    status, printed, error = run_tool("estimate_sigmas.py", skeleton, *annotators(tmp_path, count), "--out", out)
    assert (status, error) == (0, "")
    measured = load_skeleton(out)
    assert measured.sigmas == pytest.approx(SIGMAS.tolist(), rel=0.08)
    assert not measured.sigmas_estimated and measured.flip_pairs == ((0, 1),) and measured.keypoints == NAMES
    assert f"left_hand        {measured.sigmas[0]:.4f}" in printed and "(few)" not in printed


def test_two_labels_by_hand():
    # labels 6 pixels apart on a person of 10 x 10: 3 to either side of the mean, 2 * 9 / (2 - 1) = 18
    keypoints = np.array([[[[0, 0, 2]]], [[[6, 0, 1]]]], np.float64)
    sigmas, counts = estimate_sigmas(keypoints, np.array([100.0]))
    assert sigmas == pytest.approx([np.sqrt(0.18)]) and counts.tolist() == [1]


def test_a_keypoint_that_one_annotator_labeled_does_not_count():
    keypoints = np.array([[[[0, 0, 2]], [[50, 0, 2]]], [[[6, 0, 1]], [[9, 9, 0]]]], np.float64)
    sigmas, counts = estimate_sigmas(keypoints, np.array([100.0, 100.0]))
    assert sigmas == pytest.approx([np.sqrt(0.18)]) and counts.tolist() == [1]


def test_few_labels_are_said(skeleton, run_tool, tmp_path):
    assert "(few)" in run_tool("estimate_sigmas.py", skeleton, *annotators(tmp_path, 2, persons=20))[1]


@pytest.mark.parametrize(
    ("keypoints", "message"),
    [
        ([[[[0, 0, 2]]], [[[6, 0, 0]]]], "keypoint 0 is labelled twice nowhere"),
        ([[[[4, 0, 2]]], [[[4, 0, 2]]]], "always labelled at the very same place"),
    ],
)
def test_files_that_tell_nothing_are_refused(keypoints, message):
    with pytest.raises(DataError, match=message):
        estimate_sigmas(np.array(keypoints, np.float64), np.array([100.0]))


def test_bad_input_is_one_line(skeleton, run_tool, tmp_path):
    (only,) = annotators(tmp_path, 1, persons=4)
    for arguments, named in (
        ([skeleton, only], "give two or more"),
        ([skeleton, only, only], "very same place"),
        ([tmp_path / "none.json", only, only], "none.json"),
        (["coco", only, only], "51"),
    ):
        status, printed, error = run_tool("estimate_sigmas.py", *arguments)
        assert (status, printed) == (2, "")
        assert error.count("\n") == 1 and error.startswith("error: ") and named in error
