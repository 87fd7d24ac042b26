"""Training a detector: the engine's steps, checkpoints and signals, with canvases in place of crops."""

from __future__ import annotations

import contextlib
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from pose.checkpoint import load_weights
from pose.detection.data import TrainingData, open_training_data
from pose.detection.dataset import CanvasBatch, CanvasDataset, canvas_loader
from pose.detection.detector import PersonDetector
from pose.detection.initial import load_backbone
from pose.detection.network import STRIDE
from pose.detection.repeated import RepeatedCanvases
from pose.detection.results import detect_arrays
from pose.detection.score import evaluate_boxes
from pose.detection.settings import DetectorSettings
from pose.detection.targets import encode, loss
from pose.engine.epoch import CheckpointTimer
from pose.engine.progress import Progress, TrainingError, check_work_dir, resume_run, save_best, save_run
from pose.engine.random_state import seed_everything
from pose.engine.signals import Stopped, StopSignals
from pose.engine.trainer import Trainer
from pose.engine.work_dir import BEST, locked, run_files
from pose.models.deploy.folding import deploy
from pose.prediction import to_input


def train(
    settings: DetectorSettings, work_dir: str | Path, device: torch.device | str, resume: bool = False
) -> dict[str, Any]:
    """Trains a detector; the folder gets ``last.pth``, ``previous.pth`` and ``best.pth`` (by AP50 on the held out).

    Args:
        settings: Of the run.
        work_dir: A folder without another run, unless it is resumed.
        device: Where to compute.
        resume: Go on after ``last.pth`` where there is one, within an epoch, too; on a CPU with the very weights
            that a run without a stop would have had.

    Returns:
        ``best``: figures of the best validation with ``epoch``, or None; ``checkpoint``: where it is; ``stopped``: the
        signal that ended the run, or None.

    Raises:
        PoseError: The data, the folder, the checkpoint to resume or the loss cannot be used.
    """
    work_dir = Path(work_dir)
    with locked(work_dir), StopSignals() as signals:
        check_work_dir(work_dir, resume)
        best = None
        with contextlib.suppress(Stopped):  # before the first step
            best = _train(settings, work_dir, torch.device(device), resume, signals)
        return {"best": best, "checkpoint": work_dir / BEST, "stopped": signals.received}


def make_trainer(settings: DetectorSettings, device: torch.device | str, fresh: bool = True) -> Trainer:
    """A network of the settings, its loss and its optimizer.

    Args:
        settings: Of the run.
        device: Where to compute.
        fresh: Load what the settings start from.
    """
    schedule = settings.train
    seed_everything(schedule.seed)
    network = settings.build_model()
    if fresh and schedule.initial_weights:
        load_weights(network, schedule.initial_weights)
    elif fresh and schedule.initial_backbone:
        load_backbone(network, schedule.initial_backbone)
    return Trainer(
        network,
        torch.device(device),
        loss=loss,
        precision=schedule.precision,
        max_gradient_norm=schedule.max_gradient_norm,
        average_decay=schedule.average_decay,
        channels_last=torch.device(device).type == "cpu",
        native=schedule.native,
    )


