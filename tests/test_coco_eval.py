"""The ten figures: against COCO's published ones, against figures worked out by hand, and with bad input."""

import importlib.util
import json
import sys

import numpy as np
import pytest
from pycocotools.coco import COCO as CocoFile

from pose.errors import DataError
from pose.evaluation.coco_backend import BACKENDS, BackendError
from pose.evaluation.coco_eval import FIGURES, evaluate, format_figures, load_annotations, score
from pose.evaluation.protocol import TestProtocol, library_versions
from pose.evaluation.results import Predictions, ResultsError, read_results, to_coco_results, write_results
from pose.skeleton import COCO, Skeleton

BOTH_BACKENDS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            name != "pycocotools" and importlib.util.find_spec("faster_coco_eval") is None, reason=f"no {name}"
        ),
    )
    for name in BACKENDS
]
PUBLISHED_VAL2014_FIRST_100 = (0.372, 0.636, 0.348, 0.384, 0.386, 0.514, 0.734, 0.504, 0.508, 0.522)


def keypoints_at(x, y, count=17, v=2):
    """A person of the given extent: keypoints on the diagonal from (x, y) to (x + 100, y + 100)."""
    steps = np.linspace(0, 100, count)
    return np.stack([x + steps, y + steps, np.full(count, v)], axis=1)


def annotations_of(people, images=(1, 2), count=17):
    """A COCO data set: people are (image id, keypoints (K, 3), segment area)."""
    return {
        "images": [{"id": i, "width": 640, "height": 480, "file_name": f"{i}.jpg"} for i in images],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {
                "id": i,
                "image_id": image,
                "category_id": 1,
                "iscrowd": 0,
                "area": area,
                "bbox": [*points[:, :2].min(axis=0).tolist(), 100.0, 100.0],
                "num_keypoints": count,
                "keypoints": points.ravel().tolist(),
            }
            for i, (image, points, area) in enumerate(people, start=1)
        ],
    }


@pytest.fixture
def two_people(tmp_path):
    """One medium and one large annotated person, each alone in an image: the file's path."""
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(annotations_of([(1, keypoints_at(0, 0), 5000.0), (2, keypoints_at(50, 50), 20000.0)])))
    return path


def record(image=1, x=0.0, y=0.0, score=0.9, **changes):
    return {**to_coco_results([image], [keypoints_at(x, y, v=1)], [1.0])[0], "score": score, **changes}


# --- the published check and the reference data


@pytest.mark.parametrize("backend", BOTH_BACKENDS)
def test_val2014_first_100_gives_cocos_published_figures(shared_data, backend):
    folder = shared_data / "coco_eval_reference"
    results = read_results(folder / "person_keypoints_val2014_fakekeypoints100_results.json", num_keypoints=17)
    figures = evaluate(results, folder / "person_keypoints_val2014_first100.json", backend=backend)
    assert tuple(figures) == FIGURES
    assert tuple(round(figure, 3) for figure in figures.values()) == PUBLISHED_VAL2014_FIRST_100


# --- figures worked out by hand


@pytest.mark.parametrize("backend", BOTH_BACKENDS)
def test_one_of_two_people_found(two_people, backend):
    # precision 1 up to recall 0.5, which is 51 of the 101 recall thresholds
    figures = evaluate([record(image=1)], two_people, backend=backend)
    assert figures == pytest.approx(
        {"AP": 51 / 101, "AP50": 51 / 101, "AP75": 51 / 101, "AP(M)": 1, "AP(L)": 0}
        | {"AR": 0.5, "AR50": 0.5, "AR75": 0.5, "AR(M)": 1, "AR(L)": 0}
    )


def test_a_better_scored_false_person_halves_the_precision(two_people):
    # false 0.95, true 0.9, true 0.8: precisions 0, 1/2, 2/3, made monotone 2/3 at every recall
    results = [record(1, x=400, score=0.95), record(1), record(2, 50, 50, score=0.8)]
    figures = evaluate(results, two_people)
    assert figures["AP"] == pytest.approx(2 / 3)
    assert figures["AR"] == 1


