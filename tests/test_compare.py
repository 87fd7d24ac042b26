"""Comparisons: runs that differ in nothing but the network, resumed, tested once and reported with their spread."""

import json
import multiprocessing
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_project import run_tool as run_tool
from tiny import MODEL, tiny_settings, write_config, write_tiny_set

from pose.checkpoint import load_checkpoint
from pose.engine.comparison import finish as compare
from pose.engine.comparison.finish import finish_all, finish_run
from pose.engine.comparison.runs import CompareError, Run, plan_runs
from pose.engine.comparison.summary import draw_curves, format_table, plain, summarize
from pose.engine.train import train
from pose.engine.trainer import Trainer
from pose.engine.work_dir import BusyError, locked
from pose.errors import DataError
from pose.options import OptionError
from pose.skeleton import COCO


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = write_tiny_set(tmp_path_factory.mktemp("data") / "set", val=3)
    fields = dict(keypoints=COCO.keypoints, flip_pairs=COCO.flip_pairs, sigmas=COCO.sigmas, lengths={"torso": [11, 6]})
    (root / "skeleton.json").write_text(json.dumps(fields))
    return root


def networks(root, **sections):
    data = dict(
        skeleton=str(root / "skeleton.json"),
        val=dict(boxes="annotated"),
        test=dict(annotations="annotations/person_keypoints_train2017.json", images="train2017"),
    )
    one = tiny_settings(root, **{**sections, "data": {**data, **sections.get("data", {})}})
    other = replace(one, model={**MODEL, "backbone": dict(type="tiny", dropout=0.3)})
    return {"plain": one, "dropping": other}


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    runs = plan_runs(networks(root), [0, 1], folder)
    assert finish_all(runs, torch.device("cpu")) == (None, [])
    return folder, runs


def test_every_network_is_trained_and_tested_with_every_seed(finished):
    folder, runs = finished
    assert [(run.name, run.seed) for run in runs] == [("plain", 0), ("dropping", 0), ("plain", 1), ("dropping", 1)]
    assert all((folder / run.name / f"seed_{run.seed}" / "test.json").is_file() for run in runs)
    for run in runs:
        result = run.result
        assert {"AP", "PCK@0.2 torso"} < set(result["figures"]) and result["protocol"]["boxes_count"] == 12
        assert result["checkpoint"] == "best.pth" and result["epoch"] in (1, 2) and result["hours"] > 0
        assert run.correct["PCK@0.2 torso"][0].shape == (12, 17)
        assert np.nanmean(run.correct["PCK@0.2 torso"][0]) == pytest.approx(result["figures"]["PCK@0.2 torso"])


def test_all_networks_of_a_seed_learn_from_the_same_crops(root, tmp_path, monkeypatch):
    seen = {}
    learn = Trainer.learn
    for name, settings in networks(root, train=dict(epochs=1)).items():
        crops = seen[name] = []

        def noting(trainer, images, *others, crops=crops):
            crops.append(images.clone())
            return learn(trainer, images, *others)

        monkeypatch.setattr(Trainer, "learn", noting)
        train(settings, tmp_path / name, "cpu")
    assert len(seen["plain"]) == 3 and all(map(torch.equal, seen["plain"], seen["dropping"]))


def test_settings_are_the_same_after_a_way_through_a_file(root, tmp_path):
    stages = ((8, 8, 1), (8, 8, 1))
    model = dict(
        backbone=dict(type="mobilenet_v2", width=0.1, out_stride=16), head=dict(type="bottleneck", stages=stages)
    )
    one = tiny_settings(root, model=model, data=dict(val=dict(boxes="annotated")), train=dict(epochs=1))
    two = replace(one, model={**model, "backbone": dict(type="mobilenet_v2", width=0.2, out_stride=16)})
    runs = plan_runs({"one": one, "two": two}, [0], tmp_path)
    finish_run(runs[0], torch.device("cpu"))
    plan_runs({"one": one, "two": two}, [0], tmp_path)


def test_what_is_done_is_not_done_again(finished, monkeypatch):
    folder, runs = finished
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")}
    monkeypatch.setattr(compare, "train", lambda *_, **__: pytest.fail("trained again"))
    finish_all(runs, torch.device("cpu"))
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")}


