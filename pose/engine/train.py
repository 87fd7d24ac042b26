"""A training run: epochs, validation, checkpoints, and what people look at meanwhile."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pose.config import Settings, TrainSettings
from pose.engine import distributed, evaluate
from pose.engine.epoch import CheckpointTimer, train_one_epoch
from pose.engine.initial import load_initial
from pose.engine.optimizer import OPTIMIZERS
from pose.engine.progress import Progress, check_work_dir, resume_run, save_best, save_run
from pose.engine.random_state import seed_everything
from pose.engine.reporting import Eta, Report, attention_summary, line, mean_entropy
from pose.engine.sheet import prediction_sheet
from pose.engine.signals import Stopped, StopSignals
from pose.engine.trainer import Trainer
from pose.engine.training_data import prepare_data
from pose.engine.work_dir import BEST, METRICS, locked, run_files
from pose.errors import DataError
from pose.evaluation.coco_eval import FIGURES
from pose.models.dynamic.attention import attentions, linear_temperature, set_temperature
from pose.models.dynamic.inspection import watched

TRAINER_OPTIONS = (
    *("weight_decay", "frozen", "precision", "accumulate", "max_gradient_norm", "average_decay", "channels_last"),
    *("compile", "sync_batch_norm", "native", "recompute_kernels"),
)
"""Options of the ``train`` section that are :class:`~pose.engine.trainer.Trainer`'s, under the same names."""


def train(
    settings: Settings,
    work_dir: str | Path,
    device: torch.device | str,
    resume: bool = False,
    check_data: bool = False,
) -> dict[str, Any]:
    """A training run: epochs, validation, checkpoints, and what people look at meanwhile.

    ``work_dir`` gets ``last.pth`` after every epoch and every so many minutes, ``previous.pth``, which is the one
    before, ``best.pth`` (by AP), ``metrics.csv`` and TensorBoard's files. SIGTERM and Ctrl-C save and end the run.

    Args:
        settings: Of the run.
        work_dir: A folder without another run, unless it is resumed.
        device: Where to compute.
        resume: Go on after ``last.pth`` where there is one; on a CPU with the very weights that a run without a
            stop would have had.
        check_data: Decode every picture before training and tell which are broken.

    Returns:
        ``best``: the figures of the best validation, with ``epoch``, or None; ``checkpoint``: where it is;
        ``stopped``: the signal that ended the run, or None.

    Raises:
        PoseError: The data, the folder, the checkpoint to resume or the loss cannot be used.
    """
    work_dir = Path(work_dir)
    with locked(work_dir) if distributed.is_main() else nullcontext(), StopSignals() as signals:
        check_work_dir(work_dir, resume)
        try:
            return _train(settings, work_dir, torch.device(device), resume, check_data, signals)
        except Stopped:  # before the first step
            return {"best": None, "checkpoint": work_dir / BEST, "stopped": signals.received}


def _train(
    settings: Settings, work_dir: Path, device: torch.device, resume: bool, check_data: bool, signals: StopSignals
) -> dict[str, Any]:
    """:func:`train` in a folder that is this run's."""
    schedule = settings.train
    seed_everything(schedule.seed)
    trainer = make_trainer(settings, device)
    if schedule.initial_weights and not (resume and run_files(work_dir)):
        start = schedule.initial_weights, schedule.initial_noise, schedule.initial_balanced
        for told in load_initial(trainer.model, *start, skeleton=settings.skeleton()):
            distributed.say(told)
    seed_everything(schedule.seed + distributed.shard()[0])
    with signals.at_once():  # a crop cache may take minutes
        train_loader, test_set, broken = prepare_data(settings, check_data)
    rate_factor = _scaled_rate(schedule)
    progress = resume_run(work_dir, settings, trainer, train_loader.batch_sampler) if resume else Progress()
    report = Report(work_dir / METRICS, progress.epoch) if distributed.is_main() else None
    eta = Eta(progress.epoch, schedule.epochs)

    def save() -> None:
        save_run(work_dir, settings, trainer, progress, train_loader.batch_sampler)

    timer = CheckpointTimer(signals, schedule.checkpoint_minutes, save)
    while progress.epoch < schedule.epochs:
        epoch = progress.epoch + 1
        rate_at = partial(_rate_at, schedule, rate_factor, progress.epoch, len(train_loader.batch_sampler))
        row = {"epoch": epoch, "learning_rate": rate_at(0), **_begin_epoch(trainer, schedule, progress.epoch)}
        title = f"epoch {epoch}/{schedule.epochs}"
        if not train_one_epoch(trainer, train_loader, progress, timer, broken, title, rate_at):
            break
        row.update(progress.figures())
        if epoch % schedule.validate_every == 0 or epoch == schedule.epochs:
            save()  # a stop while validating repeats the validation alone
            try:
                with signals.at_once():
                    row.update(_validate(trainer.best_model, test_set, settings, device, report, epoch))
            except Stopped:
                break
            if row["AP"] >= 0 and (progress.best is None or row["AP"] > progress.best["AP"]):
                progress.best = {"epoch": epoch, **{name: row[name] for name in FIGURES}}
                save_best(work_dir, settings, trainer, progress)
        if report:
            report.add(row)
        progress.next_epoch()
        save()  # last: a kill before it repeats the epoch, and everything that was written is written again
        distributed.say(line(row, schedule.epochs, eta.left(progress.epoch)))
    if report:
        if report.uses:
            distributed.say(attention_summary(report.uses, attentions(trainer.best_model)[0].temperature.item()))
        report.close()
    return {"best": progress.best, "checkpoint": work_dir / BEST, "stopped": signals.received}


