"""Networks trained alike and tested alike, over several seeds: which runs there are, and what they found.

:mod:`pose.engine.comparison.finish` trains and tests them.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pose.checkpoint import load_newest
from pose.config import Settings, stored_settings
from pose.engine.progress import changes
from pose.engine.work_dir import LAST, METRICS, PREVIOUS
from pose.errors import DataError, PoseError
from pose.evaluation.bootstrap import ImageScores
from pose.evaluation.protocol import ANNOTATED
from pose.files import read_json, sha256
from pose.options import OptionError

RUN, RESULT, CORRECT, MATCHED = "run.json", "test.json", "correct.npz", "matched.npz"
"""What lies in a run's folder beside the training's own files: settings and hashes of its data; the test's figures;
which keypoints of each person were correct; which persons were found at which OKS."""

FREE = (
    *("data.workers", "test.batch_size", "test.native", "train.seed", "train.checkpoint_minutes"),
    *("train.native", "train.recompute_kernels", "train.loggers"),
)
"""Options in which runs may differ: they change how long it takes, not what comes out (but for rounding), or are the
seed itself."""


class CompareError(PoseError):
    """Runs that cannot be compared."""


@dataclass(frozen=True)
class Run:
    """One training of one network.

    Args:
        name: The network's, from its configuration's file.
        seed: The seed of initialisation, order and augmentation.
        settings: The run's settings, with that seed.
        folder: Where it is trained.
    """

    name: str
    seed: int
    settings: Settings
    folder: Path

    @property
    def result(self) -> dict[str, Any] | None:
        """What its test found; None before it."""
        path = self.folder / RESULT
        return read_json(path, "test result") if path.is_file() else None

    @property
    def found(self) -> dict[str, Any]:
        """:attr:`result` of a run that has been tested.

        Raises:
            CompareError: It has not.
        """
        result = self.result
        if result is None:
            raise CompareError(f"{self.folder / RESULT}: is not there; test the run first")
        return result

    @property
    def correct(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """(P, K) and (P,) of each PCK measure of the test: ``correct`` and ``image_ids`` of its ``LengthPck``.

        Raises:
            CompareError: The file is gone.
        """
        try:
            with np.load(self.folder / CORRECT) as arrays:
                names = [name for name in arrays.files if f"{name} image_ids" in arrays.files]
                return {name: (arrays[name], arrays[f"{name} image_ids"]) for name in names}
        except (OSError, ValueError) as error:
            raise CompareError(f"{self.folder / CORRECT}: cannot be read; delete {RESULT} to test again") from error

    @property
    def matched(self) -> ImageScores | None:
        """What AP of resampled pictures needs; None of a run that was tested before this was kept."""
        try:
            with np.load(self.folder / MATCHED) as arrays:
                return ImageScores(**arrays)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise CompareError(f"{self.folder / MATCHED}: cannot be read; delete {RESULT} to test again") from error

    def curves(self) -> dict[str, list[float]]:
        """The columns of ``metrics.csv``; NaN where an epoch has no figure, nothing where there is no such file."""
        path = self.folder / METRICS
        if not path.is_file():
            return {}
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {name: [float(row[name] or "nan") for row in rows] for name in (rows[0] if rows else ())}


def plan_runs(networks: Mapping[str, Settings], seeds: Sequence[int], folder: Path, differ: str = "model") -> list[Run]:
    """Every network with every seed, all networks of a seed before the next one.

    Args:
        networks: Settings by name, the baseline first; they may differ in ``differ`` alone.
        seeds: Numbers from 0 on, no two alike.
        folder: The folder, which gets ``NAME/seed_N`` for each.
        differ: A section of the settings.

    Raises:
        CompareError: They differ in something else, or a folder holds a run of other settings.
        OptionError: There are fewer than two networks, or a seed stands there twice.
    """
    if len(networks) < 2:
        raise OptionError("needs at least two configurations, the baseline first")
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise OptionError(f"--seeds: needs different numbers from 0 on, got {' '.join(map(str, seeds)) or 'none'}")
    (first, baseline), *others = networks.items()
    for name, settings in others:
        _refuse(_differences(baseline, settings, but=differ), f"{first} and {name} are not trained and tested alike")
    runs = [
        Run(name, seed, replace(settings, train=replace(settings.train, seed=seed)), folder / name / f"seed_{seed}")
        for seed in seeds
        for name, settings in networks.items()
    ]
    data = fingerprint(baseline)
    for run in runs:
        before = _before(run)
        found = sorted(changes(stored_settings(before["settings"]), run.settings.to_dict())) if before else []
        found = [change for change in found if not change.startswith(FREE)]
        if before and before["data"]:
            known = {name: data[name] for name in data if name in before["data"]}  # an older version hashed fewer
            found += sorted(changes(before["data"], known, "contents of "))
        _refuse(found, f"{run.folder} holds a run with other settings or data; choose another --work-dir")
    return runs


def fingerprint(settings: Settings) -> dict[str, str]:
    """Hashes of the files that decide what a run learns and is tested on: annotations, skeletons, boxes, the start.

    Raises:
        DataError: One is missing.
    """
    data = settings.data
    paths = {
        **{f"train_annotations{_number(place)}": data.path(each.annotations) for place, each in enumerate(data.train)},
        **{
            f"train_extra_joints{_number(place)}": data.path(each.extra_joints)
            for place, each in enumerate(data.train)
            if each.extra_joints
        },
        **{
            f"train_skeleton{_number(place)}": Path(each.skeleton)
            for place, each in enumerate(data.train)
            if each.skeleton and Path(each.skeleton).is_file()
        },
        "val_annotations": data.path(data.val.annotations),
        "test_annotations": data.path(data.tested.annotations),
        **({} if data.tested.boxes == ANNOTATED else {"boxes": data.path(data.tested.boxes)}),
        **({} if data.val.boxes == ANNOTATED or data.test is None else {"val_boxes": data.path(data.val.boxes)}),
        **({"initial_weights": initial} if (initial := _initial_file(settings)) else {}),
        **({"skeleton": Path(data.skeleton)} if Path(data.skeleton).is_file() else {}),
    }
    missing = next((path for path in paths.values() if not path.is_file()), None)
    if missing:
        raise DataError(f"{missing}: not found; see docs/custom_dataset.md")
    return {name: sha256(path) for name, path in paths.items()}


def _initial_file(settings: Settings) -> Path | None:
    """The file that a run starts from; None where it starts fresh or from weights with a name, which have a hash."""
    wanted = settings.train.initial_weights
    path = Path(wanted.rpartition("=")[2]) if wanted else None
    return path if path and path.is_file() else None


def _number(place: int) -> str:
    """What tells the first data set's files from those of the others."""
    return f" {place}" if place else ""


def _before(run: Run) -> dict[str, Any] | None:
    """Settings and data hashes of what a folder holds; of a training that another tool began, without the hashes."""
    if (run.folder / RUN).is_file():
        return read_json(run.folder / RUN, "run's settings")
    paths = [run.folder / name for name in (LAST, PREVIOUS)]
    if not any(path.exists() for path in paths):
        return None
    return {"settings": load_newest(paths)[0].get("settings", {}), "data": None}


def _differences(one: Settings, other: Settings, but: str) -> list[str]:
    found = sorted(changes(one.to_dict(), other.to_dict()))
    return [change for change in found if not change.startswith((*FREE, f"{but}."))]


def _refuse(found: Sequence[str], why: str) -> None:
    if found:
        raise CompareError(f"{why}: {', '.join(found)}")
