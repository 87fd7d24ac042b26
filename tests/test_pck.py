import json

import numpy as np
import pytest

from pose.evaluation.coco_eval import load_annotations
from pose.evaluation.pck import LengthPck, format_length_pck, length_pck, predicted_length_pck
from pose.evaluation.results import Predictions, Results
from pose.skeleton import Skeleton, load_skeleton

SKELETON = Skeleton(
    "four",
    ("left_hip", "right_shoulder", "neck", "head_top"),
    lengths={"torso": ("left_hip", "right_shoulder"), "head": ("neck", "head_top")},
)
STANDING = [[5, 50, 2], [5, 0, 2], [5, -10, 2], [5, -30, 2]]  # torso 50, head 20: within 10 and 10 pixels is correct


@pytest.fixture
def annotations(tmp_path):
    people = [
        STANDING,
        [[0, 0, 0], *STANDING[1:]],  # no hip: no torso to measure by
        [*STANDING[:3], [0, 0, 0]],  # no head
    ]
    records = [
        {
            "id": 10 + number,
            "image_id": 1,
            "category_id": 1,
            "iscrowd": 0,
            "area": 4000,
            "bbox": [0, -30, 50, 80],
            "keypoints": np.ravel(person).tolist(),
            "num_keypoints": sum(point[2] > 0 for point in person),
        }
        for number, person in enumerate(people)
    ]
    contents = {
        "images": [{"id": 1, "width": 100, "height": 100, "file_name": "1.jpg"}],
        "annotations": records,
        "categories": [{"id": 1, "name": "person", "keypoints": list(SKELETON.keypoints), "skeleton": []}],
    }
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(contents))
    return load_annotations(path)


def off_by(pixels):
    keypoints = np.array([STANDING] * 3, np.float64)
    keypoints[..., 0] += np.array(pixels)
    return Results(np.ones(3, np.int64), keypoints, np.ones(3))


IDS = np.array([10, 11, 12])


def test_a_keypoint_is_correct_within_its_fraction_of_the_persons_own_length(annotations):
    torso, head = length_pck(off_by([9.9, 10.1, 0, 10]), annotations, SKELETON, IDS)
    assert (torso.name, head.name) == ("PCK@0.2 torso", "PCK@0.5 head")
    assert len(torso.correct) == 2 and len(head.correct) == 2  # those that have the length labelled
    assert torso.shares == {"left_hip": 1, "right_shoulder": 0, "neck": 1, "head_top": 1}
    assert np.isnan(torso.correct[1, 3]) and np.isnan(head.correct[1, 0])  # not labelled: neither right nor wrong
    assert torso.mean == pytest.approx(3 / 4)
    assert head.shares == {"left_hip": 1, "right_shoulder": 0, "neck": 1, "head_top": 1}


def test_rows_belong_to_the_annotations_they_were_made_for_however_far_off(annotations):
    far = off_by([500, 500, 500, 0])
    torso, _ = length_pck(far, annotations, SKELETON, IDS[::-1].copy())
    assert torso.shares == {"left_hip": 0, "right_shoulder": 0, "neck": 0, "head_top": 1}
    by_oks, _ = length_pck(off_by([500] * 4), annotations, SKELETON)
    assert by_oks.mean == 0  # nobody was found


def test_predictions_from_detected_boxes_are_matched_to_people(annotations):
    found = off_by([0, 0, 0, 0])
    boxes, ones = np.ones((3, 4)), np.ones(3)
    own = Predictions(found.image_ids, found.keypoints, boxes, ones, ones, IDS)
    detected = Predictions(found.image_ids, found.keypoints, boxes, ones, ones, np.full(3, -1))
    assert [measure.mean for measure in predicted_length_pck(own, found, annotations, SKELETON)] == [1, 1]
    one = found.select([0])
    third = predicted_length_pck(detected.select([0]), one, annotations, SKELETON)[0]
    assert len(third.correct) == 2 and third.shares["left_hip"] == 0.5  # one row is one of the two people with a torso
    own_third = predicted_length_pck(own.select([0]), one, annotations, SKELETON)[0]
    assert len(own_third.correct) == 1 and own_third.mean == 1  # nobody else was predicted for


def test_a_length_that_nobody_has_is_no_measure(annotations):
    hidden = Skeleton("four", SKELETON.keypoints, lengths={"leg": ("left_hip", "head_top")})
    assert len(length_pck(off_by([0] * 4), annotations, hidden, IDS)[0].correct) == 1
    assert length_pck(off_by([0] * 4).select([1]), annotations, hidden, IDS[1:2]) == []


def test_the_table_joins_left_and_right():
    skeleton = load_skeleton("configs/lsp/skeleton.json")
    correct = np.ones((2, 14))
    correct[:, skeleton.keypoints.index("left_knee")] = 0
    measures = [LengthPck("torso", 0.2, skeleton.keypoints, correct, np.arange(2))]
    text = format_length_pck(measures, skeleton)
    assert "PCK@0.2 torso (2 persons): mean 0.929" in text and "knee 0.500" in text and "head_top 1.000" in text
    correct[:, skeleton.keypoints.index("left_knee")] = np.nan
    correct[:, skeleton.keypoints.index("neck")] = np.nan
    text = format_length_pck([LengthPck("torso", 0.2, skeleton.keypoints, correct, np.arange(2))], skeleton)
    assert "knee 1.000" in text and "neck n/a" in text and "mean 1.000" in text
    assert text.count("knee") == 1 and format_length_pck([], skeleton) == ""
