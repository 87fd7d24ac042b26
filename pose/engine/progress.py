"""How far a run has come, and its checkpoints: everything that going on exactly needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pose.checkpoint import load_newest, save_checkpoint
from pose.datasets.loading.order import EpochBatches
from pose.engine import distributed
from pose.engine.random_state import random_state, restore_random_state
from pose.engine.task import Task
from pose.engine.work_dir import BEST, LAST, PREVIOUS, run_files
from pose.errors import CheckpointError, PoseError

_BROKEN = "broken"
"""A checkpoint's messages of pictures that could not be used so far; older ones have none."""


class TrainingError(PoseError):
    """Training cannot go on."""


def check_work_dir(work_dir: Path, resume: bool) -> None:
    """Refuses a folder whose run would be replaced, or cannot be resumed.

    Raises:
        TrainingError: It holds a run and ``resume`` is False, or a run's files without a checkpoint to resume.
    """
    there = run_files(work_dir)
    if there and not resume:
        raise TrainingError(f"{work_dir}: holds a training run; go on with --resume or choose another --work-dir")
    if there and LAST not in there and PREVIOUS not in there:
        raise TrainingError(f"{work_dir}: holds {there[0]} but no {LAST} to resume; choose another --work-dir")


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        epoch: Epochs that are done and reported.
        batches: Batches of the next one that are done, by each process.
        persons, loss, seconds, waited: Sums over those batches: the persons, canvases or pictures that they held and
            their losses over all processes, the time, and the part of it that was spent waiting for data.
        best: Figures of the best validation, with ``epoch``.
    """

    epoch: int = 0
    batches: int = 0
    persons: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    waited: float = 0.0
    best: dict[str, float] | None = None

    def figures(self) -> dict[str, float]:
        """What the epoch measured."""
        return {
            "loss": self.loss / self.persons,
            "seconds": self.seconds,
            "samples_per_second": self.persons / self.seconds,
            "data_wait": self.waited / self.seconds,
        }

    def next_epoch(self) -> None:
        """Counts the epoch."""
        self.epoch += 1
        self.batches = self.persons = 0
        self.loss = self.seconds = self.waited = 0.0


def save_run(work_dir: Path, task: Task, progress: Progress) -> None:
    """Writes ``last.pth`` and keeps the one before; every process calls it.

    Raises:
        OutputError: It cannot be written.
    """
    random = distributed.gathered(random_state())
    if distributed.is_main():
        contents = {
            **task.trainer.state_dict(),
            **asdict(progress),
            "random": random,
            "order": _order(task.order),
            _BROKEN: list(task.broken.found) if task.broken else [],
            "settings": task.settings.to_dict(),
            **task.stated,
        }
        save_checkpoint(work_dir / LAST, contents, work_dir / PREVIOUS)


def save_best(work_dir: Path, task: Task, best: Mapping[str, float]) -> None:
    """Writes ``best.pth``: the weights that were validated, without what only training needs.

    Raises:
        OutputError: It cannot be written.
    """
    if distributed.is_main():
        contents = {
            "model": task.trainer.best_model.state_dict(),
            "epoch": best["epoch"],
            "best": best,
            "settings": task.settings.to_dict(),
            **task.stated,
        }
        save_checkpoint(work_dir / BEST, contents)


def resume_run(work_dir: Path, task: Task) -> Progress:
    """Takes back what :func:`save_run` wrote, the one before where the last is damaged; starts fresh without any.

    Raises:
        CheckpointError: None is whole, or it is of another network.
        TrainingError: It was made with another seed, for outputs of other names, or was stopped within an epoch of
            another order of data.
        DataError: More pictures cannot be used than are to be skipped, those of before the stop among them.
    """
    paths = [work_dir / LAST, work_dir / PREVIOUS]
    found = None
    if distributed.is_main() and any(path.exists() for path in paths):
        found = load_newest(paths)
    found = distributed.from_main(found)
    if found is None:
        distributed.say(f"nothing to resume in {work_dir}: starting fresh")
        return Progress()
    checkpoint, path, errors = found
    task.trainer.load_state_dict(checkpoint, path)
    try:
        progress, broken = _stored_progress(checkpoint, task.chosen_by), _stored_broken(checkpoint)
        before = task.stored_settings(checkpoint["settings"])
        seed, random = before["train"]["seed"], checkpoint["random"]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: does not say how far its run was ({error!r}); start anew from its weights with "
            "train.initial_weights"
        ) from error
    for name, wanted in task.stated.items():
        if name in checkpoint and checkpoint[name] != wanted:
            raise TrainingError(
                f"{path}: its network was trained for other {name}, or for these in another order "
                f"({_first_difference(checkpoint[name], wanted)}); start anew with train.initial_weights"
            )
    if seed != task.schedule.seed:
        raise TrainingError(f"{path}: was trained with seed {seed}; resume with it")
    if progress.batches and checkpoint.get("order") != _order(task.order):
        raise TrainingError(
            f"{path}: was saved within an epoch, with {_words(checkpoint.get('order') or {})}; resume with the same, "
            f"not with {_words(_order(task.order))}"
        )
    rank, processes = distributed.shard()
    if len(random) == processes:
        restore_random_state(random[rank])
    for problem in errors:
        distributed.say(f"warning: {problem}; taking the one before, {path}")
    within = f" and {progress.batches} batches" if progress.batches else ""
    distributed.say(f"resumed {path} after epoch {progress.epoch}{within}")
    now = task.settings.to_dict()
    changed = sorted(changes(before, now))
    if changed:
        distributed.say(f"resumed with other settings: {', '.join(changed)}")
    if task.broken and not any(changes(_training_files(before), _training_files(now))):
        task.broken.resume(broken, distributed.say)  # other files would be counted under other names
    return progress


def _training_files(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a run's settings that says which pictures it is trained on."""
    data = settings.get("data", {})
    return {name: data.get(name) for name in ("root", "train")}