def test_an_oks_of_point_82_counts_up_to_point_80(two_people):
    # all 17 keypoints off by d with e = 0.2: OKS = exp(-0.2) = 0.819, a hit at 7 of the thresholds .50 to .80
    points = keypoints_at(0, 0, v=1)
    points[:, 0] += np.sqrt(0.2 * 2 * 5000) * 2 * np.array(COCO.sigmas)
    results = to_coco_results([1, 2], [points, keypoints_at(50, 50, v=1)], [0.9, 0.8])
    figures = evaluate(results, two_people)
    assert figures["AP(M)"] == pytest.approx(0.7)
    assert figures["AR"] == pytest.approx((7 * 1 + 3 * 0.5) / 10)


@pytest.mark.parametrize("backend", BOTH_BACKENDS)
def test_only_the_twenty_best_of_an_image_count(two_people, backend):
    false = [record(1, x=200 + i, score=0.9 - 0.01 * i) for i in range(20)]
    assert evaluate([*false[:19], record(1, score=0.1)], two_people, backend=backend)["AR"] == 0.5
    assert evaluate([*false, record(1, score=0.1)], two_people, backend=backend)["AR"] == 0


@pytest.mark.parametrize("backend", BOTH_BACKENDS)
def test_no_results_give_zero(two_people, backend):
    figures = evaluate([], two_people, backend=backend)
    assert figures == dict.fromkeys(FIGURES, 0.0)
    found, results = score(Predictions.empty(17), two_people, backend=backend)
    assert (found, results.records()) == (figures, [])


@pytest.mark.parametrize("backend", BOTH_BACKENDS)
def test_an_empty_size_class_stays_minus_one(tmp_path, backend):
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(annotations_of([(1, keypoints_at(0, 0), 5000.0)])))
    figures = evaluate([record()], path, backend=backend)
    assert (figures["AP(M)"], figures["AP(L)"], figures["AR(L)"]) == (pytest.approx(1), -1, -1)


@pytest.mark.parametrize("backend", BOTH_BACKENDS)
def test_another_skeleton_has_its_own_sigmas(tmp_path, backend):
    # two keypoints, both off by 10 on 10,000 pixels^2: sigma 0.1 gives e = 100 / 0.04 / 10000 / 2 = 0.125, OKS 0.8825;
    # sigma 0.05 gives e = 0.5, OKS 0.6065
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(annotations_of([(1, keypoints_at(0, 0, count=2), 10000.0)], count=2)))
    points = keypoints_at(10, 0, count=2, v=1)
    results = to_coco_results([1], [points], [1.0])
    for sigma, recall in ((0.1, 0.8), (0.05, 0.3)):
        skeleton = Skeleton("rod", keypoints=("top", "bottom"), sigmas=(sigma, sigma))
        assert evaluate(results, path, skeleton, backend=backend)["AR"] == pytest.approx(recall)


def test_boxes_in_the_records_decide_their_size_as_in_load_res(two_people):
    # a false person whose keypoints span 100 x 100 (large): in AP(L) it costs precision; with a medium box it does not
    true = record(2, 50, 50, score=0.5)
    false = record(1, x=400, score=0.9)
    assert evaluate([true, false], two_people)["AP(L)"] == pytest.approx(0.5)
    boxed = [{**true, "bbox": [0, 0, 200, 100]}, {**false, "bbox": [0, 0, 50, 50]}]
    assert evaluate(boxed, two_people)["AP(L)"] == pytest.approx(1.0)
    with pytest.raises(ResultsError, match="bbox"):
        evaluate([boxed[0], false], two_people)


# --- rescoring and suppression on the way to the figures


def make_predictions(rows):
    """Rows of (image, x, y, joint score, box score)."""
    points = np.stack([keypoints_at(x, y, v=joint) for _, x, y, joint, _ in rows])
    return Predictions(
        image_ids=np.array([row[0] for row in rows]),
        keypoints=points,
        boxes=np.tile([0.0, 0.0, 100.0, 100.0], (len(rows), 1)),
        box_scores=np.array([row[4] for row in rows]),
        areas=np.full(len(rows), 20000.0),
    )


