"""Networks trained alike and tested alike, over several seeds."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pose.engine.checkpoint import load_checkpoint, load_state
from pose.engine.config import Settings
from pose.engine.evaluate import evaluate, make_test_loader, prepare_scoring, read_test_persons, stamp
from pose.engine.progress import changes
from pose.engine.train import make_learner, train
from pose.engine.work_dir import BEST, LAST, METRICS, BusyError
from pose.errors import PoseError
from pose.evaluation.pck import predicted_length_pck
from pose.files import read_json, replacing, sha256, write_json
from pose.options import OptionError

RESULT, CORRECT = "test.json", "correct.npz"
"""What a run's test leaves in its folder: figures, and which keypoints of each person were correct."""

FREE = (
    *("data.root", "data.workers", "data.crop_cache", "test.batch_size", "train.seed", "train.checkpoint_minutes"),
    *("train.native", "train.recompute_kernels"),
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
        seed: Of initialisation, order and augmentation.
        settings: With that seed.
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
    def correct(self) -> dict[str, np.ndarray]:
        """(P, K) of each PCK measure of the test, see :class:`~pose.evaluation.pck.LengthPck`."""
        with np.load(self.folder / CORRECT) as arrays:
            return {name: arrays[name] for name in arrays.files}

    def curves(self) -> dict[str, list[float]]:
        """The columns of ``metrics.csv``; NaN where an epoch has no figure."""
        with open(self.folder / METRICS, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {name: [float(row[name] or "nan") for row in rows] for name in (rows[0] if rows else ())}


def plan_runs(networks: Mapping[str, Settings], seeds: Sequence[int], folder: Path) -> list[Run]:
    """Every network with every seed, all networks of a seed before the next one.

    Args:
        networks: Settings by name, the baseline first; they may differ in ``model`` alone.
        seeds: All different.
        folder: Gets ``NAME/seed_N`` for each.

    Raises:
        CompareError: They differ in something else, or a folder holds a run of other settings.
        OptionError: There are fewer than two networks, or a seed stands there twice.
    """
    if len(networks) < 2:
        raise OptionError("needs at least two configurations, the baseline first")
    if not seeds or len(set(seeds)) < len(seeds):
        raise OptionError(f"--seeds: needs different numbers, got {' '.join(map(str, seeds)) or 'none'}")
    (first, baseline), *others = networks.items()
    for name, settings in others:
        _refuse(_differences(baseline, settings, but="model"), f"{first} and {name} are not trained and tested alike")
    runs = [
        Run(name, seed, replace(settings, train=replace(settings.train, seed=seed)), folder / name / f"seed_{seed}")
        for seed in seeds
        for name, settings in networks.items()
    ]
    for run in runs:
        last = run.folder / LAST
        if last.exists():
            before = load_checkpoint(last).get("settings", {})
            found = sorted(changes(before, run.settings.to_dict()))
            found = [change for change in found if not change.startswith(FREE)]
            _refuse(found, f"{run.folder} holds a run with other settings; choose another --work-dir")
    return runs


def finish_run(run: Run, device: torch.device) -> int | None:
    """Trains what is left of a run and tests it; nothing where that is done.

    With a test split, the weights of the epoch that was best on the validation split are tested; without one,
    those of the last epoch, since choosing an epoch on the pictures that are tested would favour whoever varies most.

    Returns:
        The signal that stopped it, or None.

    Raises:
        BusyError: Another process is at it.
        PoseError: It cannot be trained or tested.
    """
    if run.result is not None:
        return None
    stopped = train(run.settings, run.folder, device, resume=True)["stopped"]
    if stopped:
        return stopped
    _test(run, device)
    return None


def finish_all(runs: Sequence[Run], device: torch.device) -> int | None:
    """Finishes every run that no other process is at, so that the same command can be started once a core or GPU.

    Returns:
        The signal that stopped it, or None.

    Raises:
        PoseError: A run cannot be trained or tested.
    """
    for number, run in enumerate(runs, 1):
        print(f"run {number} of {len(runs)}: {run.name}, seed {run.seed}", flush=True)
        try:
            stopped = finish_run(run, device)
        except BusyError:
            print("  another process is at it: left to it", flush=True)
            continue
        if stopped:
            return stopped
        figures = "  ".join(f"{name} {value:.3f}" for name, value in run.result["figures"].items())
        print(f"  {figures}", flush=True)
    return None


def _test(run: Run, device: torch.device) -> None:
    separate = run.settings.data.test_annotations is not None
    settings = replace(run.settings, data=run.settings.data.for_testing())
    path = run.folder / (BEST if separate else LAST)
    checkpoint = load_checkpoint(path)
    if separate:
        model = settings.build_model()
        load_state(model, checkpoint["model"], path)
        model = model.to(device)
    else:
        learner = make_learner(settings, device)
        learner.load_state_dict(checkpoint, path)
        model = learner.best_model
    persons, _ = read_test_persons(settings, settings.data.boxes)
    loader = make_test_loader(settings, persons)
    figures, results, predictions = evaluate(model, loader, settings, device)
    truth, skeleton = prepare_scoring(settings), settings.skeleton()
    measures = predicted_length_pck(predictions, results, truth, skeleton)
    with replacing(run.folder / CORRECT) as temporary:
        np.savez_compressed(temporary, **{measure.name: measure.correct for measure in measures})
    seconds = run.curves()["seconds"]
    write_json(
        run.folder / RESULT,
        {
            "figures": {**figures, **{measure.name: measure.mean for measure in measures}},
            "PCK of keypoints": {measure.name: measure.shares for measure in measures},
            "epoch": checkpoint["epoch"],
            "epochs": settings.train.epochs,
            "hours": sum(seconds) / 3600,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "checkpoint": path.name,
            "checkpoint_sha256": sha256(path),
            "protocol": stamp(settings, len(persons), run.name, path).to_dict(),
        },
    )


def _differences(one: Settings, other: Settings, but: str) -> list[str]:
    found = sorted(changes(one.to_dict(), other.to_dict()))
    return [change for change in found if not change.startswith((*FREE, f"{but}."))]


def _refuse(found: Sequence[str], why: str) -> None:
    if found:
        raise CompareError(f"{why}: {', '.join(found)}")
