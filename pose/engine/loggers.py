"""Where a run's figures go while it trains: TensorBoard, Weights & Biases, MLflow; the last two by mmengine's backends.

Nothing leaves the machine unless somebody asks: W&B runs offline unless WANDB_MODE says otherwise, and MLflow writes a
file of SQLite into the work folder unless MLFLOW_TRACKING_URI names a server.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pose.errors import OutputError, missing
from pose.files import make_folder, read_json, write_json
from pose.options import OptionError

RUNS = "loggers.json"
"""Ids of the run in W&B and MLflow, so that a resumed one goes on in the same."""

PROJECT = "pose"
"""W&B's project and MLflow's experiment; WANDB_PROJECT and MLFLOW_EXPERIMENT_NAME name others."""


class Logger(Protocol):
    """Takes what a run measures."""

    def add_scalars(self, values: Mapping[str, float], epoch: int) -> None:
        """Figures of an epoch by name."""

    def add_image(self, name: str, image: np.ndarray, epoch: int) -> None:
        """A picture (H, W, 3) uint8 RGB."""

    def close(self) -> None:
        """Ends it; what can no longer be written is lost."""


class TensorBoard:
    """TensorBoard's files.

    Args:
        folder: The run's.
        epochs: Epochs that are done: points of later ones are dropped.
        settings: The run's settings, which are not written.
    """

    def __init__(self, folder: Path, epochs: int, settings: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter  # costs a second to import

        self._board = SummaryWriter(str(folder), purge_step=epochs + 1)

    def add_scalars(self, values: Mapping[str, float], epoch: int) -> None:
        """See :class:`Logger`."""
        for name, value in values.items():
            self._board.add_scalar(name, value, epoch)
        self._board.flush()

    def add_image(self, name: str, image: np.ndarray, epoch: int) -> None:
        """See :class:`Logger`."""
        self._board.add_image(name, image, epoch, dataformats="HWC")

    def close(self) -> None:
        """See :class:`Logger`."""
        with contextlib.suppress(OSError):  # told before, by add_scalars
            self._board.close()


class Wandb:
    """Weights & Biases, one step an epoch. A resumed run has the same id.

    An epoch that was reported and not saved before a kill is there twice.

    Args:
        folder: The run's; gets ``wandb/``.
        epochs: Epochs that are done.
        settings: The run's settings, which become W&B's config.
    """

    def __init__(self, folder: Path, epochs: int, settings: Mapping[str, Any]) -> None:
        from mmengine.visualization import WandbVisBackend

        known = _known_run(folder, "wandb", epochs) or secrets.token_hex(4)
        options = dict(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=folder.resolve().name,
            id=known,
            resume="allow",
            mode=os.environ.get("WANDB_MODE", "offline"),
            config=dict(settings),
        )
        self._backend = WandbVisBackend(
            str(make_folder(folder)), init_kwargs=options, define_metric_cfg=[dict(name="*", step_metric="epoch")]
        )
        self._run = self._backend.experiment.run
        _note_run(folder, "wandb", known)

    def add_scalars(self, values: Mapping[str, float], epoch: int) -> None:
        """See :class:`Logger`."""
        self._run.log({"epoch": epoch, **values}, step=epoch)  # by mmengine a resumed run would begin at step 0

    def add_image(self, name: str, image: np.ndarray, epoch: int) -> None:
        """See :class:`Logger`."""
        self._run.log({name: self._backend.experiment.Image(image)}, step=epoch)

    def close(self) -> None:
        """See :class:`Logger`."""
        self._run.finish()


class MLflow:
    """MLflow, a step an epoch. A resumed run goes on in the same one.

    Args:
        folder: The run's; gets ``mlflow.db`` and ``mlflow_artifacts/`` where MLFLOW_TRACKING_URI names no other place.
        epochs: Epochs that are done.
        settings: The run's settings, which become MLflow's parameters.
    """

    def __init__(self, folder: Path, epochs: int, settings: Mapping[str, Any]) -> None:
        import mlflow
        from mmengine.visualization import MLflowVisBackend

        folder = make_folder(folder).resolve()
        given = os.environ.get("MLFLOW_TRACKING_URI")
        uri = given or f"sqlite:///{folder / 'mlflow.db'}"
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        mlflow.set_tracking_uri(uri)
        if mlflow.get_experiment_by_name(name) is None:
            mlflow.create_experiment(name, None if given else (folder / "mlflow_artifacts").as_uri())
        mlflow.set_experiment(name)
        known = _known_run(folder, "mlflow", epochs)
        run = mlflow.start_run(run_id=known, run_name=None if known else folder.name)
        if known is None:
            mlflow.log_params(_flat(settings))
        self._backend = MLflowVisBackend(str(folder), exp_name=name, tracking_uri=uri)
        _note_run(folder, "mlflow", run.info.run_id)

    def add_scalars(self, values: Mapping[str, float], epoch: int) -> None:
        """See :class:`Logger`."""
        self._backend.add_scalars({_allowed(name): value for name, value in values.items()}, epoch)

    def add_image(self, name: str, image: np.ndarray, epoch: int) -> None:
        """See :class:`Logger`."""
        self._backend.add_image(f"{name.replace(' ', '_')}_{epoch:04d}.png", image)

    def close(self) -> None:
        """See :class:`Logger`."""
        self._backend.experiment.end_run()  # mmengine's close wants a configuration's folder and copies it


_MAKERS: dict[str, Callable[[Path, int, Mapping[str, Any]], Logger]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "mlflow": MLflow,
}


def check_loggers(names: Sequence[str]) -> None:
    """Refuses before anything is loaded what could not be written later.

    Raises:
        OptionError: A library is not installed; says which extra it comes with.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise OptionError(f"train.loggers: {missing(name)}")


def open_loggers(names: Sequence[str], folder: Path, epochs: int, settings: Mapping[str, Any]) -> list[Logger]:
    """The loggers of a run.

    Args:
        names: Some of :data:`pose.train_settings.LOGGERS`.
        folder: The run's.
        epochs: Epochs that are done.
        settings: The settings as plain values.
    """
    return [_MAKERS[name](folder, epochs, settings) for name in names]


def _known_run(folder: Path, name: str, epochs: int) -> str | None:
    """The id of the run to go on with; None where it starts afresh."""
    path = folder / RUNS
    return read_json(path, "file of the loggers' runs").get(name) if epochs and path.is_file() else None


def _note_run(folder: Path, name: str, run: str) -> None:
    path = folder / RUNS
    known = read_json(path, "file of the loggers' runs") if path.is_file() else {}
    write_json(path, {**known, name: run})


def _allowed(name: str) -> str:
    """A name without what MLflow refuses: AP(M) is AP_M."""
    return re.sub(r"[^\w\-. :/]", "_", name.replace(")", ""))


def _flat(values: Any, name: str = "") -> dict[str, str]:
    """Settings as MLflow's parameters: dotted names, texts of at most 500 characters."""
    if isinstance(values, Mapping) and values:
        items: Iterator[tuple[Any, Any]] = iter(values.items())
    elif isinstance(values, (list, tuple)) and any(isinstance(each, Mapping) for each in values):
        items = iter(enumerate(values))
    else:
        return {name: str(values)[:500]}
    return {
        key: text
        for part, value in items
        for key, text in _flat(value, f"{name}.{part}" if name else str(part)).items()
    }


@contextlib.contextmanager
def output_errors(folder: Path) -> Iterator[None]:
    """Says in one line that the folder cannot be written.

    Raises:
        OutputError: Instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error})") from error