def test_rescoring_multiplies_box_and_joint_scores(two_people):
    # the false person has the better box, the true ones the better joints
    predictions = make_predictions([(1, 400, 0, 0.3, 1.0), (1, 0, 0, 0.9, 0.8), (2, 50, 50, 0.9, 0.7)])
    figures, results = score(predictions, two_people)
    assert results.scores.tolist() == pytest.approx([0.3, 0.72, 0.63])
    assert figures["AP"] == 1
    figures, results = score(predictions, two_people, rescore=False)
    assert results.scores.tolist() == [1.0, 0.8, 0.7]
    assert figures["AP"] == pytest.approx(2 / 3)
    assert score(predictions, two_people, rescore_threshold=0.3)[1].scores[0] == 0


def test_suppression_goes_by_the_rescored_score(two_people):
    # the same place twice: the one with the better box has the worse joints and goes
    predictions = make_predictions([(1, 0, 0, 0.3, 1.0), (1, 0, 0, 0.9, 0.8), (2, 50, 50, 0.9, 0.7)])
    assert score(predictions, two_people)[1].scores.tolist() == pytest.approx([0.72, 0.63])
    assert len(score(predictions, two_people, nms="off")[1]) == 3
    assert len(score(predictions, two_people, nms="soft")[1]) == 3
    assert len(score(predictions, two_people, nms_threshold=1.0)[1]) == 3


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "results.json"
    write_results(path, [record()])
    with pytest.raises(TypeError):
        write_results(path, [{"image_id": np.int64(1)}])
    assert read_results(path) == [record()]
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.json"]


def test_records_hold_plain_numbers():
    points = np.full((1, 17, 3), 1 / 3, np.float32)
    (made,) = to_coco_results(np.array([7]), points, np.array([1 / 3], np.float32))
    assert made["image_id"] == 7 and type(made["image_id"]) is int
    assert made["category_id"] == 1
    assert made["keypoints"] == [0.333, 0.333, 0.33333] * 17
    assert made["score"] == 0.33333334 and type(made["score"]) is float


# --- bad input


def changed_keypoints(index, value):
    points = record()["keypoints"]
    points[index] = value
    return points


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([record(), record(2, keypoints=changed_keypoints(4, float("nan")))], r"record 1 \(image 2\) holds NaN"),
        ([record(keypoints=[10**400, 1.0, 1.0] * 17)], "a keypoint or a score is not a number"),
        ([record(image_id=2**70)], "a number beyond 64 bits as 'image_id'"),
        ([record(score=float("nan"))], r"record 0 \(image 1\) holds NaN"),
        ([record(score=float("inf"))], "holds NaN, infinity or null"),
        ([record(), record(3)], r"record 1 \(image 3\) is of an image that the annotations do not have"),
        ([record(keypoints=[1.0] * 42)], r"record 0 \(image 1\) has not 51 numbers"),
        ([record(), record(2), record()], r"record 2 \(image 1\) is the same as an earlier record"),
        ([record(category_id=3)], r"record 0 \(image 1\) is of another category than 1"),
        ([record(keypoints=changed_keypoints(0, "left"))], "not a number"),
        ([record(keypoints=changed_keypoints(0, None))], "holds NaN, infinity or null"),
        ([{"image_id": 1, "category_id": 1, "score": 1.0}], "record 0 has no 'keypoints'"),
        ([record(image_id="one")], "record 0 has str as 'image_id'"),
        ([record(image_id=2**63)], "record 0 has a number beyond 64 bits as 'image_id'"),
        ([record(keypoints=changed_keypoints(0, 10**400))], "not a number"),
        ([17], "record 0 is not an object but int"),
        ({"annotations": []}, "wanted a list of records, got dict"),
    ],
)
def test_bad_results_are_refused_in_one_line(two_people, tmp_path, results, message):
    with pytest.raises(ResultsError, match=message) as caught:
        evaluate(results, two_people)
    assert "\n" not in str(caught.value)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results))
    with pytest.raises(ResultsError, match=message) as caught:
        read_results(path, 17, [1, 2])
    assert str(path) in str(caught.value)


