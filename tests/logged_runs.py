"""A run that was resumed, with the loggers that a test names."""

import csv

import pytest
from tiny import tiny_settings, write_tiny_set

from pose.engine.train import train

GIVEN = ("WANDB_MODE", "WANDB_PROJECT", "WANDB_API_KEY", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_tiny_set(tmp_path_factory.mktemp("data") / "set", train=4, val=2)


@pytest.fixture
def run(root, tmp_path, monkeypatch):
    """Trains two epochs, and goes on for a third."""
    for name in GIVEN:
        monkeypatch.delenv(name, raising=False)

    def trained(*names):
        for epochs in (2, 3):
            options = dict(epochs=epochs, loggers=names, sheet_every=3)
            train(tiny_settings(root, train=options), tmp_path / "some_run", "cpu", resume=epochs == 3)
        return tmp_path / "some_run"

    return trained


def figures(folder, name):
    with open(folder / "metrics.csv", newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file)]