def _first_difference(before: Any, now: Any) -> str:
    """The first difference of two lists of names; anything else comes back as it is."""
    if isinstance(before, list | tuple) and isinstance(now, list | tuple):
        for old, new in zip(before, now, strict=False):
            if old != new:
                return f"{old!r} is now {new!r}"
        return f"{len(before)} are now {len(now)}"
    return f"{before!r} is now {now!r}"


def _stored_progress(checkpoint: Mapping[str, Any], chosen_by: str) -> Progress:
    """How far a checkpoint's run was; ``chosen_by`` is the figure that its best epoch has.

    Raises:
        KeyError, ValueError: A value is missing or none that a run could have written.
    """
    values = {item.name: checkpoint[item.name] for item in fields(Progress)}
    for name, value in values.items():
        kind = int if name in ("epoch", "batches", "persons") else float | int
        if name == "best":
            right = value is None or (isinstance(value, Mapping) and chosen_by in value and "epoch" in value)
        else:
            right = isinstance(value, kind) and not isinstance(value, bool) and value >= 0
        if not right:
            raise ValueError(f"{name} is {value!r}")
    return Progress(**values)


def _stored_broken(checkpoint: Mapping[str, Any]) -> list[str]:
    """What a checkpoint's run had found broken; ValueError where it is no list of messages."""
    broken = checkpoint.get(_BROKEN, [])
    if not isinstance(broken, list) or not all(isinstance(message, str) for message in broken):
        raise ValueError(f"{_BROKEN} is {broken!r}")
    return broken


def _order(order: EpochBatches) -> dict[str, Any]:
    """What the order of data within an epoch depends on, apart from the seed."""
    return {
        "persons": order.length,
        "batch_size": order.batch_size,
        "processes": order.shard[1],
        "accumulate": order.accumulate,
        **({"draws": [list(group) for group in order.draws]} if any(times != 1 for _, times in order.draws) else {}),
    }


def _words(order: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in order.items())


def changes(before: Mapping[str, Any], now: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """Yields 'name old -> new' for every value of two settings that differs; a list is a tuple."""
    for name in before.keys() | now.keys():
        old: Any = before.get(name)
        new: Any = now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from changes(old, new, f"{where}{name}.")
        elif _are_sections(old) and _are_sections(new) and len(old) == len(new):
            for place, (one, other) in enumerate(zip(old, new, strict=True)):
                yield from changes(one, other, f"{where}{name}.{place}." if len(old) > 1 else f"{where}{name}.")
        elif _lists(old) != _lists(new):
            yield f"{where}{name} {old!r} -> {new!r}"


def _are_sections(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _lists(value: Any) -> Any:
    """A value with lists in place of tuples at every depth."""
    return [_lists(item) for item in value] if isinstance(value, (list, tuple)) else value
