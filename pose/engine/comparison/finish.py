"""The runs of a comparison trained and tested, each by one process, after any stop and only once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from pose.checkpoint import load_checkpoint, load_state
from pose.engine import evaluate
from pose.engine.comparison.runs import CORRECT, MATCHED, RESULT, RUN, Run, fingerprint
from pose.engine.train import make_trainer, train
from pose.engine.work_dir import BEST, LAST, BusyError
from pose.errors import PoseError
from pose.evaluation.bootstrap import image_scores
from pose.files import make_folder, replacing, sha256, write_json
from pose.locks import HeldError, lock_file

_LOCK = ".compare.lock"


def finish_run(run: Run, device: torch.device) -> int | None:
    """Trains what is left of a run and tests it; nothing where that is done.

    With a test split, the weights of the epoch that was best on the validation split are tested; without one,
    those of the last epoch, since an epoch chosen on the pictures that are tested would favor what varies most.

    Returns:
        The signal that stopped it, or None.

    Raises:
        BusyError, HeldError: Another process is at it.
        PoseError: It cannot be trained or tested.
    """
    if run.result is not None:
        return None
    with lock_file(make_folder(run.folder) / _LOCK, wait=False):
        if run.result is not None:  # meanwhile
            return None
        write_json(run.folder / RUN, {"settings": run.settings.to_dict(), "data": fingerprint(run.settings)})
        stopped = train(run.settings, run.folder, device, resume=True)["stopped"]
        if not stopped:
            _test(run, device)
    return stopped


def finish_all(runs: Sequence[Run], device: torch.device) -> tuple[int | None, list[str]]:
    """Finishes every run that no other process is at, so that the same command can be started once a core or GPU.

    A run that fails, because its loss is no number any more, say, does not keep the others from being done.

    Returns:
        The signal that stopped it, or None; and what went wrong, a line for each run that failed.

    Raises:
        PoseError: No run at all can be trained or tested.
    """
    failed: list[str] = []
    for number, run in enumerate(runs, 1):
        print(f"run {number} of {len(runs)}: {run.name}, seed {run.seed}", flush=True)
        try:
            stopped = finish_run(run, device)
        except (BusyError, HeldError):
            print("  another process is at it: left to it", flush=True)
            continue
        except PoseError as error:
            if len(failed) + 1 == len(runs):
                raise
            failed.append(f"{run.name}, seed {run.seed}: {error}")
            print(f"  failed: {error}", flush=True)
            continue
        if stopped:
            return stopped, failed
        figures = "  ".join(f"{name} {value:.3f}" for name, value in run.found["figures"].items())
        print(f"  {figures}", flush=True)
    return None, failed


def _test(run: Run, device: torch.device) -> None:
    settings, separate = run.settings, run.settings.data.test is not None
    path = run.folder / (BEST if separate else LAST)
    checkpoint = load_checkpoint(path)
    if separate:
        model = settings.build_model()
        load_state(model, checkpoint["model"], path)
        model = model.to(device)
    else:
        trainer = make_trainer(settings, device)
        trainer.load_state_dict(checkpoint, path)
        model = trainer.best_model
    test_set = evaluate.open_test_set(settings, settings.data.tested)
    tested = evaluate.test(model, test_set, settings, device)
    measures = tested.measures
    with replacing(run.folder / CORRECT) as temporary:
        arrays: dict[str, Any] = {measure.name: measure.correct for measure in measures}
        arrays |= {f"{measure.name} image_ids": measure.image_ids for measure in measures}
        np.savez_compressed(temporary, **arrays)
    with replacing(run.folder / MATCHED) as temporary:
        np.savez_compressed(temporary, **vars(image_scores(tested.results, tested.truth, tested.skeleton)))
    write_json(
        run.folder / RESULT,
        {
            "figures": {**tested.figures, **{measure.name: measure.mean for measure in measures}},
            "PCK of keypoints": {measure.name: measure.shares for measure in measures},
            "epoch": checkpoint["epoch"],
            "epochs": settings.train.epochs,
            "hours": sum(run.curves().get("seconds", ())) / 3600,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "checkpoint": path.name,
            "checkpoint_sha256": sha256(path),
            "protocol": evaluate.stamp(settings, test_set, run.name, path).to_dict(),
        },
    )
