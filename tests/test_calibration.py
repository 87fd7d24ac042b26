"""Calibration: isotonic regression as others define it, probabilities that were known, kept and applied."""

import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_project import run_tool as run_tool
from small_project import write_project
from tiny import same

from pose import Predictor, draw_poses
from pose.checkpoint import load_checkpoint, save_checkpoint
from pose.errors import CheckpointError, DataError
from pose.evaluation.calibration import JointCalibration, drawn_shares, fit_calibration, isotonic, right_joints

VALUES = st.lists(st.tuples(st.floats(-9, 9), st.floats(0.1, 5)), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_the_fit_is_the_max_min_of_means(pairs):
    """Isotonic regression's closed form: the largest over starts of the smallest over ends of weighted means."""
    values, weights = np.array(pairs).T

    def mean(start, end):
        return np.average(values[start:end], weights=weights[start:end])

    n = len(values)
    expected = [max(min(mean(a, b) for b in range(i + 1, n + 1)) for a in range(i + 1)) for i in range(n)]
    np.testing.assert_allclose(isotonic(values, weights), expected, atol=1e-9)


def sample(count=20_000):
    """Joint 0 is right as often as the square of its score says, joint 1 as its root says; joint 2 has no labels."""
    rng = np.random.default_rng(0)
    scores = rng.uniform(0, 1, (count, 3))
    truth = np.stack([scores[:, 0] ** 2, scores[:, 1] ** 0.5, scores[:, 2]], axis=1)
    right = (rng.uniform(0, 1, scores.shape) < truth).astype(float)
    right[:, 2] = np.nan
    return scores, right


def test_known_probabilities_are_found_for_each_joint():
    calibration = fit_calibration(*sample(), flip=True)
    scores = np.linspace(0.05, 0.95, 19)
    found = calibration(np.repeat(scores[:, None], 3, axis=1))
    np.testing.assert_allclose(found[:, 0], scores**2, atol=0.04)
    np.testing.assert_allclose(found[:, 1], scores**0.5, atol=0.04)
    np.testing.assert_allclose(found[:, 2], (scores**2 + scores**0.5) / 2, atol=0.04)  # that of all joints together
    assert (np.diff(found, axis=0) >= 0).all()
    assert calibration(np.array([-5.0, 7.0, 0.5])).tolist() == [
        calibration.probabilities[0, 0], calibration.probabilities[1, -1], found[9, 2]
    ]  # fmt: skip
    assert calibration.scores.shape == (3, 17)


@pytest.mark.parametrize("seed", range(40))
def test_knots_never_fall_where_right_does_not_depend_on_the_score(seed):
    draw = np.random.default_rng(seed)
    persons = int(draw.integers(40, 700))
    calibration = fit_calibration(draw.random((persons, 3)), draw.random((persons, 3)) < 0.7, flip=True)
    assert (np.diff(calibration.probabilities, axis=1) >= 0).all() and calibration.probabilities.max() <= 1


def test_no_peak_is_no_joint_however_good_the_labeled_ones_are():
    scores, right = sample()
    calibration = fit_calibration(scores * 0.5 + 0.5, np.where(np.isnan(right), right, 1.0), flip=True)
    assert calibration(np.zeros(3)).tolist() == [0, 0, 0]
    assert (np.diff(calibration(np.repeat(np.linspace(0, 0.5, 6)[:, None], 3, axis=1)), axis=0) > 0).all()
    assert (calibration(np.full(3, 0.6)) == 1).all()


@pytest.mark.parametrize("share", [0.8, 0.9])
def test_the_threshold_is_the_lowest_at_which_enough_drawn_joints_are_right(share):
    scores, right = sample()
    calibration = fit_calibration(scores, right, flip=True, share=share)
    rows = {row.threshold: row for row in drawn_shares(calibration(scores), right)}
    assert rows[calibration.threshold].right >= share
    below = [row.right for threshold, row in rows.items() if threshold < calibration.threshold]
    assert below and max(below) < share
    drawn = calibration(scores)[:, :2] >= calibration.threshold
    assert rows[calibration.threshold].drawn == pytest.approx(drawn.mean())
    assert rows[calibration.threshold].right == pytest.approx(right[:, :2][drawn].mean())


def test_where_nothing_is_good_enough_a_joint_is_drawn_that_is_rather_right_than_wrong():
    scores = np.random.default_rng(0).uniform(0, 1, (500, 2))
    assert fit_calibration(scores, np.zeros((500, 2)), flip=False).threshold == 0.5


def test_few_labels_make_few_knots_and_too_few_none():
    scores, right = sample(25)
    calibration = fit_calibration(scores, right, flip=False)
    assert len(np.unique(calibration.scores[0])) == 2
    assert calibration.probabilities[0, -1] == pytest.approx(right[:, 0].mean())
    with pytest.raises(DataError, match="only 18 joints"):
        fit_calibration(scores[:9], right[:9], flip=False)


def test_a_joint_is_right_within_a_tenth_of_the_longer_side():
    labels = np.array([[[50.0, 50, 2], [50, 50, 1], [0, 0, 0]]])
    predicted = np.array([[[59.0, 50, 1], [50, 61, 1], [0, 0, 1]]])
    found = right_joints(predicted, labels, np.array([[0, 0, 40.0, 100]]))
    np.testing.assert_array_equal(found, [[1, 0, np.nan]])


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"scores": [[0, 1]], "probabilities": [[0.5, 0.2]], "threshold": 0.5, "flip": True},
        {"scores": [[0, 1]], "probabilities": [[0.5]], "threshold": 0.5, "flip": True},
        {"scores": [[0, 1]], "probabilities": [[0.5, 2]], "threshold": 0.5, "flip": True},
        {"scores": [["a"]], "probabilities": [[0.5]], "threshold": 0.5, "flip": True},
    ],
)
def test_what_is_no_calibration_is_refused(values):
    with pytest.raises(ValueError, match="calibration|could not convert"):
        JointCalibration.from_dict(values)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = write_project(tmp_path_factory.mktemp("project"))
    cv2.imwrite(str(folder / "me.png"), np.random.default_rng(0).integers(0, 255, (90, 60, 3), np.uint8))
    return folder