def _train(
    settings: DetectorSettings, work_dir: Path, device: torch.device, resume: bool, signals: StopSignals
) -> dict[str, float] | None:
    """:func:`train` in a folder that is this run's; the best figures."""
    schedule = settings.train
    trainer = make_trainer(settings, device, fresh=not (resume and run_files(work_dir)))
    with signals.at_once():  # decoding the pictures may take minutes
        data = open_training_data(settings.data)
    if data.broken:
        tqdm.write(f"warning: {len(data.broken)} pictures cannot be used, the first: {data.broken[0]}")
    dataset = CanvasDataset(
        data.pictures,
        data.cache,
        data.train_rows,
        schedule.canvases,
        tuple(schedule.canvas_size),
        settings.canvas,
        schedule.seed,
    )
    if schedule.repeats > 1:
        dataset = RepeatedCanvases(dataset, schedule.repeats, trainer.model)
    loader = canvas_loader(dataset, schedule.batch_size, settings.data.workers)
    progress = resume_run(work_dir, settings, trainer, loader.batch_sampler) if resume else Progress()

    def save() -> None:
        save_run(work_dir, settings, trainer, progress, loader.batch_sampler)

    timer = CheckpointTimer(signals, schedule.checkpoint_minutes, save)
    while progress.epoch < schedule.epochs:
        epoch = progress.epoch + 1
        if not _one_epoch(trainer, loader, progress, timer, settings, f"epoch {epoch}/{schedule.epochs}"):
            break
        figures = progress.figures()
        words = f"epoch {epoch}/{schedule.epochs}: loss {figures['loss']:.4f}"
        words += f", {figures['samples_per_second']:.1f} canvases/s"
        if epoch % schedule.validate_every == 0 or epoch == schedule.epochs:
            save()  # a stop while validating repeats the validation alone
            try:
                with signals.at_once():
                    found = validate(trainer.best_model, data, settings, device)
            except Stopped:
                break
            words += ", held out: " + ", ".join(f"{name} {found[name]:.3f}" for name in ("AP", "AP50", "recall"))
            if progress.best is None or found["AP50"] > progress.best["AP50"]:
                progress.best = {"epoch": epoch, **found}
                save_best(work_dir, settings, trainer, progress)
        progress.next_epoch()
        save()
        tqdm.write(words)
    return progress.best


def _one_epoch(
    trainer: Trainer,
    loader: DataLoader[CanvasBatch],
    progress: Progress,
    timer: CheckpointTimer,
    settings: DetectorSettings,
    title: str,
) -> bool:
    """One pass over an epoch's canvases, or the rest of one; whether to go on.

    Raises:
        TrainingError: The loss is not finite.
    """
    order, schedule = loader.batch_sampler, settings.train
    order.epoch, order.first_batch = progress.epoch, progress.batches
    trainer.model.train()
    with tqdm(total=len(order), initial=progress.batches, desc=title, unit="batch", leave=False, disable=None) as bar:
        started = ready = time.perf_counter()
        for batch in loader:
            progress.waited += time.perf_counter() - ready
            step = progress.epoch * len(order) + progress.batches
            trainer.set_learning_rate(schedule.learning_rate_at(step, schedule.epochs * len(order)))
            value = float(learn(trainer, batch))
            if not math.isfinite(value):
                raise TrainingError(
                    f"the loss became {value} at batch {progress.batches + 1} of epoch {progress.epoch + 1}; the last "
                    "checkpoint is kept: lower train.learning_rate"
                )
            progress.batches += 1
            progress.persons += len(batch.images)
            progress.loss += value * len(batch.images)
            now = time.perf_counter()
            progress.seconds += now - started
            started = now
            bar.update()
            bar.set_postfix(loss=f"{progress.loss / progress.persons:.4f}", refresh=False)
            if timer.grant(*timer.wishes()):
                return False
            ready = time.perf_counter()
    return True


def learn(trainer: Trainer, batch: CanvasBatch) -> Tensor:
    """Learns from a batch: pictures are normalised and targets drawn on the device; the loss, a scalar there."""
    if batch.images.dtype == torch.uint8:
        images = to_input(batch.images, trainer.device)
        size = (images.shape[2] // STRIDE, images.shape[3] // STRIDE)
    else:
        images, size = batch.images.to(trainer.device, non_blocking=True), tuple(batch.images.shape[2:])
    boxes, kinds = (tensor.to(trainer.device, non_blocking=True) for tensor in batch[1:])
    return trainer.learn(images, *encode(boxes, kinds, size, STRIDE))


def validate(
    network: torch.nn.Module, data: TrainingData, settings: DetectorSettings, device: torch.device
) -> dict[str, float]:
    """Figures on the pictures held out, see :func:`pose.detection.score.evaluate_boxes`."""
    network = deploy(network) if device.type == "cpu" else network.eval()
    detector = PersonDetector(network, settings.test.for_figures(), device)
    rows = data.held_out_rows
    results = detect_arrays(detector, (data.cache[row][0] for row in rows), rows.tolist())
    return evaluate_boxes(data.truth(rows), results)
