"""Options searched with optuna on the validation split alone: trials that resume, are pruned, and can run side by side.

A trial is a training run in a folder of its own. What a killed trial had learned goes on: its options are tried anew by
a trial that resumes its folder. The test split is taken out of the settings before anything else.
"""

from __future__ import annotations

import csv
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pose.config import Settings, stored_settings
from pose.engine.comparison.runs import CompareError, fingerprint
from pose.engine.progress import TrainingError, changes
from pose.engine.search_ranges import Range
from pose.engine.train import train
from pose.engine.work_dir import METRICS
from pose.files import make_folder
from pose.locks import HeldError, lock_file
from pose.tables import table_lines

if TYPE_CHECKING:
    import optuna

JOURNAL = "study.log"
"""optuna's journal of all trials, which several processes may write."""

SettingsOf = Callable[[dict[str, Any]], Settings]
"""Makes settings of options by dotted key."""

_LOCK, _RESUMES = ".tune.lock", "resumes"


class Search:
    """A search in a folder.

    Args:
        settings: The settings of every trial, but for what is searched; their test split is not read.
        ranges: The options that are searched.
        folder: The folder, which gets ``study.log`` and ``trial_NUMBER``; a search in the same one goes on.
        prune: Stop a trial at a validation where it is worse than most others were there.

    Raises:
        CompareError: The folder holds a search of other settings, data or ranges.
    """

    def __init__(self, settings: Settings, ranges: Sequence[Range], folder: Path, prune: bool = True) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.settings = replace(settings, data=replace(settings.data, test=None))
        self.ranges, self.folder = tuple(ranges), make_folder(folder)
        pruner = optuna.pruners.MedianPruner(n_startup_trials=4) if prune else optuna.pruners.NopPruner()
        with lock_file(folder / _LOCK, wait=True):
            storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
            self.study = optuna.create_study(
                storage=storage, study_name="search", direction="maximize", load_if_exists=True, pruner=pruner
            )
            tried = len(self.study.trials)  # another seed than before, else the first values would come again
            self.study.sampler = optuna.samplers.TPESampler(seed=settings.train.seed + tried)
            self._check()

    def _check(self) -> None:
        """Refuses to go on with another search."""
        now = {
            "settings": self.settings.to_dict(),
            "data": fingerprint(self.settings),
            "ranges": {each.key: vars(each) for each in self.ranges},
        }
        before = self.study.user_attrs.get("search")
        if before is None:
            self.study.set_user_attr("search", now)
            return
        changed = sorted(changes({**before, "settings": stored_settings(before["settings"])}, now))
        changed = [each for each in changed if not each.startswith(("settings.data.workers", "settings.train.native"))]
        if changed:
            raise CompareError(f"{self.folder} holds another search: {', '.join(changed)}; choose another --work-dir")

    def run(self, trials: int, device: torch.device, settings_of: SettingsOf) -> int | None:
        """Trains until there are ``trials`` trials, those of other processes among them.

        Args:
            trials: The number of trials in all.
            device: Where to compute.
            settings_of: Makes settings of options by dotted key.

        Returns:
            The signal that stopped it, or None.

        Raises:
            PoseError: The data or an option cannot be used; a trial that diverges is counted and does not end it.
        """
        while True:
            with ExitStack() as held:
                with lock_file(self.folder / _LOCK, wait=True):
                    trial = self._next(trials, held)
                if trial is None:
                    return None
                stopped = self._train(trial, device, settings_of)
                if stopped:
                    return stopped

    def _next(self, trials: int, held: ExitStack) -> optuna.Trial | None:
        """A trial that this process holds, a killed one's options first; None where there are enough."""
        from optuna.trial import TrialState

        for running in self.study.get_trials(states=(TrialState.RUNNING,)):
            folder = self.trial_folder(running)
            try:
                held.enter_context(lock_file(make_folder(folder) / _LOCK, wait=False))
            except HeldError:
                continue
            self.study.enqueue_trial(running.params, user_attrs={_RESUMES: folder.name})
            self.study.tell(running.number, state=TrialState.FAIL)
            return self.study.ask()
        left = self.study.get_trials(states=(TrialState.WAITING,))  # of a process killed right here
        if not left and len(self.counted()) >= trials:
            return None
        trial = self.study.ask()
        held.enter_context(lock_file(make_folder(self.trial_folder(trial)) / _LOCK, wait=False))
        return trial

    def counted(self) -> list[optuna.trial.FrozenTrial]:
        """The trials, a killed one and those that went on with it as one, the last."""
        last: dict[Path, optuna.trial.FrozenTrial] = {}
        for trial in self.study.get_trials():
            last[self.trial_folder(trial)] = trial
        return list(last.values())

    def trial_folder(self, trial: optuna.Trial | optuna.trial.FrozenTrial) -> Path:
        """Where a trial trains."""
        return self.folder / trial.user_attrs.get(_RESUMES, f"trial_{trial.number}")

    def _train(self, trial: optuna.Trial, device: torch.device, settings_of: SettingsOf) -> int | None:
        """Trains a trial and tells the study; the signal that stopped it, or None."""
        from optuna.trial import TrialState

        options = {each.key: each.suggest(trial) for each in self.ranges}
        words = "  ".join(f"{key} {_text(value)}" for key, value in options.items())
        folder = self.trial_folder(trial)
        print(f"{folder.name}: {words}", flush=True)
        settings = settings_of(options)
        settings = replace(settings, data=replace(settings.data, test=None))
        for epoch, value in _validated(folder / METRICS):
            trial.report(value, epoch)
        pruned = False

        def enough(epoch: int, figures: Mapping[str, float]) -> bool:
            nonlocal pruned
            trial.report(figures["AP"], epoch)
            pruned = epoch < settings.train.epochs and trial.should_prune()
            return pruned

        try:
            found = train(settings, folder, device, resume=True, enough=enough)
        except TrainingError as error:
            self.study.tell(trial, state=TrialState.FAIL)
            print(f"  failed: {error}", flush=True)
            return None
        if found["stopped"]:
            return found["stopped"]
        best = found["best"]
        if pruned:
            self.study.tell(trial, state=TrialState.PRUNED)
        elif best is None:
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            self.study.tell(trial, best["AP"])
        print(f"  {'pruned' if pruned else 'AP'} {best['AP'] if best else float('nan'):.3f}", flush=True)
        return None


