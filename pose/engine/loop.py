"""A training run: epochs, validation, checkpoints, and what people look at meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from torch import nn

from pose.engine import distributed
from pose.engine.divergence import Diverged, check_finite, diverged
from pose.engine.epoch import CheckpointTimer, train_one_epoch
from pose.engine.progress import Progress, check_work_dir, resume_run, save_best, save_run
from pose.engine.reporting import Eta, Report, attention_summary, line, mean_entropy
from pose.engine.signals import Stopped, StopSignals
from pose.engine.task import RunSchedule, Task
from pose.engine.work_dir import BEST, DATA, METRICS, locked, run_files
from pose.errors import DataError
from pose.files import write_json
from pose.models.dynamic.attention import attentions
from pose.models.dynamic.inspection import watched


def run(prepare: Callable[[bool], Task], work_dir: str | Path, resume: bool = False) -> dict[str, Any]:
    """A training run: epochs, validation, checkpoints, and what people look at meanwhile.

    ``work_dir`` gets ``last.pth`` after every epoch and every so many minutes, ``previous.pth``, which is the one
    before, ``best.pth``, ``metrics.csv``, ``data.json``, which says who of the data was left out and why, and the
    loggers' files. SIGTERM and Ctrl-C save and end the run.

    Args:
        prepare: Makes the network and opens the data; told whether the run starts afresh, so that the network takes
            the weights that it is to start from.
        work_dir: A folder without another run, unless it is resumed.
        resume: Go on after ``last.pth`` where there is one, within an epoch, too; on a CPU with the very weights
            that a run without a stop would have had.

    Returns:
        ``best``: the figures of the best validation, with ``epoch``, or None; ``checkpoint``: where it is;
        ``stopped``: the signal that ended the run, or None.

    Raises:
        PoseError: The data, the folder, the checkpoint to resume or the loss cannot be used.
    """
    work_dir = Path(work_dir)
    with locked(work_dir) if distributed.is_main() else nullcontext(), StopSignals() as signals:
        check_work_dir(work_dir, resume)
        best = None
        try:
            with signals.at_once():  # decoding or listing the pictures may take minutes
                task = prepare(not (resume and run_files(work_dir)))
        except Stopped:
            pass
        else:
            try:
                best = _epochs(task, work_dir, resume, signals)
            except Diverged as error:
                raise diverged(error, work_dir) from error
        return {"best": best, "checkpoint": work_dir / BEST, "stopped": signals.received}


def _write_told(work_dir: Path, task: Task, report: Report | None) -> None:
    if report and task.told:
        write_json(work_dir / DATA, task.told())


def _epochs(task: Task, work_dir: Path, resume: bool, signals: StopSignals) -> dict[str, float] | None:
    """:func:`run` in a folder that is this run's; the best figures."""
    schedule, trainer = task.schedule, task.trainer
    progress = resume_run(work_dir, task) if resume else Progress()
    if distributed.from_main(progress.best is not None and not (work_dir / BEST).is_file()):
        distributed.say(f"warning: {work_dir / BEST} is gone: the best is chosen among the epochs from now on")
        progress.best = None
    report = None
    if distributed.is_main():
        stored = task.settings.to_dict()
        report = Report(work_dir / METRICS, progress.epoch, task.figures, schedule.loggers, stored)
    _write_told(work_dir, task, report)
    eta = Eta(progress.epoch, schedule.epochs)

    def save() -> None:
        check_finite(trainer)
        save_run(work_dir, task, progress)

    timer = CheckpointTimer(signals, schedule.checkpoint_minutes, save)
    while progress.epoch < schedule.epochs and not _is_over(schedule, progress):
        epoch = progress.epoch + 1
        rate = task.rate_at(progress.epoch, len(task.order) - 1, len(task.order))  # that of its last step
        row = {"epoch": epoch, "learning_rate": rate, **task.begin_epoch(progress.epoch)}
        if not train_one_epoch(task, progress, timer, f"epoch {epoch}/{schedule.epochs}"):
            break
        row.update(progress.figures())
        if epoch % schedule.validate_every == 0 or epoch == schedule.epochs:
            save()  # a stop while validating repeats the validation alone
            try:
                with signals.at_once():
                    row.update(_validate(task, trainer.best_model, report, epoch))
            except Stopped:
                break
            better = progress.best is None or row[task.chosen_by] > progress.best[task.chosen_by]
            if better and row[task.chosen_by] >= 0:  # COCO's -1 says that there was nobody to find
                progress.best = {"epoch": epoch, **{name: row[name] for name in task.figures}}
                save_best(work_dir, task, progress.best)
        _write_told(work_dir, task, report)  # of the pictures that were read meanwhile, too
        if report:
            report.add(row)
        progress.next_epoch()
        save()  # last: a kill before it repeats the epoch, and everything that was written is written again
        distributed.say(line(row, schedule.epochs, eta.left(progress.epoch), task.unit, task.shown))
        if task.chosen_by in row and task.enough(epoch, row):
            break
    if progress.epoch < schedule.epochs and _is_over(schedule, progress):
        ended = f"early stop after epoch {progress.epoch} of {schedule.epochs}"
        distributed.say(f"{ended}: no better {task.chosen_by} in {schedule.patience} validations")
    if report:
        if report.uses:
            distributed.say(attention_summary(report.uses, attentions(trainer.best_model)[0].temperature.item()))
        report.close()
    return progress.best


def _is_over(schedule: RunSchedule, progress: Progress) -> bool:
    """Whether the last ``patience`` validations gave no better figure; known again after a stop."""
    if schedule.patience is None or progress.best is None:
        return False
    since = progress.epoch // schedule.validate_every - progress.best["epoch"] // schedule.validate_every
    return since >= schedule.patience


def _validate(task: Task, model: nn.Module, report: Report | None, epoch: int) -> dict[str, float]:
    """The task's figures and the mean entropy of the attention.

    The report gets each dynamic layer's use of its kernels, and now and then a sheet of what the network does.
    """
    distributed.share_buffers(model)  # each process has the statistics of its own batches
    with watched(model) as uses:
        figures = task.test(model)
    used = uses()
    if used:
        figures = {**figures, "attention_entropy": mean_entropy(used)}
    if report:
        report.add_attention(epoch, used)
        if task.sheet and task.sheet_every and epoch % task.sheet_every == 0:
            try:
                report.add_sheet(epoch, task.sheet(model))
            except DataError as error:
                distributed.say(f"warning: no sheet of crops for TensorBoard: {error}")
    return figures