def test_the_tool_keeps_a_calibration_that_the_predictor_applies(project, run_tool):
    out = project / "calibrated.pth"
    status, printed, error = run_tool("calibrate.py", project / "tiny.py", project / "tiny.pth", "--out", out,
                                      "--device", "cpu")  # fmt: skip
    assert status == 0, error
    assert "joints are drawn from" in printed and str(out) in printed
    kept = load_checkpoint(out)
    assert same(kept["model"], load_checkpoint(project / "tiny.pth")["model"])
    calibration = JointCalibration.from_dict(kept["calibration"])
    config, image = project / "tiny.py", project / "me.png"
    plain = Predictor.from_config(config, project / "tiny.pth", device="cpu")(image)
    poses = Predictor.from_config(config, out, device="cpu")(image)
    assert (poses.keypoints[..., :2] == plain.keypoints[..., :2]).all() and (poses.scores == plain.scores).all()
    np.testing.assert_allclose(poses.keypoints[..., 2], calibration(plain.keypoints[..., 2]))
    assert (poses.threshold, plain.threshold) == (calibration.threshold, None)
    array = cv2.imread(str(image))
    assert (draw_poses(array, poses) == draw_poses(array, poses, calibration.threshold)).all()
    other = Predictor.from_config(config, out, {"test.flip": False}, device="cpu")(image)
    assert other.threshold is None  # it was fitted on scores with flip


def test_an_exported_file_keeps_it_too(project, run_tool):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    out = project / "for_export.pth"
    calibration = JointCalibration(np.tile([0.0, 0.5], (17, 1)), np.tile([0.1, 0.9], (17, 1)), 0.6, True)
    save_checkpoint(out, {**load_checkpoint(project / "tiny.pth"), "calibration": calibration.to_dict()})
    status, _, error = run_tool("export.py", project / "tiny.py", out, "--out", project / "tiny.onnx")
    assert status == 0, error
    found = Predictor.from_onnx(project / "tiny.onnx", "cpu")(project / "me.png")
    wanted = Predictor.from_config(project / "tiny.py", out, device="cpu")(project / "me.png")
    assert found.threshold == wanted.threshold == 0.6
    np.testing.assert_allclose(found.keypoints[..., 2], wanted.keypoints[..., 2], atol=1e-3)


def test_figures_stay_what_raw_scores_make_them(project, run_tool):
    calibration = JointCalibration(np.tile([0.0, 0.5], (17, 1)), np.tile([0.1, 0.9], (17, 1)), 0.6, True)
    contents = {**load_checkpoint(project / "tiny.pth"), "calibration": calibration.to_dict()}
    save_checkpoint(project / "with.pth", contents)
    results = []
    for name in ("tiny", "with"):
        status, _, error = run_tool("test.py", project / "tiny.py", project / f"{name}.pth", "--out",
                                    project / f"{name}.json", "--device", "cpu")  # fmt: skip
        assert status == 0, error
        results.append(json.loads((project / f"{name}.json").read_text()))
    assert results[0] == results[1]


def test_a_calibration_of_other_joints_is_refused(project):
    contents = load_checkpoint(project / "tiny.pth")
    contents["calibration"] = JointCalibration([[0, 1]], [[0, 1]], 0.5, True).to_dict()
    save_checkpoint(project / "wrong.pth", contents)
    with pytest.raises(CheckpointError, match="wrong.pth: .*calibration"):
        Predictor.from_config(project / "tiny.py", project / "wrong.pth", device="cpu")
