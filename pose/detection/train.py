"""Training a detector: what is its own, canvases in place of crops; the loop is :mod:`pose.engine.loop`'s."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from pose.checkpoint import load_checkpoint, load_state, trained_state
from pose.config import stored_settings
from pose.datasets.loading.loader import plain_batches
from pose.datasets.orientation import ImageNotices
from pose.detection.data import TrainingData, open_training_data
from pose.detection.dataset import CanvasBatch, CanvasDataset, Canvases, canvas_loader
from pose.detection.detector import PersonDetector
from pose.detection.initial import load_backbone
from pose.detection.letterbox import STRIDE
from pose.detection.network import DetectionNet
from pose.detection.repeated import RepeatedCanvases
from pose.detection.results import detect_arrays
from pose.detection.score import FIGURES, RECALLS, evaluate_boxes
from pose.detection.settings import DetectorSettings, stored_detector_settings
from pose.detection.targets import encode, loss
from pose.engine.loop import run
from pose.engine.random_state import seed_everything
from pose.engine.schedule import begin_epoch, scaled_rate, trainer_of
from pose.engine.task import Task
from pose.engine.trainer import Trainer
from pose.models.deploy.folding import deploy
from pose.options import OptionError
from pose.prediction import to_input


def train(
    settings: DetectorSettings, work_dir: str | Path, device: torch.device | str, resume: bool = False
) -> dict[str, Any]:
    """Trains a detector, see :func:`pose.engine.loop.run`; epochs are chosen by AP50 on the pictures held out.

    Args:
        settings: The run's settings.
        work_dir, resume: As for :func:`pose.engine.loop.run`, which says as well what is returned and raised.
        device: Where to compute.
    """
    return run(partial(_prepare, settings, torch.device(device)), work_dir, resume)


def make_trainer(settings: DetectorSettings, device: torch.device | str, fresh: bool = True) -> Trainer:
    """A network of the settings, its loss and its optimizer.

    Args:
        settings: The run's settings.
        device: Where to compute.
        fresh: Load what the settings start from.

    Raises:
        OptionError: A value of ``model`` cannot be, or frozen stages of a fresh network have nothing to start from.
    """
    schedule = settings.train
    seed_everything(schedule.seed)
    network = settings.build_model()
    if fresh and schedule.initial_weights:
        load_state(network, trained_state(load_checkpoint(schedule.initial_weights)), schedule.initial_weights)
    elif fresh and schedule.initial_backbone:
        load_backbone(network, schedule.initial_backbone)
    elif fresh and network.frozen:
        raise OptionError(
            f"model.frozen: {network.frozen} stages would keep weights of chance; give train.initial_backbone or "
            "train.initial_weights, or model.frozen=0"
        )
    schedule = replace(schedule, frozen=(*schedule.frozen, *network.frozen_parts))
    return trainer_of(schedule, network, torch.device(device), loss=loss)


def _prepare(settings: DetectorSettings, device: torch.device, fresh: bool) -> Task:
    """The network and the data of a run."""
    schedule = settings.train
    trainer = make_trainer(settings, device, fresh)
    data = open_training_data(settings.data)
    for line in data.images.told:
        tqdm.write(f"training set {line}")
    if data.broken:
        tqdm.write(f"warning: {len(data.broken)} pictures cannot be used, the first: {data.broken[0]}")
    notices = ImageNotices()
    notices.add(data.cache.notices, tqdm.write)
    notices.tell_counts(tqdm.write)
    drawn = CanvasDataset(
        data.images,
        data.cache,
        data.train_rows,
        schedule.canvases,
        schedule.canvas_size,
        settings.canvas,
        schedule.seed,
    )
    dataset: Canvases = drawn
    if schedule.repeats > 1:
        assert isinstance(trainer.model, DetectionNet)
        dataset = RepeatedCanvases(drawn, schedule.repeats, trainer.model)

    return Task(
        settings=settings,
        trainer=trainer,
        loader=canvas_loader(dataset, schedule.batch_size, settings.data.workers, schedule.accumulate),
        learn=learn,
        batches=plain_batches,
        rate_at=scaled_rate(schedule),
        test=partial(validate, data=data, settings=settings, device=device),
        figures=(*FIGURES, *RECALLS),
        chosen_by="AP50",
        shown=("AP", "AP50", "recall"),
        unit="canvases",
        begin_epoch=partial(begin_epoch, trainer, schedule),
        stored_settings=partial(stored_settings, make=stored_detector_settings),
    )


def learn(trainer: Trainer, batch: CanvasBatch) -> Tensor:
    """Learns from a batch: pictures are normalised and targets drawn on the device; the loss, a scalar there."""
    if batch.images.dtype == torch.uint8:
        images = to_input(batch.images, trainer.device)
        size = (images.shape[2] // STRIDE, images.shape[3] // STRIDE)
    else:
        images = batch.images.to(trainer.device, non_blocking=True)
        size = (images.shape[2], images.shape[3])
    boxes, kinds = (tensor.to(trainer.device, non_blocking=True) for tensor in batch[1:])
    return trainer.learn(images, *encode(boxes, kinds, size, STRIDE))


def validate(
    network: nn.Module, data: TrainingData, settings: DetectorSettings, device: torch.device
) -> dict[str, float]:
    """Figures on the pictures held out, see :func:`pose.detection.score.evaluate_boxes`."""
    network = deploy(network) if device.type == "cpu" else network.eval()
    detector = PersonDetector(network, settings.test.for_figures(), device)
    rows = data.held_out_rows
    results = detect_arrays(detector, ((row, data.cache[row][0]) for row in rows.tolist()))
    return evaluate_boxes(data.truth(rows), results)