def _validated(path: Path) -> Iterator[tuple[int, float]]:
    """Epochs and AP of the validations that a run has had."""
    if path.is_file():
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row.get("AP"):
                    yield int(row["epoch"]), float(row["AP"])


def format_search(search: Search, config: str, given: Sequence[str] = ()) -> str:
    """The trials as Markdown, the best first, and the command that trains with the best one's options.

    Args:
        search: The search.
        config: The configuration's file.
        given: ``KEY=VALUE`` of every trial, which the command needs, too.
    """
    from optuna.trial import TrialState

    def value(trial: optuna.trial.FrozenTrial) -> float:
        known = trial.value if trial.state == TrialState.COMPLETE else None
        return max(trial.intermediate_values.values(), default=-1.0) if known is None else known

    def place(trial: optuna.trial.FrozenTrial) -> tuple[bool, float]:
        return trial.state == TrialState.COMPLETE, value(trial)

    trials = sorted(search.counted(), key=place, reverse=True)
    if not trials:
        return "nothing is tried yet"
    keys = [each.key for each in search.ranges]
    words = {TrialState.COMPLETE: "whole", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    rows = [
        [search.trial_folder(trial).name, words.get(trial.state, "not done"),
         f"{100 * value(trial):.1f}" if value(trial) >= 0 else "n/a",
         str(max(trial.intermediate_values, default="")), *(_text(trial.params.get(key, "")) for key in keys)]
        for trial in trials
    ]  # fmt: skip
    lines = table_lines(["trial", "state", "best AP", "epoch", *keys], rows)
    lines += ["", "AP x 100 on the validation split, by which everything here was chosen: the best one reads high."]
    best = trials[0]
    if best.state == TrialState.COMPLETE:
        options = " ".join([*map(shlex.quote, given), *(f"{key}={_text(best.params[key])}" for key in keys)])
        lines += ["", f"Best: python tools/train.py {config} --cfg-options {options}"]
    return "\n".join(lines)


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