def test_the_same_keypoints_with_another_score_are_no_duplicate(two_people):
    assert evaluate([record(score=0.9), record(score=0.8)], two_people)["AR"] == 0.5


def test_results_that_are_not_json_or_not_there(tmp_path):
    (tmp_path / "half.json").write_text('[{"image_id": 1')
    with pytest.raises(DataError, match=r"half\.json.* is not JSON"):
        read_results(tmp_path / "half.json")
    with pytest.raises(DataError, match=r"none\.json"):
        read_results(tmp_path / "none.json")


def test_predictions_are_checked(two_people):
    good = make_predictions([(1, 0, 0, 0.9, 0.8)]).arrays()
    broken = good["keypoints"].copy()
    broken[0, 3, 1] = np.nan
    with pytest.raises(ResultsError, match=r"keypoints of person 0 \(image 1\) holds NaN"):
        Predictions(**{**good, "keypoints": broken})
    with pytest.raises(ResultsError, match=r"boxes has the shape \(2, 4\)"):
        Predictions(**{**good, "boxes": np.zeros((2, 4))})
    with pytest.raises(ResultsError, match="image_ids"):
        Predictions(**{**good, "image_ids": np.array([1.0])})
    with pytest.raises(ResultsError, match="image 9 is not in the annotations"):
        score(Predictions(**{**good, "image_ids": np.array([9])}), two_people)
    with pytest.raises(ResultsError, match="14 keypoints.*17"):
        score(Predictions(**{**good, "keypoints": good["keypoints"][:, :14]}), two_people)


def test_predictions_are_gathered_and_selected():
    first = make_predictions([(1, 0, 0, 0.9, 0.8), (2, 0, 0, 0.9, 0.7)])
    both = Predictions.concatenate([first, make_predictions([(3, 0, 0, 0.9, 0.6)])])
    assert len(both) == 3
    assert both.select([2, 0]).box_scores.tolist() == [0.6, 0.8]
    assert both.select(both.image_ids == 2).image_ids.tolist() == [2]
    assert both.annotation_ids is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data["annotations"][0].update(keypoints=[1, 2, 3]), "51 keypoint numbers, others have 3"),
        (
            lambda data: data["annotations"][1].update(area="9"),
            "annotations.json.* annotation 2 needs a number as 'area'",
        ),
        (lambda data: data.pop("images"), "no list 'images'"),
    ],
)
def test_bad_annotations_are_refused(two_people, change, message):
    data = json.loads(two_people.read_text())
    change(data)
    two_people.write_text(json.dumps(data))
    with pytest.raises(DataError, match=message):
        evaluate([record()], two_people)


def test_annotations_without_counts_are_completed(two_people):
    expected = evaluate([record()], two_people)
    data = json.loads(two_people.read_text())
    for annotation in data["annotations"]:
        del annotation["num_keypoints"], annotation["iscrowd"]
    two_people.write_text(json.dumps(data))
    assert evaluate([record()], two_people) == expected


def test_categories_of_null_are_none(two_people):
    data = json.loads(two_people.read_text())
    figures = []
    for change in (lambda: data.update(categories=None), lambda: data.pop("categories")):
        change()
        two_people.write_text(json.dumps(data))
        figures.append(evaluate([record()], two_people))
    assert figures[0] == figures[1] and figures[0]["AP"] == pytest.approx(51 / 101)


def test_annotations_that_are_not_json_or_not_there(tmp_path):
    (tmp_path / "half.json").write_text("{")
    with pytest.raises(DataError, match=r"half\.json.* is not JSON"):
        load_annotations(tmp_path / "half.json")
    with pytest.raises(DataError, match=r"none\.json"):
        load_annotations(tmp_path / "none.json")


def test_an_annotation_object_of_pycocotools_will_do(two_people, capsys):
    assert evaluate([record()], CocoFile(str(two_people))) == evaluate([record()], two_people)


