"""Training a pose network: what is its own; the loop is :mod:`pose.engine.loop`'s."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pose import heatmap
from pose.checkpoint import KEYPOINTS
from pose.config import Settings, stored_settings
from pose.datasets.crops import Batch
from pose.datasets.loading.loader import batches
from pose.engine import distributed, evaluate
from pose.engine.initial import load_initial
from pose.engine.loop import run
from pose.engine.random_state import seed_everything
from pose.engine.schedule import begin_epoch, scaled_rate, trainer_of
from pose.engine.sheet import prediction_sheet
from pose.engine.task import Task
from pose.engine.trainer import Trainer
from pose.engine.training_data import prepare_data
from pose.evaluation.coco_eval import FIGURES
from pose.models.pose_net import HEATMAP_STRIDE, PoseNet
from pose.prediction import to_input


def train(
    settings: Settings,
    work_dir: str | Path,
    device: torch.device | str,
    resume: bool = False,
    check_data: bool = False,
    enough: Callable[[int, Mapping[str, float]], bool] | None = None,
) -> dict[str, Any]:
    """Trains a pose network, see :func:`pose.engine.loop.run`; epochs are chosen by AP.

    Args:
        settings: The run's settings.
        work_dir, resume: As for :func:`pose.engine.loop.run`, which says as well what is returned and raised.
        device: Where to compute.
        check_data: Decode every picture before training and tell which are broken.
        enough: Takes the epoch, from 1, and the figures of each validation; True ends the run there.
    """
    device = torch.device(device)
    return run(partial(_prepare, settings, device, check_data, enough), work_dir, resume)


def _prepare(
    settings: Settings,
    device: torch.device,
    check_data: bool,
    enough: Callable[[int, Mapping[str, float]], bool] | None,
    fresh: bool,
) -> Task:
    """The network and the data of a run."""
    schedule = settings.train
    seed_everything(schedule.seed)
    trainer = make_trainer(settings, device)
    if fresh and schedule.initial_weights:
        start = schedule.initial_weights, schedule.initial_noise, schedule.initial_balanced
        assert isinstance(trainer.model, PoseNet)
        for told in load_initial(trainer.model, *start, skeleton=settings.skeleton()):
            distributed.say(told)
    seed_everything(schedule.seed + distributed.shard()[0])
    data = prepare_data(settings, check_data)

    def test(model: nn.Module) -> dict[str, float]:
        return evaluate.test(model, data.test_set, settings, device).figures

    return Task(
        settings=settings,
        trainer=trainer,
        loader=data.train_loader,
        learn=learn,
        rate_at=scaled_rate(schedule),
        test=test,
        figures=FIGURES,
        chosen_by="AP",
        shown=("AP",),
        unit="persons",
        batches=batches,
        broken=data.broken,
        begin_epoch=partial(begin_epoch, trainer, schedule),
        sheet=partial(prediction_sheet, settings=settings, device=device),
        sheet_every=schedule.sheet_every,
        told=data.told_so_far,
        stated={KEYPOINTS: list(settings.skeleton().keypoints)},
        stored_settings=stored_settings,
        **({} if enough is None else {"enough": enough}),
    )


def learn(trainer: Trainer, batch: Batch) -> Tensor:
    """Learns from a batch: pictures are normalised and targets drawn on the device; the loss, a scalar there."""
    images = to_input(batch.crops, trainer.device)
    keypoints = torch.from_numpy(batch.keypoints).to(trainer.device, non_blocking=True)
    weights = torch.from_numpy(batch.weights).to(trainer.device, non_blocking=True)
    heatmap_size = (images.shape[3] // HEATMAP_STRIDE, images.shape[2] // HEATMAP_STRIDE)
    return trainer.learn(images, *heatmap.encode(keypoints, weights, heatmap_size, HEATMAP_STRIDE))


def make_trainer(settings: Settings, device: torch.device) -> Trainer:
    """The freshly initialised network and its optimizer, as the ``train`` section says.

    Raises:
        OptionError: A key or value of ``model`` is wrong, or the device does not offer what is asked for.
    """
    return trainer_of(settings.train, settings.build_model(), device)
