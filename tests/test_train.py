"""Training: what a run leaves, what stops it, and that it goes on as if it had never stopped."""

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import tiny_settings, write_config, write_tiny_set

from pose.checkpoint import load_checkpoint
from pose.config import TrainSettings
from pose.engine import loop
from pose.engine import train as training
from pose.engine.progress import TrainingError
from pose.engine.train import train
from pose.errors import CheckpointError, DataError, OutputError
from pose.evaluation.coco_eval import FIGURES

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_tiny_set(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture(scope="module")
def run(root, tmp_path_factory):
    """Two epochs, straight through."""
    work_dir = tmp_path_factory.mktemp("run")
    return work_dir, train(tiny_settings(root), work_dir, "cpu")


def rows(work_dir):
    with open(work_dir / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_checkpoints_figures_and_curves(run):
    work_dir, summary = run
    last, best = load_checkpoint(work_dir / "last.pth"), load_checkpoint(work_dir / "best.pth")
    assert last["epoch"] == 2
    assert summary["checkpoint"] == work_dir / "best.pth"
    assert summary["best"]["epoch"] == best["epoch"]
    assert set(FIGURES) < set(summary["best"])
    assert [row["epoch"] for row in rows(work_dir)] == ["1", "2"]
    assert all(np.isfinite(float(row["loss"])) and row["AP"] for row in rows(work_dir))
    assert list(work_dir.glob("events.out.tfevents.*"))


def test_the_curves_hold_what_the_file_holds(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    work_dir, _ = run
    board = EventAccumulator(str(work_dir))
    board.Reload()
    for name in ("train/loss", "train/learning_rate", "train/samples_per_second", "train/data_wait", "val/AP"):
        points = board.Scalars(name)
        assert [point.step for point in points] == [1, 2]
        column = name.partition("/")[2]
        np.testing.assert_allclose([point.value for point in points], [float(row[column]) for row in rows(work_dir)])


def test_the_same_seed_gives_the_same_weights_and_another_does_not(root, run, tmp_path):
    work_dir, _ = run
    weights = load_checkpoint(work_dir / "last.pth")["model"]
    train(tiny_settings(root), tmp_path / "same", "cpu")
    same = load_checkpoint(tmp_path / "same" / "last.pth")["model"]
    assert all(torch.equal(tensor, same[name]) for name, tensor in weights.items())
    train(tiny_settings(root, train=dict(epochs=1, seed=1)), tmp_path / "other", "cpu")
    other = load_checkpoint(tmp_path / "other" / "last.pth")["model"]
    assert not torch.equal(weights["backbone.stem.weight"], other["backbone.stem.weight"])


def test_resuming_goes_on_as_if_the_run_had_not_stopped(root, run, tmp_path):
    work_dir, _ = run
    train(tiny_settings(root, train=dict(epochs=1)), tmp_path, "cpu")
    with open(tmp_path / "metrics.csv", "a") as file:
        file.write("2,0.5\n")  # a row of an epoch whose checkpoint was not written
    train(tiny_settings(root), tmp_path, "cpu", resume=True)
    straight, resumed = load_checkpoint(work_dir / "last.pth"), load_checkpoint(tmp_path / "last.pth")
    assert straight["best"] == resumed["best"]
    assert all(torch.equal(tensor, resumed["model"][name]) for name, tensor in straight["model"].items())
    assert [(row["epoch"], row["loss"]) for row in rows(tmp_path)] == [
        (row["epoch"], row["loss"]) for row in rows(work_dir)
    ]


def test_a_work_folder_with_a_run_is_not_overwritten(root, run):
    work_dir, _ = run
    before = (work_dir / "last.pth").read_bytes()
    with pytest.raises(TrainingError, match="holds a training run; go on with --resume"):
        train(tiny_settings(root), work_dir, "cpu")
    assert (work_dir / "last.pth").read_bytes() == before


@pytest.mark.parametrize("resume", [False, True])
def test_a_kept_checkpoint_without_its_run_is_not_overwritten(root, tmp_path, resume):
    (tmp_path / "best.pth").write_bytes(b"precious")
    with pytest.raises(TrainingError, match="best.pth|holds a training run"):
        train(tiny_settings(root), tmp_path, "cpu", resume=resume)
    assert (tmp_path / "best.pth").read_bytes() == b"precious"


def test_a_row_that_a_full_disk_cut_off_is_dropped(root, run, tmp_path):
    shutil.copytree(run[0], tmp_path / "run")
    with open(tmp_path / "run" / "metrics.csv", "a") as file:
        file.write(",0.1")
    train(tiny_settings(root, train=dict(epochs=3)), tmp_path / "run", "cpu", resume=True)
    assert [row["epoch"] for row in rows(tmp_path / "run")] == ["1", "2", "3"]


def test_entropy_of_attention_is_shown_for_each_dynamic_layer(run):
    events = EventAccumulator(str(run[0])).Reload()
    points = events.Scalars("attention_entropy/backbone.dynamic")
    assert [point.step for point in points] == [1, 2]
    assert all(0 < point.value <= 1 for point in points)


def test_a_sheet_of_validation_crops_is_shown_every_so_many_epochs(root, tmp_path):
    options = dict(epochs=5, sheet_every=2)
    train(tiny_settings(root, train=options), tmp_path, "cpu")
    events = EventAccumulator(str(tmp_path)).Reload()
    images = events.Images("validation crops")
    assert [image.step for image in images] == [2, 4]
    assert (images[0].width, images[0].height) == (4 * 32, 64)  # four persons
    assert images[0].encoded_image_string != images[1].encoded_image_string


def test_the_end_of_a_run_says_how_kernels_were_used(root, tmp_path, capsys):
    train(tiny_settings(root, train=dict(epochs=1)), tmp_path, "cpu")
    said = capsys.readouterr().out
    assert (
        "attention at temperature 30, as entropy from 0 (one kernel) to 1 (all alike): mean 1.000 of 1 layers" in said
    )
    assert "lowest 1.000 in backbone.dynamic" in said
    assert rows(tmp_path)[0]["temperature"] == "30.0"


def test_a_signal_while_data_are_prepared_ends_the_run_at_once(root, tmp_path, monkeypatch):
    prepare = training.prepare_data

    def interrupted(*arguments):
        signal.raise_signal(signal.SIGINT)
        return prepare(*arguments)

    monkeypatch.setattr(training, "prepare_data", interrupted)
    assert train(tiny_settings(root), tmp_path, "cpu")["stopped"] == signal.SIGINT
    assert not (tmp_path / "last.pth").exists()
    monkeypatch.setattr(training, "prepare_data", prepare)
    assert train(tiny_settings(root), tmp_path, "cpu")["stopped"] is None


def test_training_starts_from_the_weights_that_it_is_given(root, run, tmp_path):
    given = load_checkpoint(run[0] / "best.pth")["model"]
    options = dict(epochs=1, learning_rate=1e-12, initial_weights=str(run[0] / "best.pth"))
    train(tiny_settings(root, train=options), tmp_path, "cpu")
    after = load_checkpoint(tmp_path / "last.pth")["model"]
    torch.testing.assert_close(after["backbone.dynamic.weight"], given["backbone.dynamic.weight"])


def test_resuming_nothing_starts_fresh_and_says_so(root, tmp_path, capsys):
    train(tiny_settings(root, train=dict(epochs=1)), tmp_path, "cpu", resume=True)
    assert f"nothing to resume in {tmp_path}: starting fresh" in capsys.readouterr().out
    assert (tmp_path / "best.pth").is_file()


def test_resuming_with_another_seed_or_network_is_refused(root, run):
    work_dir, _ = run
    before = (work_dir / "last.pth").read_bytes()
    with pytest.raises(TrainingError, match="seed 0; resume with it"):
        train(tiny_settings(root, train=dict(seed=4)), work_dir, "cpu", resume=True)
    with pytest.raises(CheckpointError, match="another network"):
        train(tiny_settings(root, model=dict(head=dict(type="deconv"))), work_dir, "cpu", resume=True)
    assert (work_dir / "last.pth").read_bytes() == before


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(root, tmp_path):
    train(tiny_settings(root, train=dict(epochs=1)), tmp_path, "cpu")
    before = (tmp_path / "last.pth").read_bytes()
    kept = f"nan at batch 2 of epoch 2; the last checkpoint is kept, {tmp_path / 'last.pth'}: go on with --resume"
    with pytest.raises(TrainingError, match=re.escape(kept)):
        train(tiny_settings(root, train=dict(epochs=3, learning_rate=1e30)), tmp_path, "cpu", resume=True)
    assert (tmp_path / "last.pth").read_bytes() == before


@pytest.mark.parametrize("options", [dict(validate_every=1), dict(validate_every=9), dict(average_decay=0.9)])
def test_a_last_step_that_diverges_before_a_save_leaves_a_checkpoint_to_go_on_from(root, tmp_path, options):
    def run(epochs, rate, **more):  # one step an epoch: its loss, of before the step, is finite
        given = dict(epochs=epochs, learning_rate=rate, batch_size=12, **{"validate_every": 9, **options, **more})
        return train(tiny_settings(root, train=given), tmp_path, "cpu", resume=True)

    run(1, 1e-3)
    before = (tmp_path / "last.pth").read_bytes()
    with pytest.raises(TrainingError, match=r"NaN or infinity; the last checkpoint is kept, .*last\.pth: go on with"):
        run(3, 1e30)
    assert (tmp_path / "last.pth").read_bytes() == before
    assert run(2, 1e-3)["stopped"] is None
    assert load_checkpoint(tmp_path / "last.pth")["epoch"] == 2
    assert [row["epoch"] for row in rows(tmp_path)] == ["1", "2"]


def test_a_run_that_diverges_before_its_first_checkpoint_does_not_speak_of_one(root, tmp_path):
    with pytest.raises(TrainingError, match="no checkpoint was written yet"):
        train(tiny_settings(root, train=dict(epochs=1, learning_rate=1e30)), tmp_path, "cpu")
    assert not (tmp_path / "last.pth").exists()


@pytest.mark.parametrize("content", ["hello,world\n", "", "epoch\n1\n"])
def test_a_table_of_other_figures_is_not_replaced(root, run, tmp_path, content):
    work_dir = shutil.copytree(run[0], tmp_path / "run")
    (work_dir / "metrics.csv").write_text(content)
    with pytest.raises(DataError, match=r"metrics\.csv: not the table of figures"):
        train(tiny_settings(root), work_dir, "cpu", resume=True)
    assert (work_dir / "metrics.csv").read_text() == content


def test_the_best_weights_that_are_gone_are_told_and_chosen_anew(root, run, tmp_path, capsys):
    work_dir = shutil.copytree(run[0], tmp_path / "run")
    (work_dir / "best.pth").unlink()
    epochs = load_checkpoint(work_dir / "last.pth")["epoch"]
    best = train(tiny_settings(root, train=dict(epochs=epochs + 1)), work_dir, "cpu", resume=True)["best"]
    assert "best.pth is gone: the best is chosen among" in capsys.readouterr().out
    assert best["epoch"] == epochs + 1 == load_checkpoint(work_dir / "best.pth")["epoch"]


def test_figures_that_are_gone_are_told(root, run, tmp_path, capsys):
    work_dir = shutil.copytree(run[0], tmp_path / "run")
    (work_dir / "metrics.csv").unlink()
    epochs = load_checkpoint(work_dir / "last.pth")["epoch"]
    train(tiny_settings(root), work_dir, "cpu", resume=True)
    assert f"metrics.csv: has figures of 0 of the {epochs} epochs" in capsys.readouterr().out


def test_a_work_folder_that_cannot_be_written_is_told_before_training(root, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file.* cannot be written"):
        train(tiny_settings(root), tmp_path / "file" / "run", "cpu")


def test_a_batch_above_the_data_stops_before_training(root, tmp_path):
    with pytest.raises(DataError, match="12 persons, fewer than the batch size 13"):
        train(tiny_settings(root, train=dict(batch_size=13)), tmp_path, "cpu")


@pytest.fixture
def hundred(tmp_path):
    """Training pictures of which the 7th is cut off, in a set of 100 and their validation pictures."""
    root = write_tiny_set(tmp_path / "hundred", train=100)
    image = root / "train2017" / "000000000007.jpg"
    image.write_bytes(image.read_bytes()[:-200])
    return root


@pytest.mark.parametrize("workers", [0, 2])
def test_one_broken_picture_in_a_hundred_is_skipped_with_a_warning(hundred, tmp_path, capsys, workers):
    settings = tiny_settings(hundred, train=dict(epochs=2, batch_size=20), data=dict(workers=workers))
    train(settings, tmp_path / "run", "cpu")
    said = capsys.readouterr()
    assert said.err.count("000000000007.jpg: picture is cut off") == 1
    assert "warning: skipped" in said.err
    assert "(1 of at most 2)" in said.err
    assert len(rows(tmp_path / "run")) == 2


def test_broken_pictures_of_before_a_stop_count_until_they_are_mended(hundred, tmp_path, capsys):
    def resumed(epochs, **data):
        settings = tiny_settings(hundred, train=dict(epochs=epochs, batch_size=20), data=data)
        train(settings, tmp_path / "run", "cpu", resume=True)
        return capsys.readouterr()

    def rewritten(**changed):
        contents = {**load_checkpoint(tmp_path / "run" / "last.pth"), **changed}
        torch.save({name: value for name, value in contents.items() if value is not None}, tmp_path / "run/last.pth")

    files = [hundred / "train2017" / f"{number:012d}.jpg" for number in (7, 11, 22)]
    whole = files[1].read_bytes()
    resumed(1)
    found = load_checkpoint(tmp_path / "run" / "last.pth")["broken"]
    assert len(found) == 1
    rewritten(broken=[*found, *(f"{path}: not found" for path in files[1:])])
    files[1].write_text("no picture")
    said = resumed(2)  # the third was mended
    assert "1 pictures that could not be used before the stop can be now" in said.out
    assert len(load_checkpoint(tmp_path / "run" / "last.pth")["broken"]) == 2
    files[2].write_text("no picture")
    rewritten(broken=[f"{path}: not found" for path in files])
    with pytest.raises(DataError, match=r"3 of 100 pictures cannot be used, up to 2 are skipped"):
        resumed(2)  # before a picture is read for it
    files[2].write_bytes(whole)
    rewritten(broken=None)
    assert "(2 of at most 2)" in resumed(3).err  # of a checkpoint that an older version wrote
    rewritten(broken=2)
    with pytest.raises(CheckpointError, match="broken is 2"):
        resumed(4)


def test_data_can_be_checked_before_training(hundred, tmp_path, capsys):
    settings = tiny_settings(hundred, train=dict(epochs=1, batch_size=20))
    train(settings, tmp_path / "run", "cpu", check_data=True)
    said = capsys.readouterr().out
    assert "checked 100 training pictures: 1 are broken\n  " in said
    assert "checked 2 validation pictures: 0 are broken" in said
    assert said.index("000000000007.jpg: picture is cut off") < said.index("epoch 1/1")


def test_too_many_broken_pictures_stop_the_run(hundred, tmp_path):
    for number in (11, 22):
        (hundred / "train2017" / f"{number:012d}.jpg").write_text("no picture")
    settings = tiny_settings(hundred, train=dict(epochs=1, batch_size=20))
    with pytest.raises(DataError, match=r"3 of 100 pictures cannot be used, up to 2 are skipped"):
        train(settings, tmp_path / "run", "cpu")


def test_a_missing_picture_counts_as_broken_and_none_of_validation_may_be(hundred, tmp_path, capsys):
    (hundred / "train2017" / "000000000050.jpg").unlink()
    settings = tiny_settings(hundred, train=dict(epochs=1, batch_size=20))
    train(settings, tmp_path / "run", "cpu")
    said = capsys.readouterr()
    assert "000000000050.jpg: picture not found" in said.out + said.err
    (hundred / "val2017" / "000000000102.jpg").write_text("no picture")
    with pytest.raises(DataError, match=r"102.jpg: .*1 validation pictures are broken, none may be"):
        train(settings, tmp_path / "again", "cpu", check_data=True)


def test_the_learning_rate_falls_at_the_milestones():
    settings = TrainSettings()
    rates = [settings.learning_rate_at(epoch) for epoch in (0, 169, 170, 199, 200, 209)]
    np.testing.assert_allclose(rates, [1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])


def test_validation_comes_every_so_many_epochs_and_after_the_last(root, tmp_path, monkeypatch):
    settings = tiny_settings(root, train=dict(epochs=5, validate_every=2))

    def one_epoch(task, progress, *_):
        progress.persons, progress.seconds = 12, 1.0
        return True

    monkeypatch.setattr(loop, "train_one_epoch", one_epoch)
    train(settings, tmp_path, "cpu")
    assert [bool(row["AP"]) for row in rows(tmp_path)] == [False, True, False, True, True]


def tool(*arguments):
    """What tools/train.py prints and how it ends."""
    return subprocess.run(
        [sys.executable, "tools/train.py", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cfg-options", "train.epoch=3"], "unknown option 'train.epoch': did you mean 'epochs'?"),
        (["--cfg-options", "data.root=/absent"], "person_keypoints_train2017.json: annotation file not found"),
    ],
)
def test_the_tool_tells_what_is_wrong_in_one_line_and_leaves_with_2(root, tmp_path, arguments, message):
    config = write_config(tmp_path / "config.py", root)
    ended = tool(config, "--work-dir", tmp_path / "run", *arguments)
    assert ended.returncode == 2, ended.stderr
    assert message in ended.stderr
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1


def test_the_tool_trains_and_says_how_to_test(root, tmp_path):
    config = write_config(tmp_path / "config.py", root, train=dict(epochs=1))
    ended = tool(config, "--work-dir", tmp_path / "run", "--seed", 3, "--device", "cpu")
    assert ended.returncode == 0, ended.stderr
    assert f"tools/test.py {config} {tmp_path / 'run' / 'best.pth'}" in ended.stdout
    assert load_checkpoint(tmp_path / "run" / "last.pth")["settings"]["train"]["seed"] == 3


def test_a_run_without_a_better_figure_stops_early_and_stays_stopped(tmp_path, root, capsys):
    schedule = dict(epochs=9, learning_rate=1e-12, patience=2)
    settings = tiny_settings(root, train=schedule)
    first = train(settings, tmp_path / "run", "cpu")
    assert first["best"]["epoch"] == 1 and first["stopped"] is None
    assert "early stop after epoch 3 of 9: no better AP in 2 validations" in capsys.readouterr().out
    last = load_checkpoint(tmp_path / "run" / "last.pth")
    assert last["epoch"] == 3
    train(settings, tmp_path / "run", "cpu", resume=True)
    assert load_checkpoint(tmp_path / "run" / "last.pth")["epoch"] == 3
    with pytest.raises(ValueError, match="patience must be at least 1"):
        TrainSettings(patience=0)