def test_a_missing_backend_says_what_to_install(two_people, monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(BackendError, match=r"pip install '\.\[fast-eval\]'"):
        evaluate([record()], two_people, backend="faster-coco-eval")
    with pytest.raises(BackendError, match="pycocotools, faster-coco-eval"):
        evaluate([record()], two_people, backend="magic")


# --- what is printed


def test_the_table_is_aligned_and_shows_an_empty_class_as_not_available():
    figures = dict.fromkeys(FIGURES, 0.5) | {"AP": 0.7244, "AP(L)": -1.0}
    names, values = format_figures(figures).splitlines()
    assert names.split() == list(FIGURES)
    assert values.split() == ["0.724", "0.500", "0.500", "0.500", "n/a", "0.500", "0.500", "0.500", "0.500", "0.500"]
    assert len(names) == len(values)
    table = format_figures({"flip": figures, "no flip at all": figures}).splitlines()
    assert [line.split("  ")[0] for line in table[1:]] == ["flip", "no flip at all"]
    assert len({len(line) for line in table}) == 1


# --- the stamp


def test_the_defaults_are_the_published_protocol():
    detected = TestProtocol(boxes="detections.json", boxes_sha256="ab" * 32, boxes_count=104125)
    assert detected.differences() == {}
    stamp = detected.describe()
    assert "detections.json (sha256 abababababab), 104,125 boxes, scores from 0" in stamp
    assert "averaged, shift 1" in stamp and "sign" in stamp and "greedy, 0.9" in stamp and "above 0.2" in stamp
    assert "compared" not in stamp


def test_annotated_boxes_are_said_to_be_not_comparable():
    stamp = TestProtocol().describe()
    assert "cannot be compared with published ones" in stamp and "2 AP higher" in stamp
    assert TestProtocol().differences() == {"boxes": "annotated"}


def test_other_choices_are_named():
    stamp = TestProtocol(boxes="d.json", decode="dark", flip=False, flip_shift=0, nms="off", rescore=False)
    assert stamp.differences() == {"flip": False, "decode": "dark", "rescore": False, "nms": "off"}
    assert "not as published: flip False, decode dark, rescore False, nms off" in stamp.describe()


def test_a_stamp_goes_through_json():
    stamp = TestProtocol(boxes="d.json", model="mobilenet", versions=library_versions(), decode="none")
    assert "pycocotools" in stamp.versions
    assert TestProtocol.from_dict(json.loads(json.dumps(stamp.to_dict()))) == stamp
    for wrong, reason in (({"colour": "red"}, "protocol.colour"), ({"box_threshold": None}, "needs float, got None")):
        with pytest.raises(ValueError, match=reason):
            TestProtocol.from_dict(wrong)


@pytest.mark.parametrize("wrong", [{"decode": "udp"}, {"flip_shift": 3}, {"nms": "hard"}, {"backend": "x"}])
def test_unknown_choices_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be one of"):
        TestProtocol(**wrong)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"keypoints": 5}, "keypoints"),
        ({"keypoints": ["a", "b", "c"] * 17}, "keypoints"),
        ({"keypoints": [float("nan"), 1, 2] * 17}, "keypoint"),
        ({"bbox": None}, "bbox"),
        ({"bbox": [1, 2, 3]}, "bbox"),
        ({"area": "5"}, "area"),
        ({"image_id": None}, "image_id"),
        ({"category_id": "person"}, "category_id"),
        ({"id": None}, "id"),
        (None, "no record"),
    ],
)
def test_a_wrong_annotation_is_named_with_its_file_before_anything_is_predicted(tmp_path, change, word) -> None:
    good = {"id": 7, "image_id": 1, "category_id": 1, "keypoints": [0] * 51, "bbox": [1, 2, 3, 4], "area": 5}
    annotations = [good, "text" if change is None else {**good, **change}]
    path = tmp_path / "odd.json"
    path.write_text(json.dumps({"images": [{"id": 1}], "annotations": annotations, "categories": [{"id": 1}]}))
    with pytest.raises(DataError, match="odd.json") as error:
        load_annotations(path)
    assert word in str(error.value)
