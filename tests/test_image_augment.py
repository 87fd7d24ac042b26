"""How a classifier's training images vary: by torchvision's rules, and how near its own pixels."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from pose.classification.augment import RandomPart, chances, part_of, resample
from pose.classification.settings import ImageAugmentation

ROOT = Path(__file__).parents[1]


def test_parts_are_drawn_as_torchvision_does():
    scale, ratio = (0.08, 1.0), (3 / 4, 4 / 3)
    variations = RandomPart(ImageAugmentation(scale, ratio)).draw(0, [(0, row, 0) for row in range(2000)])
    assert abs(np.mean([variation.flip for variation in variations]) - 0.5) < 0.05
    for width, height in ((500, 375), (30, 300), (1, 1)):
        ours = np.array([part_of(width, height, variation, ratio) for variation in variations])
        assert (ours[:, :2] >= 0).all() and (ours[:, 2:] >= 1).all()
        assert (ours[:, 0] + ours[:, 2] <= width).all() and (ours[:, 1] + ours[:, 3] <= height).all()
        pixels = torch.empty(3, height, width)
        torch.manual_seed(0)
        theirs = np.array([v2.RandomResizedCrop.get_params(pixels, scale, ratio) for _ in range(2000)])[:, [1, 0, 3, 2]]
        for share in (0.05, 0.25, 0.5, 0.75, 0.95):
            one, other = np.quantile(ours, share, axis=0), np.quantile(theirs, share, axis=0)
            assert np.abs(one - other).max() <= 0.05 * max(width, height)


def test_chance_is_of_seed_epoch_image_and_copy_alone():
    keys = [(0, 5, 0), (0, 6, 0), (1, 5, 0), (0, 5, 1), (0, 0, 5)]
    drawn = chances(7, keys, 24)
    assert len(np.unique(drawn)) == drawn.size and drawn.min() >= 0 and drawn.max() < 1
    for key, row in zip(keys, drawn, strict=True):
        philox = np.random.Philox(key=[7, key[0]], counter=[0, *key[1:], 0])
        assert (chances(7, [key], 24)[0] == row).all() and (np.random.Generator(philox).random(24) == row).all()
    assert not np.isin(chances(8, keys, 24), drawn).any()


@pytest.mark.parametrize(
    ("times", "mean"), [(0.5, 0.3), (1.0, 0.0), (1.2, 2.0), (1.7, 1.8), (2.7, 3.8), (3.4, 4.8), (7.0, 8.0)]
)
def test_resampling_is_near_torchvisions(times, mean):
    """A street with much fine detail, so many times smaller; beside bilinear resampling without antialiasing."""
    image = cv2.imread(str(ROOT / "data" / "sample" / "street.jpg"))
    size = round(400 / times)
    image = image[:400, :400]
    wanted = v2.functional.resize(torch.from_numpy(image).permute(2, 0, 1), [size, size], antialias=True)
    wanted = wanted.permute(1, 2, 0).numpy().astype(int)
    out = np.zeros((size, size, 3), np.uint8)
    resample(image, out)
    off = np.abs(out - wanted)
    assert off.mean() <= mean
    if times <= 1:
        assert off.max() <= 1
    elif times > 1.5:
        assert off.mean() < 0.5 * np.abs(cv2.resize(image, (size, size)) - wanted).mean()


def test_a_part_is_torchvisions_of_the_same_parameters():
    drawn = ImageAugmentation(brightness=0.4, contrast=0.4, saturation=0.4)
    part = RandomPart(drawn)
    image = cv2.imread(str(ROOT / "data" / "sample" / "street.jpg"))
    rgb = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)
    variations = part.draw(3, [(0, row, 0) for row in range(24)])
    assert len({variation.flip for variation in variations}) == 2
    for variation in variations:
        left, top, width, height = part_of(image.shape[1], image.shape[0], variation, drawn.ratio)
        wanted = v2.functional.resized_crop(rgb, top, left, height, width, [224, 224], antialias=True)
        if variation.flip:
            wanted = v2.functional.horizontal_flip(wanted)
        torch.manual_seed(variation.seed)
        wanted = v2.ColorJitter(drawn.brightness, drawn.contrast, drawn.saturation)(wanted)
        out = np.zeros((224, 224, 3), np.uint8)
        part(image, variation, out)
        assert np.abs(out[..., ::-1] - wanted.permute(1, 2, 0).numpy().astype(int)).mean() < 4
