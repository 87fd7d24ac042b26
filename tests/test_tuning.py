"""Options searched on the validation split: the test split unread, trials pruned, killed ones resumed."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_project import run_tool as run_tool
from tiny import TOOL_MODEL, tiny_settings, write_tiny_set

from pose.options import OptionError

optuna = pytest.importorskip("optuna")

from pose.checkpoint import load_checkpoint  # noqa: E402
from pose.engine import tuning  # noqa: E402
from pose.engine.comparison.runs import CompareError  # noqa: E402
from pose.engine.progress import TrainingError  # noqa: E402
from pose.engine.search_ranges import Range, parse_ranges  # noqa: E402
from pose.engine.train import train  # noqa: E402
from pose.engine.tuning import Search, format_search  # noqa: E402

RATE = Range("train.learning_rate", 1e-4, 1e-2, log=True)
opened: list[str] = []


@pytest.fixture(scope="module", autouse=True)
def files_opened():
    """Notes every file that is opened in this process from here on; there is no way to end it."""
    sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = write_tiny_set(tmp_path_factory.mktemp("data") / "set", train=4, val=2)
    (root / "tested.json").write_bytes((root / "annotations" / "person_keypoints_val2017.json").read_bytes())
    return root


@pytest.fixture
def settings(root):
    data = dict(val=dict(boxes="annotated"), test=dict(annotations="tested.json", images="val2017"))
    return tiny_settings(root, data=data)


def settings_of(settings):
    return lambda options: replace(
        settings, train=replace(settings.train, **{key.rpartition(".")[2]: value for key, value in options.items()})
    )


def states(search):
    return [trial.state.name for trial in search.study.get_trials()]


def fake_training(values):
    """Validations of these figures, one list a trial."""
    left = iter(values)

    def trained(settings, folder, device, resume, enough):
        best = -1.0
        for epoch, value in enumerate(next(left), 1):
            best = max(best, value)
            if enough(epoch, {"AP": value}):
                break
        return {"best": {"AP": best, "epoch": epoch}, "stopped": None}

    return trained


def test_a_trial_that_is_worse_than_most_is_pruned_and_the_best_is_named(settings, tmp_path, monkeypatch):
    settings = replace(settings, train=replace(settings.train, epochs=3))
    values = [[0.2, 0.3, 0.4 + 0.01 * number] for number in range(4)] + [[0.1, 0.1, 0.9], [0.3, 0.4, 0.5]]
    monkeypatch.setattr(tuning, "train", fake_training(values))
    search = Search(settings, [RATE], tmp_path)
    assert search.run(6, torch.device("cpu"), settings_of(settings)) is None
    assert states(search) == ["COMPLETE"] * 4 + ["PRUNED", "COMPLETE"]
    text = format_search(search, "some.py")
    best = search.study.trials[5].params["train.learning_rate"]
    assert f"python tools/train.py some.py --cfg-options train.learning_rate={best:.6g}" in text
    given = format_search(search, "some.py", ["data.input_size=(96, 128)"])
    assert f"some.py --cfg-options 'data.input_size=(96, 128)' train.learning_rate={best:.6g}" in given
    assert [line.split(" | ")[1].strip() for line in text.splitlines()[2:8]] == ["whole"] * 5 + ["pruned"]
    monkeypatch.setattr(tuning, "train", fake_training([[0.1, 0.1, 0.1]]))
    whole = Search(settings, [RATE], tmp_path, prune=False)
    whole.run(7, torch.device("cpu"), settings_of(settings))
    assert states(whole)[6] == "COMPLETE"


def test_values_are_not_tried_again_after_a_stop(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "train", fake_training([[0.1]] * 4))
    for trials in (2, 4):
        search = Search(settings, [RATE], tmp_path)
        search.run(trials, torch.device("cpu"), settings_of(settings))
    assert len({trial.params["train.learning_rate"] for trial in search.study.trials}) == 4


def test_a_killed_trial_goes_on_from_its_checkpoint(settings, tmp_path, monkeypatch, capsys):
    def killed(settings, folder, device, **_):
        train(replace(settings, train=replace(settings.train, epochs=1)), folder, device)
        raise SystemExit

    monkeypatch.setattr(tuning, "train", killed)
    opened.clear()
    with pytest.raises(SystemExit):
        Search(settings, [RATE], tmp_path).run(1, torch.device("cpu"), settings_of(settings))
    monkeypatch.setattr(tuning, "train", train)
    capsys.readouterr()
    search = Search(settings, [RATE], tmp_path)
    assert search.run(1, torch.device("cpu"), settings_of(settings)) is None
    assert "resumed" in (printed := capsys.readouterr().out) and "after epoch 1" in printed
    assert states(search) == ["FAIL", "COMPLETE"] and len(search.counted()) == 1
    first, second = search.study.trials
    assert first.params == second.params and set(second.intermediate_values) == {1, 2}
    assert load_checkpoint(tmp_path / "trial_0" / "last.pth")["epoch"] == 2
    assert not (tmp_path / "trial_1").exists()
    assert not any(name.endswith("tested.json") for name in opened) and any(".pth" in name for name in opened)


def test_a_trial_that_diverges_is_counted_and_does_not_end_the_search(settings, tmp_path, monkeypatch):
    def diverging(*_, **__):
        raise TrainingError("the loss is nan")

    monkeypatch.setattr(tuning, "train", diverging)
    search = Search(settings, [RATE], tmp_path)
    assert search.run(2, torch.device("cpu"), settings_of(settings)) is None
    assert states(search) == ["FAIL", "FAIL"] and "| failed | n/a" in format_search(search, "some.py")


def test_another_search_in_the_folder_is_refused(settings, tmp_path):
    Search(settings, [RATE], tmp_path)
    Search(settings, [RATE], tmp_path)
    with pytest.raises(CompareError, match=r"another search: ranges\.train\.learning_rate\.high 0\.01 -> 1"):
        Search(settings, [replace(RATE, high=1)], tmp_path)
    other = replace(settings, train=replace(settings.train, batch_size=2))
    with pytest.raises(CompareError, match=r"settings\.train\.batch_size 4 -> 2"):
        Search(other, [RATE], tmp_path)


def test_ranges_are_read():
    assert parse_ranges(["train.epochs=2:9", "train.learning_rate=log:1e-4:1e-2", "train.optimizer=adam,adamw"]) == [
        Range("train.epochs", 2, 9),
        RATE,
        Range("train.optimizer", choices=("adam", "adamw")),
    ]


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ("train.epochs", "needs KEY=LOW:HIGH"),
        ("train.epochs=9:2", "the smaller first"),
        ("train.epochs=few:many", "needs two numbers"),
        ("train.learning_rate=log:0:1", "with log both above 0"),
        ("test.decode=none,dark", "decides what is measured"),
        ("data.val.images=a,b", "decides what is measured"),
    ],
)
def test_a_range_that_cannot_be_is_told(pair, said):
    with pytest.raises(OptionError, match=said):
        parse_ranges([pair])


def test_the_tool_searches_and_reads_no_test_split(root, tmp_path, run_tool):
    config = tmp_path / "tiny.json"
    data = dict(root=str(root), input_size=[32, 64], workers=0, val=dict(boxes="annotated"))
    data["test"] = dict(annotations="tested.json", images="val2017")
    config.write_text(json.dumps(dict(model=TOOL_MODEL, data=data, train=dict(epochs=1, batch_size=4))))
    command = ("tune.py", config, "--search", "train.optimizer=adam,adamw", "--work-dir", tmp_path / "work")
    opened.clear()
    code, printed, _ = run_tool(*command, "--trials", 2, "--device", "cpu")
    assert code == 0 and printed.count("| whole") == 2 and "--cfg-options train.optimizer=adam" in printed
    assert (tmp_path / "work" / "tune.md").read_text().strip() in printed
    assert not any(Path(name).name == "tested.json" for name in opened)
    assert any(name.endswith("person_keypoints_val2017.json") for name in opened)
    code, printed, _ = run_tool(*command, "--report-only")
    assert code == 0 and printed.count("| whole") == 2
    code, _, error = run_tool("tune.py", config, "--search", "train.learning_rat=1:2", "--work-dir", tmp_path / "other")
    assert code == 2 and "learning_rat" in error and not (tmp_path / "other").exists()
