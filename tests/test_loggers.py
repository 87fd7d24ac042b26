"""Where figures go beside metrics.csv: TensorBoard as ever, others where they are asked for.

tests/slow/test_loggers_of_others.py runs W&B and MLflow.
"""

import pytest
from logged_runs import figures
from logged_runs import root as root
from logged_runs import run as run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import tiny_settings

from pose.engine import loggers
from pose.engine.train import train
from pose.options import OptionError
from pose.train_settings import LOGGERS, Schedule


def test_without_any_there_is_the_file_of_figures_alone(run):
    folder = run()
    assert len(figures(folder, "loss")) == 3
    assert {path.name for path in folder.iterdir() if "lock" not in path.name} == {
        *("metrics.csv", "data.json", "last.pth", "previous.pth", "best.pth")
    }


def test_tensorboard_has_every_epoch_once_where_a_run_was_resumed_and_where_one_was_killed(run):
    folder = run("tensorboard")
    assert len(list(folder.glob("events.out.tfevents.*"))) == 2
    for name in ("loss", "AP"):
        points = tensorboard(folder, f"{'val' if name == 'AP' else 'train'}/{name}")
        assert [step for step, _ in points] == [1, 2, 3]
        assert [value for _, value in points] == pytest.approx(figures(folder, name))
    killed = loggers.TensorBoard(folder, 2, {})  # the third epoch is done anew
    killed.add_scalars({"train/loss": 7.0}, 3)
    killed.close()
    assert [value for _, value in tensorboard(folder, "train/loss")] == pytest.approx([*figures(folder, "loss")[:2], 7])


def tensorboard(folder, name):
    """(epoch, value) of a curve, as TensorBoard shows it."""
    return [(point.step, point.value) for point in EventAccumulator(str(folder)).Reload().Scalars(name)]


def test_what_is_not_installed_is_told_before_anything_is_read(root, tmp_path, monkeypatch):
    monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"train\.loggers: this needs mlflow, .* extra mlflow"):
        train(tiny_settings(root / "nowhere", train=dict(loggers=["mlflow"])), tmp_path, "cpu")


def test_every_name_has_its_logger_and_no_other_name_is_taken():
    assert tuple(loggers._MAKERS) == LOGGERS and Schedule().loggers == ("tensorboard",)
    with pytest.raises(ValueError, match="loggers may be tensorboard, wandb, mlflow, got 'clearml'"):
        Schedule(loggers=("clearml",))


def test_settings_become_flat_parameters():
    settings = {"data": {"train": [{"weight": 1.0}], "size": (32, 64)}, "augmentation": None, "empty": {}}
    flat = {"data.train.0.weight": "1.0", "data.size": "(32, 64)", "augmentation": "None", "empty": "{}"}
    assert loggers._flat(settings) == flat
