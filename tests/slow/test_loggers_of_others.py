"""W&B offline and MLflow on a file of SQLite: one run with every epoch, also where it was resumed.

Needs the extras wandb and mlflow; what is not installed is skipped. MLflow takes half a minute to make its tables.
"""

import json

import pytest
from logged_runs import figures
from logged_runs import root as root
from logged_runs import run as run


def test_mlflow_has_one_run_with_every_epoch_its_settings_and_its_sheet(run):
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    folder = run("mlflow")
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("pose")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.run_name == "some_run" and found.info.status == "FINISHED"
    for name in ("train/loss", "val/AP", "val/AP_M", "attention_entropy/backbone.dynamic"):
        history = client.get_metric_history(found.info.run_id, name)
        assert [point.step for point in history] == [1, 2, 3]
        if not name.startswith("attention"):
            assert [point.value for point in history] == figures(
                folder, {"AP_M": "AP(M)"}.get(name.partition("/")[2], name.partition("/")[2])
            )
    assert found.data.params["train.epochs"] == "2" and found.data.params["model.backbone.type"] == "tiny"
    assert [each.path for each in client.list_artifacts(found.info.run_id)] == ["validation_crops_0003.png"]
    assert list(folder.glob("mlflow_artifacts/**/validation_crops_0003.png"))
    assert not list(folder.glob("events.out.tfevents.*"))


def test_wandb_writes_offline_and_goes_on_with_the_same_run(run):
    pytest.importorskip("wandb")
    folder = run("wandb")
    (known,) = {json.loads((folder / "loggers.json").read_text())["wandb"]}
    files = sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))
    assert {file.name for file in files} == {f"run-{known}.wandb"}
    for file in files:
        written = file.read_bytes()
        assert all(name in written for name in (b"val/AP", b"train/loss", b"attention_entropy/backbone.dynamic"))
    assert list(folder.glob("wandb/offline-run-*/files/media/images/*.png"))
