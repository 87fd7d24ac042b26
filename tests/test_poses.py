"""Poses as people use them: counted, looped over, picked, drawn, written; and what ``import pose`` costs."""

import subprocess
import sys

import numpy as np
import pytest
from spot import SPOT, BrightestSpot, spot

import pose
from pose import Poses, Predictor, Skeleton, draw_poses
from pose.evaluation.results import check_results
from pose.visualization import draw_skeletons

ARM = Skeleton("arm", ("elbow", "wrist"), limbs=((0, 1),))


def three(track_ids=None):
    """Three persons with different numbers in every field."""
    rows = np.arange(3.0)
    keypoints = np.array([[[20 + 60 * row, 20, 0.9], [20 + 60 * row, 80, 0.7]] for row in rows])
    boxes = np.stack([60 * rows, 0 * rows, 40 + rows, 100 + rows], axis=1)
    return Poses(boxes, 0.5 + rows / 10, keypoints, rows / 4, 4000 + rows, rows.astype(int) + 7, ARM, track_ids)


def test_a_number_picks_a_person():
    poses = three(track_ids=np.array([4, 5, 6]))
    assert len(poses) == 3
    person = poses[1]
    assert person.keypoints.tolist() == [[80, 20, 0.9], [80, 80, 0.7]]
    assert (person.score, person.box_score, person.track_id) == (0.25, 0.6, 5)
    assert person.box.tolist() == [60, 0, 41, 101]
    assert poses[-1].track_id == poses[np.int64(2)].track_id == 6
    assert three()[0].track_id is None
    for wrong in (3, -4):
        with pytest.raises(IndexError, match="3 persons"):
            poses[wrong]


def test_a_loop_goes_over_the_persons():
    assert [person.score for person in three()] == [0, 0.25, 0.5]
    assert list(three()[:0]) == []


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        (slice(1, None), [1, 2]),
        ([2, 0], [2, 0]),
        (np.array([True, False, True]), [0, 2]),
        ([False, True, False], [1]),
        ([], []),
        (np.zeros(3, bool), []),
    ],
)
def test_slices_masks_and_lists_pick_poses_with_every_field(index, rows):
    chosen = three(track_ids=np.array([4, 5, 6]))[index]
    assert isinstance(chosen, Poses) and len(chosen) == len(rows)
    assert chosen.sources.tolist() == [7 + row for row in rows]
    assert chosen.track_ids.tolist() == [4 + row for row in rows]
    assert chosen.areas.tolist() == [4000 + row for row in rows]
    assert chosen.keypoints.shape == (len(rows), 2, 3)
    assert chosen.skeleton is ARM


def test_a_mask_of_another_length_is_refused():
    with pytest.raises(IndexError):
        three()[np.array([True, False])]


def test_records_are_cocos_results_format():
    records = three().to_coco(73)
    ids, keypoints, scores = check_results(records, 2)
    assert ids.tolist() == [73, 73, 73]
    assert keypoints.tolist() == three().keypoints.tolist()
    assert scores.tolist() == [0, 0.25, 0.5]
    assert three()[:0].to_coco(73) == []
    assert {record["image_id"] for record in three().to_coco()} == {0}


def test_printed_poses_are_a_line():
    assert repr(three()) == "Poses(3 persons, 2 keypoints, scores [0.00, 0.25, 0.50])"


def test_drawing_takes_poses():
    image = np.full((120, 200, 3), 128, np.uint8)
    poses = three(track_ids=np.array([4, 5, 6]))
    drawn = draw_poses(image, poses, threshold=0.8)
    plain = draw_skeletons(image, poses.keypoints, poses.boxes, ARM, 0.8, poses.track_ids)
    assert (drawn == plain).all() and (drawn != image).any()
    assert (draw_poses(image, poses[:0]) == image).all()


def test_the_predictor_names_its_skeleton():
    poses = Predictor(BrightestSpot())(spot(70, 30))
    assert poses.skeleton is SPOT
    assert (draw_poses(spot(70, 30), poses) != spot(70, 30)).any()


def test_supervision_takes_them():
    """The line of :class:`Poses`' docstring, where the package is installed."""
    supervision = pytest.importorskip("supervision")
    poses = three()
    points = supervision.KeyPoints(xy=poses.keypoints[..., :2], keypoint_confidence=poses.keypoints[..., 2])
    assert len(points) == 3
    drawn = supervision.VertexAnnotator().annotate(np.zeros((120, 200, 3), np.uint8), points)
    assert drawn[20, 80].any()


def modules_after(code):
    """The names of all modules that a fresh Python has imported after some code."""
    code += "\nimport sys; print(*sys.modules)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_importing_the_package_imports_next_to_nothing():
    imported = modules_after("import pose")
    assert [name for name in imported if name.startswith("pose")] == ["pose"]
    assert not {"torch", "cv2", "numpy", "mmengine"} & set(imported)
    assert {"torch", "cv2"}.isdisjoint(modules_after("from pose import COCO, Poses, Skeleton"))
    assert "torch" not in modules_after("from pose import Predictor, draw_poses")


def test_public_names_are_listed_and_others_refused():
    assert set(pose.__all__) <= set(dir(pose))
    assert pose.COCO.num_keypoints == 17
    with pytest.raises(AttributeError, match="no attribute 'Predicter'"):
        pose.Predicter  # noqa: B018