def test_a_run_that_was_stopped_goes_on(root, finished, tmp_path):
    _, runs = finished
    (run, *_) = plan_runs(networks(root), [0], tmp_path)
    train(replace(run.settings, train=replace(run.settings.train, epochs=1)), run.folder, "cpu")
    assert finish_run(run, torch.device("cpu")) is None
    weights, straight = (load_checkpoint(each.folder / "last.pth")["model"] for each in (run, runs[0]))
    assert all(torch.equal(tensor, straight[name]) for name, tensor in weights.items())


def hold(folder, held, let_go):
    with locked(folder):
        held.set()
        let_go.wait(60)


def test_a_run_of_another_process_is_left_to_it(root, tmp_path, capsys):
    runs = plan_runs(networks(root, train=dict(epochs=1)), [0], tmp_path)
    context = multiprocessing.get_context("forkserver")
    held, let_go = context.Event(), context.Event()
    other = context.Process(target=hold, args=(runs[0].folder, held, let_go))
    other.start()
    assert held.wait(60)
    with pytest.raises(BusyError, match="a training is running in it"):
        finish_run(runs[0], torch.device("cpu"))  # another tool's training; another comparison's holds its own lock
    assert finish_all(runs, torch.device("cpu")) == (None, [])
    let_go.set()
    other.join()
    assert capsys.readouterr().out.count("left to it") == 1
    summary = summarize(runs)
    assert summary["missing"] == ["plain, seed 0"] and "Not done yet: plain, seed 0" in format_table(summary)
    assert format_table(summarize(runs[:1])) == "nothing is tested yet"


def test_without_a_test_split_nothing_is_chosen(root, tmp_path):
    data = dict(test=None)
    (run, *_) = plan_runs(networks(root, data=data, train=dict(epochs=2)), [0], tmp_path)
    finish_run(run, torch.device("cpu"))
    assert run.result["checkpoint"] == "last.pth" and run.result["epoch"] == 2
    assert run.result["protocol"]["boxes_count"] == 6


def test_only_the_network_may_differ(root, tmp_path, finished):
    folder, _ = finished
    made = networks(root)
    made["dropping"] = replace(made["dropping"], train=replace(made["dropping"].train, learning_rate=0.5))
    with pytest.raises(CompareError, match=r"plain and dropping .*alike: train\.learning_rate 0\.001 -> 0\.5"):
        plan_runs(made, [0], tmp_path)
    with pytest.raises(CompareError, match=r"seed_0 holds a run with other settings or data.*train\.batch_size 4 -> 5"):
        plan_runs(networks(root, train=dict(batch_size=5)), [0], folder)
    plan_runs(networks(root, data=dict(workers=2)), [0], folder)  # how fast, not what
    with pytest.raises(OptionError, match="different numbers from 0 on, got -1"):
        plan_runs(networks(root), [-1], tmp_path)
    with pytest.raises(OptionError, match="two configurations"):
        plan_runs({"plain": made["plain"]}, [0], tmp_path)
    with pytest.raises(OptionError, match="different numbers from 0 on, got 1 1"):
        plan_runs(networks(root), [1, 1], tmp_path)


@pytest.fixture
def copied(root, finished, tmp_path):
    """The data and the finished runs, to be changed."""
    shutil.copytree(root, tmp_path / "data")
    runs = plan_runs(networks(tmp_path / "data", train=dict(epochs=1)), [0], tmp_path / "runs")
    finish_all(runs, torch.device("cpu"))
    return (
        tmp_path / "data",
        tmp_path / "runs",
        lambda: plan_runs(networks(tmp_path / "data", train=dict(epochs=1)), [0], tmp_path / "runs"),
    )


def test_results_of_other_data_are_not_taken_for_these(copied):
    data, _, plan = copied
    plan()
    skeleton = json.loads((data / "skeleton.json").read_text())
    (data / "skeleton.json").write_text(json.dumps({**skeleton, "lengths": {"torso": [12, 5]}}))
    with pytest.raises(CompareError, match="other settings or data.*contents of skeleton"):
        plan()
    (data / "skeleton.json").write_text(json.dumps(skeleton))
    path = data / "annotations" / "person_keypoints_val2017.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(CompareError, match="contents of val_annotations"):
        plan()
    path.unlink()
    with pytest.raises(DataError, match="val2017.json: not found"):
        plan()


