"""A folder of ImageNet's size: listed in seconds, and held once however many workers there are."""

import os
import time

import numpy as np
import pytest

from pose.classification import dataset as module
from pose.classification.dataset import ImageDataset
from pose.classification.folder import list_images
from pose.classification.settings import make_classifier_settings
from pose.datasets.loading.loader import batches, make_loader

IMAGES, CLASSES, WORKERS = int(os.environ.get("POSE_TEST_IMAGES", 1_281_167)), 1000, 8


def shared_out(pid):
    """MiB of a process, pages that several share divided among them."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:")) / 1024


@pytest.mark.slow
def test_imagenet_is_listed_in_seconds_and_costs_little_with_eight_workers(tmp_path, monkeypatch):
    for label in range(CLASSES):
        folder = tmp_path / f"n{label:08}"
        folder.mkdir()
        for number in range(len(range(label, IMAGES, CLASSES))):
            os.mknod(folder / f"n{label:08}_{number}.JPEG")
    before = shared_out("self")
    started = time.process_time()
    images = list_images(tmp_path)
    seconds = time.process_time() - started
    assert len(images) == IMAGES
    assert seconds < 60
    monkeypatch.setattr(module, "read_image", lambda path: np.zeros((40, 40, 3), np.uint8))
    data = dict(input_size=32, resize=32)
    settings = make_classifier_settings(dict(model=dict(backbone=dict(type="resnet")), data=data))
    loader = make_loader(ImageDataset(images, settings, train=True), 32, WORKERS, train=True)
    waiting = batches(loader)
    seen = np.concatenate([next(waiting).rows for _ in range(50)])
    assert len(np.unique(seen)) == 50 * 32
    workers = [worker.pid for worker in loader._iterator._workers]
    memory = shared_out("self") + sum(map(shared_out, workers)) - before
    print(f"{IMAGES} images listed in {seconds:.1f} s of processor time, {memory:.0f} MiB with {WORKERS} workers")
    assert memory < 500
