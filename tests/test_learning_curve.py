"""Would more labels help: nested shares of the training images, the validation split, an answer in a sentence."""

import json
import math
import re

import numpy as np
import pytest
import torch
from small_project import run_tool as run_tool
from tiny import TOOL_MODEL, tiny_settings, write_tiny_set

from pose.datasets.coco import read_tables
from pose.datasets.split import first_share, hold_out
from pose.engine.comparison import finish as compare
from pose.engine.comparison.finish import finish_all
from pose.engine.comparison.learning_curve import conclusion, count_persons, plan_curve, summarize_curve, with_share
from pose.engine.training_data import prepare_data
from pose.evaluation.significance import Interval
from pose.options import OptionError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_tiny_set(tmp_path_factory.mktemp("data") / "set", train=8, val=3)


def settings_of(root, **sections):
    """With a test split whose file does not exist."""
    data = dict(val=dict(boxes="annotated"), test=dict(annotations="test.json", images="nowhere"))
    return tiny_settings(root, **{**sections, "data": {**data, **sections.get("data", {})}})


def test_a_smaller_share_is_part_of_a_larger_one_and_of_what_is_not_held_out(root):
    whole = read_tables(root / "annotations" / "person_keypoints_train2017.json")
    rest, held = hold_out(whole, 2)
    images = [{image["id"] for image in first_share(rest, share)["images"]} for share in (0.1, 0.34, 0.67, 1)]
    assert list(map(len, images)) == [1, 2, 4, 6]
    assert images[0] < images[1] < images[2] < images[3]
    assert not images[3] & {image["id"] for image in held["images"]}
    part = first_share(rest, 0.34)
    assert {person["image_id"] for person in part["annotations"]} == images[1]


def test_all_shares_take_as_many_steps_or_as_many_epochs(root):
    settings = settings_of(root)
    for equal, wanted in (("steps", [4, 4]), ("epochs", [2, 4])):
        loaders = [prepare_data(with_share(settings, share, equal))[0] for share in (0.5, 1)]
        assert [len(loader.batch_sampler) for loader in loaders] == wanted


def test_what_a_share_leaves_out_is_told(root, capsys):
    prepare_data(with_share(settings_of(root), 0.25, "steps"))
    assert "12 annotations" not in (printed := capsys.readouterr().out)
    assert "drawn 4 times; left out: 6 pictures that are not of the share 0.25" in printed


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("curve")
    runs = plan_curve(settings_of(root), [1, 0.5], [0, 1], folder, "steps")
    assert finish_all(runs, torch.device("cpu")) == (None, [])
    return folder, runs


def test_every_share_is_tested_on_the_validation_split_by_its_last_weights(finished):
    folder, runs = finished
    assert [(run.name, run.seed) for run in runs] == [
        (name, seed) for seed in (0, 1) for name in ("share_50", "share_100")
    ]
    for run in runs:
        assert run.result["protocol"]["boxes_count"] == 6 and run.result["checkpoint"] == "last.pth"
        assert len(run.curves()["AP"]) == 2
    assert count_persons(runs) == {"share_50": (4, 8), "share_100": (8, 16)}


def test_the_summary_has_a_gain_with_its_intervals(finished):
    summary = summarize_curve(finished[1])
    (gain,) = summary["gains"]
    values = [summary["shares"][name]["figures"]["AP"][2] for name in ("share_50", "share_100")]
    assert gain["AP"]["seeds"].mean == pytest.approx(np.subtract(values[1], values[0]).mean())
    assert gain["AP"]["pictures"].low <= gain["AP"]["pictures"].mean <= gain["AP"]["pictures"].high
    assert summary["answer"] and summary["missing"] == []


def test_it_goes_on_and_does_nothing_twice(finished, root, monkeypatch):
    monkeypatch.setattr(compare, "train", lambda *_, **__: pytest.fail("trained again"))
    runs = plan_curve(settings_of(root), [0.5, 1], [0, 1], finished[0], "steps")
    finish_all(runs, torch.device("cpu"))
    partly = plan_curve(settings_of(root), [0.5, 1, 0.25], [0, 1], finished[0], "steps")
    assert [run.name for run in partly if run.result is None] == ["share_25", "share_25"]


def gain(low, high, rises=True, to="share_100"):
    return {
        "from": "share_50",
        "to": to,
        "rises": rises,
        "AP": {"seeds": Interval((low + high) / 2, low, high)},
    }


@pytest.mark.parametrize(
    ("gains", "said"),
    [
        ([gain(0.01, 0.03)], "More labels would help: from 50 % to 100 % .* by \\+2.0 \\(\\+1.0 to \\+3.0\\)"),
        ([gain(0.01, 0.03, rises=False)], "No clear gain"),
        ([gain(-0.01, 0.03)], "No clear gain"),
        ([gain(-0.03, -0.01)], "would not help"),
        ([gain(math.nan, math.nan)], "No answer"),
        ([gain(0.01, 0.03, to="share_75")], "No answer yet: 100 %"),
        ([], "No answer yet"),
    ],
)
def test_the_answer_is_what_the_last_step_says(gains, said):
    assert re.search(said, conclusion(gains, ["share_50", "share_100"]))


def test_one_share_and_shares_beyond_the_whole_are_refused(root, tmp_path):
    for shares in ([1.0], [0.5, 1.2], [0, 1]):
        with pytest.raises(OptionError, match="--shares: needs at least two"):
            plan_curve(settings_of(root), shares, [0], tmp_path, "steps")


def test_the_tool_writes_table_answer_and_plot(root, tmp_path, run_tool):
    config = tmp_path / "tiny.json"
    sections = dict(
        model=TOOL_MODEL,
        data=dict(root=str(root), input_size=[32, 64], workers=0, val=dict(boxes="annotated")),
        train=dict(epochs=1, batch_size=4),
    )
    config.write_text(json.dumps(sections))
    work = tmp_path / "work"
    code, printed, _ = run_tool("learning_curve.py", config, "--shares", 50, 100, "--work-dir", work, "--device", "cpu")
    assert code == 0 and "| 50 % | 4 | 8 |" in printed and "of the training images AP changed by" in printed
    assert (work / "curve.png").stat().st_size > 5000 and (work / "curve.md").read_text().strip() in printed
    assert set(json.loads((work / "curve.json").read_text())) == {"shares", "gains", "answer", "missing"}
    code, _, error = run_tool("learning_curve.py", config, "--shares", 100, "--work-dir", work)
    assert code == 2 and error.startswith("error: --shares")