def test_a_damaged_or_tidied_run_does_not_stop_the_others(copied):
    _, folder, plan = copied
    last = folder / "plain" / "seed_0" / "last.pth"
    last.write_bytes(last.read_bytes()[:1000])
    assert summarize(plan())["missing"] == []
    for path in (last, last.with_name("previous.pth"), last.with_name("metrics.csv")):
        path.unlink()
    runs = plan()
    assert summarize(runs)["missing"] == [] and runs[0].curves() == {}
    draw_curves(runs, folder / "curves.png")
    (folder / "plain" / "seed_0" / "correct.npz").unlink()
    with pytest.raises(CompareError, match=r"correct\.npz: cannot be read; delete test\.json"):
        summarize(runs)


def test_a_run_that_fails_is_told_and_the_others_go_on(root, tmp_path):
    runs = plan_runs(networks(root, train=dict(epochs=1)), [0], tmp_path)
    runs[0].folder.mkdir(parents=True)
    (runs[0].folder / "best.pth").write_bytes(b"somebody's")
    stopped, (failed,) = finish_all(runs, torch.device("cpu"))
    assert stopped is None and failed.startswith("plain, seed 0: ") and "best.pth" in failed
    assert summarize(runs)["missing"] == ["plain, seed 0"] and runs[1].result


def test_a_figure_of_nobody_is_not_a_number(finished, monkeypatch):
    _, runs = finished
    original = Run.result.fget

    def without(run):
        result = original(run)
        return {**result, "figures": {**result["figures"], "AP75": -1.0}}

    monkeypatch.setattr(Run, "result", property(without))
    summary = summarize(runs)
    assert np.isnan(summary["networks"]["plain"]["figures"]["AP75"][0])
    assert "| n/a |" in format_table(summary) and "-100" not in format_table(summary)


def test_the_summary_has_spread_and_differences(finished):
    _, runs = finished
    summary = summarize(runs)
    values = [run.result["figures"]["AP"] for run in runs]
    mean, deviation, each = summary["networks"]["plain"]["figures"]["AP"]
    assert (
        each == values[::2]
        and mean == pytest.approx(np.mean(each))
        and deviation == pytest.approx(np.std(each, ddof=1))
    )
    difference = summary["differences"]["dropping"]
    assert difference["AP"]["seeds"].mean == pytest.approx(np.mean(values[1::2]) - np.mean(values[::2]))
    assert set(difference["PCK@0.2 torso"]) == {"seeds", "pictures"} and set(difference["AP"]) == {"seeds", "pictures"}
    pck = [run.result["figures"]["PCK@0.2 torso"] for run in runs]
    assert difference["AP"]["pictures"].mean == pytest.approx(difference["AP"]["seeds"].mean)
    assert difference["PCK@0.2 torso"]["pictures"].mean == pytest.approx(np.mean(pck[1::2]) - np.mean(pck[::2]))
    table = format_table(summary)
    assert "Annotated boxes: " in table and "about 2 AP higher" in table
    assert "| plain |" in table and "±" in table and "Differences to plain" in table and "Not done" not in table
    one = summarize([run for run in runs if run.seed == 0])
    assert "| one seed |" in format_table(one) and "NaN" not in json.dumps(plain(one))


def test_the_tool_trains_reports_and_refuses(tmp_path, run_tool):
    root = write_tiny_set(tmp_path / "set", train=4, val=1)
    train_section = dict(epochs=1, batch_size=8)
    one = write_config(tmp_path / "one.py", root, train=train_section)
    model = dict(backbone=dict(type="mobilenet_v2", width=0.1), head=dict(type="bottleneck"))
    two = write_config(tmp_path / "two.py", root, train=train_section, model=model)
    command = ["compare.py", two, one, "--seeds", 3, "--work-dir", tmp_path / "work", "--device", "cpu"]
    command += ["--cfg-options", "data.val.boxes=annotated"]
    status, out, error = run_tool(*command)
    assert status == 0, error
    assert "run 2 of 2: one, seed 3" in out and re.search(r"\| one \| AP \| .*\| one seed \|", out)
    assert (tmp_path / "work" / "comparison.md").read_text() in out
    assert set(json.loads((tmp_path / "work" / "comparison.json").read_text())["networks"]) == {"one", "two"}
    assert (tmp_path / "work" / "curves.png").stat().st_size > 5000
    status, out, _ = run_tool(*command, "--report-only")
    assert status == 0 and "run 1" not in out
    status, _, error = run_tool("compare.py", one, one, "--work-dir", tmp_path / "work")
    assert status == 2 and "different file names" in error
