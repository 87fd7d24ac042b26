"""A data set of a few dotted pictures in COCO's layout and the settings of a small network: training in seconds."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from pose.config import Settings, make_settings
from pose.models.dynamic.dynamic_conv import DynamicConv2d
from pose.models.pose_net import BACKBONES, HEADS

WIDTH, HEIGHT = 96, 72
INPUT_SIZE = (32, 64)
TOOL_MODEL = dict(
    backbone=dict(type="mobilenet_v2", width=0.1, conv=dict(type="dynamic")), head=dict(type="bottleneck")
)
"""For configuration files, which another process reads."""


class TinyBackbone(nn.Module):
    """Three convolutions, one of them dynamic, batch statistics, and random numbers in training."""

    out_channels = 16
    out_stride = 32

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 8, 8)
        self.norm = nn.BatchNorm2d(8)
        self.dynamic = DynamicConv2d(8, 16, 3, 2, 1)
        self.last = nn.Conv2d(16, 16, 2, 2)
        self.drop = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 16, H / 32, W / 32)."""
        return self.drop(self.last(self.dynamic(self.norm(self.stem(x)).relu()).relu()).relu())


class TinyHead(nn.Module):
    """One convolution to all heatmap pixels of its place."""

    upsampling = 8

    def __init__(self, in_channels: int, num_keypoints: int = 17) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, num_keypoints * 64, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to (N, K, 8 h, 8 w)."""
        return nn.functional.pixel_shuffle(self.conv(x), 8)


BACKBONES["tiny"], HEADS["tiny"] = TinyBackbone, TinyHead
MODEL = dict(backbone=dict(type="tiny"), head=dict(type="tiny"))


def dot_image(points: np.ndarray, width: int = WIDTH, height: int = HEIGHT, spread: float = 1.5) -> np.ndarray:
    """(H, W, 3) uint8, black, with a soft bright dot (``spread``: its standard deviation) at each of (P, 2) points."""
    y, x = np.mgrid[:height, :width]
    distance = (x - points[:, 0, None, None]) ** 2 + (y - points[:, 1, None, None]) ** 2
    bright = np.exp(-distance / (2 * spread**2)).max(axis=0)
    return np.repeat((255 * bright).round().astype(np.uint8)[..., None], 3, axis=2)


def centroid(image: np.ndarray) -> np.ndarray:
    """(2,) x and y of the mean of an (H, W) brightness."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    mass = image.astype(np.float64)
    return np.array([(x * mass).sum(), (y * mass).sum()]) / mass.sum()


def person(image_id: int, annotation_id: int, keypoints: np.ndarray) -> dict[str, Any]:
    """A COCO record around (17, 3) keypoints."""
    low, high = keypoints[:, :2].min(axis=0) - 4, keypoints[:, :2].max(axis=0) + 4
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "area": float((high - low).prod()),
        "bbox": [*low.tolist(), *(high - low).tolist()],
        "keypoints": keypoints.flatten().tolist(),
        "num_keypoints": int((keypoints[:, 2] > 0).sum()),
    }


def write_tiny_set(root: Path, train: int = 6, val: int = 2, seed: int = 0) -> Path:
    """Two persons a picture, all keypoints labelled; pictures are named after their ids, from 1 on."""
    rng = np.random.default_rng(seed)
    (root / "annotations").mkdir(parents=True)
    for split, count, first in (("train2017", train, 1), ("val2017", val, 101)):
        images, annotations = [], []
        (root / split).mkdir()
        for image_id in range(first, first + count):
            name = f"{image_id:012d}.jpg"
            people = []
            for index in range(2):
                points = rng.integers(6, (WIDTH // 2 - 6, HEIGHT - 6), (17, 2)) + (index * WIDTH // 2, 0)
                people.append(np.concatenate([points, np.full((17, 1), 2)], axis=1))
                annotations.append(person(image_id, 10 * image_id + index, people[-1]))
            image = dot_image(np.concatenate(people)[:, :2])
            cv2.imwrite(str(root / split / name), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
            images.append({"id": image_id, "file_name": name, "width": WIDTH, "height": HEIGHT})
        write_coco(root / "annotations" / f"person_keypoints_{split}.json", images, annotations)
    return root


def write_coco(path: Path, images: list[dict], annotations: list[dict]) -> Path:
    """An annotation file."""
    category = {"id": 1, "name": "person", "keypoints": [], "skeleton": []}
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    return path


def tiny_sections(root: Path, **sections: Mapping[str, Any] | None) -> dict[str, Any]:
    """The sections of a configuration for :func:`write_tiny_set`'s data: 2 epochs of 3 steps; sections add to them."""
    made: dict[str, Any] = {
        "model": MODEL,
        "data": dict(root=str(root), input_size=INPUT_SIZE, workers=0),
        "train": dict(epochs=2, batch_size=4, validate_every=1),
        "test": dict(batch_size=8),
    }
    for name, section in sections.items():
        made[name] = section if section is None else {**made.get(name, {}), **section}
    return made


def tiny_settings(root: Path, **sections: Mapping[str, Any] | None) -> Settings:
    """:func:`tiny_sections` as settings."""
    return make_settings(tiny_sections(root, **sections))


def same(one: Any, other: Any) -> bool:
    """Whether two nested structures of a checkpoint hold the same, to the last bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def start(target: Callable[..., None], *arguments: Any) -> BaseProcess:
    """A process that has imported torch but not used it, so that it starts at once and may fork."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pose.engine.train"])
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


def write_config(path: Path, root: Path, **sections: Mapping[str, Any] | None) -> Path:
    """:func:`tiny_sections` as a configuration file, with a network that every process knows."""
    sections = {"model": TOOL_MODEL, **sections}
    path.write_text("".join(f"{name} = {value!r}\n" for name, value in tiny_sections(root, **sections).items()))
    return path
