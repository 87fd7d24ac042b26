"""W&B offline and MLflow on a file of SQLite: one run with every epoch, also where it was resumed.

Needs the extras wandb and mlflow; what is not installed is skipped. MLflow takes half a minute to make its tables.
"""

import json
import struct

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
    known = json.loads((folder / "loggers.json").read_text())["wandb"]
    files = sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))
    assert [file.name for file in files] == [f"run-{known}.wandb"] * 2
    steps = {}
    for part, file in enumerate(files):
        contents = list(records(file))
        (begun,) = [record.run for record in contents if record.HasField("run")]
        assert begun.run_id == known and begun.display_name == "some_run" and begun.project == "pose"
        for row in [record.history for record in contents if record.HasField("history")]:
            values = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in row.item}
            assert values["epoch"] == values["_step"] == row.step.num and row.step.num not in steps
            steps[row.step.num] = (part, values)
    assert {step: part for step, (part, _) in steps.items()} == {1: 0, 2: 0, 3: 1}
    assert [values["train/loss"] for _, values in steps.values()] == figures(folder, "loss")
    assert [values["val/AP"] for _, values in steps.values()] == figures(folder, "AP")
    assert all("attention_entropy/backbone.dynamic" in values for _, values in steps.values())
    assert [values.get("validation crops/_type") for _, values in steps.values()] == [None, None, "image-file"]
    assert list(folder.glob("wandb/offline-run-*/files/media/images/*.png"))


def records(path):
    """What a file of W&B holds: protobufs in LevelDB's log format, after 7 bytes, in blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, parts = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last of several
            yield Record.FromString(parts)
            parts = b""
