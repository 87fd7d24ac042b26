"""Training a classifier: what is its own; the loop is :mod:`pose.engine.loop`'s."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from pose.classification.dataset import ImageDataset, LabeledBatch
from pose.classification.evaluate import FIGURES, accuracy, make_test_loader
from pose.classification.folder import check_classes, list_images
from pose.classification.initial import CLASSES, load_initial
from pose.classification.settings import ClassifierSettings, TrainSettings, make_classifier_settings
from pose.config import stored_settings
from pose.datasets.broken_images import BrokenImages, still_broken
from pose.datasets.images import read_image
from pose.datasets.loading.loader import batches, make_loader
from pose.engine import distributed
from pose.engine.loop import run
from pose.engine.random_state import seed_everything
from pose.engine.schedule import begin_epoch, scaled_rate, trainer_of
from pose.engine.task import Task
from pose.engine.trainer import Trainer
from pose.models.classifier import ImageClassifier
from pose.prediction import to_input


def train(
    settings: ClassifierSettings, work_dir: str | Path, device: torch.device | str, resume: bool = False
) -> dict[str, Any]:
    """Trains a classifier, see :func:`pose.engine.loop.run`; epochs are chosen by top-1.

    Args:
        settings: The run's settings.
        work_dir, resume: As for :func:`pose.engine.loop.run`, which says as well what is returned and raised.
        device: Where to compute.
    """
    return run(partial(_prepare, settings, torch.device(device)), work_dir, resume)


def _prepare(settings: ClassifierSettings, device: torch.device, fresh: bool) -> Task:
    """The network and the data of a run."""
    schedule, data = settings.train, settings.data
    images, held_out = list_images(data.folder("train")), list_images(data.folder("val"))
    check_classes(images.classes, held_out, str(data.folder("train")))
    classes = len(images.classes)
    distributed.say(f"training on {len(images)} images of {classes} classes, validating on {len(held_out)}")
    seed_everything(schedule.seed)
    trainer = make_trainer(settings, device, classes)
    if fresh and schedule.initial_weights:
        start = schedule.initial_weights, schedule.initial_noise, schedule.initial_balanced
        assert isinstance(trainer.model, ImageClassifier)
        for told in load_initial(trainer.model, *start, images.classes):
            distributed.say(told)
    seed_everything(schedule.seed + distributed.shard()[0])
    loader = make_loader(
        ImageDataset(images, settings, train=True),
        schedule.batch_size,
        data.workers,
        train=True,
        seed=schedule.seed,
        shard=distributed.shard(),
        accumulate=schedule.accumulate,
    )
    mixing = Mixing(schedule, classes)

    def again(messages: Sequence[str]) -> list[str]:
        paths = map(images.path, range(len(images)))
        return still_broken(paths, lambda row: read_image(images.path(row)), messages)

    def begin(epoch: int) -> dict[str, float]:
        mixing.alpha = schedule.mixup_at(epoch)
        return begin_epoch(trainer, schedule, epoch)

    return Task(
        settings=settings,
        trainer=trainer,
        loader=loader,
        learn=mixing.learn,
        rate_at=scaled_rate(schedule),
        test=partial(accuracy, loader=make_test_loader(held_out, settings), device=device),
        figures=FIGURES,
        chosen_by="top1",
        shown=FIGURES,
        unit="images",
        batches=batches,
        broken=BrokenImages(data.broken_share, len(images), again),
        begin_epoch=begin,
        stated={CLASSES: list(images.classes)},
        stored_settings=partial(stored_settings, make=make_classifier_settings),
    )


class Mixing:
    """A batch's step: images normalised and, where the schedule says so, mixed in pairs on the device.

    Args:
        schedule: The run's schedule.
        num_classes: The number of classes.

    Attributes:
        alpha: Mixup's alpha from now on.
    """

    def __init__(self, schedule: TrainSettings, num_classes: int) -> None:
        self.alpha = schedule.mixup_at(0)
        self.num_classes = num_classes

    def learn(self, trainer: Trainer, batch: LabeledBatch) -> Tensor:
        """Learns from a batch; the loss before the step, a scalar on the device."""
        images = to_input(batch.crops, trainer.device)
        labels = torch.from_numpy(batch.labels).to(trainer.device, non_blocking=True)
        if self.alpha:
            images, labels = v2.MixUp(alpha=self.alpha, num_classes=self.num_classes)(images, labels)
        return trainer.learn(images, labels)


def make_trainer(settings: ClassifierSettings, device: torch.device, num_classes: int = 1000) -> Trainer:
    """The freshly initialised network, its loss and its optimizer.

    Raises:
        OptionError: A key or value of ``model`` is wrong, or the device does not offer what is asked for.
    """
    loss = partial(_loss, label_smoothing=settings.train.label_smoothing)
    model: nn.Module = settings.build_model(num_classes)
    return trainer_of(settings.train, model, device, loss=loss)


def _loss(logits: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
    """Cross entropy in float32; targets are labels (N,) or, mixed, shares (N, classes)."""
    return F.cross_entropy(logits.float(), targets, label_smoothing=label_smoothing)
