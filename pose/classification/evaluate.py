"""How often a classifier is right: top-1 and top-5."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from pose.classification.dataset import ImageDataset, LabeledBatch
from pose.classification.folder import LabeledImages
from pose.classification.settings import ClassifierSettings
from pose.datasets.loading.loader import batches, dataset_of, make_loader
from pose.engine import distributed
from pose.errors import DataError
from pose.prediction import to_input

FIGURES = ("top1", "top5")
"""The shares of images whose class has the largest logit, or one of the five largest."""


def make_test_loader(images: LabeledImages, settings: ClassifierSettings) -> DataLoader[LabeledBatch | DataError]:
    """Plain images in order; several processes take batches in turn."""
    dataset = ImageDataset(images, settings, train=False)
    shard = distributed.shard()
    return make_loader(dataset, settings.test.batch_size, settings.data.workers, train=False, shard=shard)


@torch.inference_mode()
def accuracy(
    model: nn.Module, loader: DataLoader[LabeledBatch | DataError], device: torch.device | str
) -> dict[str, float]:
    """:data:`FIGURES` on a data set; of fewer than five classes, top-5 is 1.

    Several processes share the work, and each gets the figures. The network is in evaluation mode meanwhile and left
    in the mode it came in.

    Args:
        model: The network, on the device; it makes logits (N, classes) of (N, 3, H, W) normalized RGB.
        loader: A loader of :func:`make_test_loader`.
        device: Where to compute.

    Raises:
        DataError: An image cannot be used.
    """
    was_training = model.training
    model.eval()
    length = len(dataset_of(loader, ImageDataset))
    right = torch.zeros(2, dtype=torch.float64, device="cpu")
    hidden = None if distributed.is_main() else True
    try:
        with tqdm(total=length, desc="testing", unit="image", disable=hidden, leave=False) as bar:
            for batch in batches(loader):
                logits = model(to_input(batch.crops, device))
                labels = torch.from_numpy(batch.labels).to(logits.device)
                best = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
                right += torch.stack([best[:, 0].sum(), best.sum()]).cpu()
                bar.update(len(batch.rows) * distributed.shard()[1])
    finally:
        model.train(was_training)
    return dict(zip(FIGURES, (distributed.total(right.numpy()) / length).tolist(), strict=True))