def _rate_at(schedule: TrainSettings, factor: float, epoch: int, batches: int, batch: int) -> float:
    """The learning rate of a batch of an epoch, both counted from 0."""
    return schedule.learning_rate_at(epoch, batch, batches) * factor


def _begin_epoch(trainer: Trainer, schedule: TrainSettings, epoch: int) -> dict[str, float]:
    """Sets what the schedule says for an epoch, counted from 0; what the report says of it."""
    if schedule.freeze_epochs is not None and epoch >= schedule.freeze_epochs:
        trainer.release_frozen()
    if schedule.temperature_start is not None:
        temperature = linear_temperature(
            epoch, schedule.temperature_start, schedule.temperature_end, schedule.temperature_epochs
        )
        set_temperature(trainer.model, temperature)
    softmaxes = [attention for attention in attentions(trainer.model) if attention.activation == "softmax"]
    return {"temperature": softmaxes[0].temperature.item()} if softmaxes else {}


def _validate(
    model: nn.Module,
    test_set: evaluate.TestSet,
    settings: Settings,
    device: torch.device,
    report: Report | None,
    epoch: int,
) -> dict[str, float]:
    """COCO's figures and the mean entropy of the attention.

    The report gets each dynamic layer's use of its kernels, and now and then a sheet of crops.
    """
    distributed.share_buffers(model)  # each process has the statistics of its own batches
    with watched(model) as uses:
        figures = evaluate.test(model, test_set, settings, device).figures
    used = uses()
    if used:
        figures = {**figures, "attention_entropy": mean_entropy(used)}
    if report:
        report.add_attention(epoch, used)
        if settings.train.sheet_every and epoch % settings.train.sheet_every == 0:
            try:
                report.add_sheet(epoch, prediction_sheet(model, settings, device))
            except DataError as error:
                distributed.say(f"warning: no sheet of crops for TensorBoard: {error}")
    return figures


def make_trainer(settings: Settings, device: torch.device) -> Trainer:
    """The freshly initialised network and its optimizer, as the ``train`` section says.

    Raises:
        OptionError: A key or value of ``model`` is wrong, or the device does not offer what is asked for.
    """
    schedule = settings.train
    return Trainer(
        settings.build_model(),
        device,
        optimizer=OPTIMIZERS[schedule.optimizer],
        **{name: getattr(schedule, name) for name in TRAINER_OPTIONS},
    )


def _scaled_rate(schedule: TrainSettings) -> float:
    """What the learning rate is multiplied by; says what a step is made of."""
    processes = distributed.shard()[1]
    effective = schedule.batch_size * processes * schedule.accumulate
    factor = effective / schedule.base_batch_size if schedule.base_batch_size else 1.0
    rule = f"scaled from a batch of {schedule.base_batch_size}" if schedule.base_batch_size else "not scaled"
    distributed.say(
        f"effective batch {effective} = {schedule.batch_size} x {processes} processes x {schedule.accumulate} "
        f"accumulated; learning rate {schedule.learning_rate * factor:g} ({rule})"
    )
    seeds = ", ".join(str(schedule.seed + rank) for rank in range(processes))
    distributed.say(f"seed of initialisation, order and augmentation {schedule.seed}; of each process {seeds}")
    return factor
