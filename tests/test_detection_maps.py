"""Boxes to target maps and back, the detector's loss, and its network."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from pose.detection.decode import boxes_at_peaks, decode
from pose.detection.network import DetectionNet
from pose.detection.targets import NOTHING, PERSON, REGION, UNSURE, encode, loss
from pose.engine.trainer import Trainer
from pose.export.detector_file import PixelsToBoxes
from pose.models.deploy.folding import deploy
from pose.models.native.training.layers import available

SIZE, STRIDE = (24, 32), 8


def maps_of(targets, sharp=9.0):
    """The maps of a network that has learned the targets."""
    y, x = (torch.arange(length) + 0.5 for length in SIZE)
    left, top, right, bottom = targets.boxes.unbind(1)
    away = torch.stack([x - left, y[:, None] - top, right - x, bottom - y[:, None]], 1).clamp(min=0.05).log()
    away = torch.where(targets.weights[:, None] > 0, away, torch.zeros(()))
    center = torch.where(targets.centers == 1, sharp, torch.where(targets.centers > 0, -3.0, -sharp))
    return torch.cat([center[:, None], away], 1)


def test_boxes_come_back_from_their_maps():
    boxes = torch.tensor(
        [[[10, 20, 90, 180], [100, 31, 121, 77], [150, 5, 250, 188.0]], [[0, 0, 256, 192], *2 * [[0.0] * 4]]]
    )
    kinds = torch.tensor([[PERSON] * 3, [PERSON, NOTHING, NOTHING]])
    maps = maps_of(encode(boxes, kinds, SIZE, STRIDE)).numpy()
    found = [decode(each, threshold=0.5) for each in maps]
    assert [len(each) for each in found] == [3, 1]
    for row, each in enumerate(found):
        wanted = boxes[row][kinds[row] == PERSON].numpy()
        apart = np.abs(each[:, None, :4] - wanted).max(-1).min(1)
        assert apart.max() < 0.5  # pixels; log and exp lose a little


def test_a_person_weighs_the_logarithm_of_its_area():
    boxes = torch.tensor([[[8, 8, 248, 184], [100, 40, 116, 64.0]]])
    alone = encode(boxes[:, :1], torch.tensor([[PERSON]]), SIZE, STRIDE)
    area = (240 / 8) * (176 / 8)
    assert alone.weights.sum().item() == pytest.approx(math.log(1 + area), rel=1e-5)
    assert alone.centers.max() == 1
    assert (alone.centers == 1).sum() == 1


def test_where_cores_overlap_the_smaller_person_is_learned():
    boxes = torch.tensor([[[0, 0, 256, 192], [112, 80, 144, 112.0]]])
    targets = encode(boxes, torch.tensor([[PERSON, PERSON]]), SIZE, STRIDE)
    assert torch.equal(targets.boxes[0, :, 12, 16], boxes[0, 1] / STRIDE)
    assert torch.equal(targets.boxes[0, :, 9, 10], boxes[0, 0] / STRIDE)
    assert targets.centers[0, 12, 16] == 1


def test_nothing_is_learned_where_nobody_knows():
    boxes = torch.tensor([[[0, 0, 64, 64], [128, 0, 256, 192], [16, 100, 48, 180.0]]])
    targets = encode(boxes, torch.tensor([[REGION, UNSURE, PERSON]]), SIZE, STRIDE)
    assert targets.considered[0, :8, :8].max() == 0  # a whole region
    assert targets.considered[0, 12, 24] == 0  # a doubtful person's center
    assert targets.considered[0, 0, 31] == 1  # its corner: no center of it
    assert targets.considered[0, 17, 4] == 1
    assert (targets.centers == 1).sum() == 1
    wrong = maps_of(targets)
    wrong[0, 0, :8, :8] = 9.0
    wrong[0, 0, 12, 24] = 9.0
    assert loss(wrong, *targets) == loss(maps_of(targets), *targets)
    wrong[0, 0, 0, 31] = 9.0
    assert loss(wrong, *targets) > 10 * loss(maps_of(targets), *targets)


def test_the_loss_is_least_at_the_targets_and_finite_without_persons():
    boxes = torch.tensor([[[10, 20, 90, 180.0]]])
    targets = encode(boxes, torch.tensor([[PERSON]]), SIZE, STRIDE)
    good = loss(maps_of(targets), *targets)
    noise = torch.Generator().manual_seed(0)
    for _ in range(5):
        other = maps_of(targets) + 0.5 * torch.randn(1, 5, *SIZE, generator=noise)
        assert loss(other, *targets) > good
    nobody = encode(boxes, torch.tensor([[NOTHING]]), SIZE, STRIDE)
    maps = torch.zeros(1, 5, *SIZE, requires_grad=True)
    value = loss(maps, *nobody)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(maps.grad).all()
    assert maps.grad[:, 1:].abs().max() == 0


def test_gradients_are_the_slope():
    boxes = torch.tensor([[[40, 40, 90, 150], [60, 30, 128, 100.0]]])
    targets = encode(boxes, torch.tensor([[PERSON, UNSURE]]), (6, 8), 32)
    maps = torch.randn(1, 5, 6, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    loss(maps, *targets).backward()
    at = (maps.detach() - 1e-2 * maps.grad / maps.grad.norm()).requires_grad_()
    fall = (loss(maps, *targets) - loss(at, *targets)).item()
    assert fall == pytest.approx(1e-2 * maps.grad.norm().item(), rel=0.05)


def test_of_two_boxes_of_one_person_the_better_stays():
    maps = np.full((5, *SIZE), math.log(5), np.float32)
    maps[0] = -9
    maps[0, 10, 10], maps[0, 10, 12], maps[0, 10, 25] = 3.0, 2.0, 1.0
    found = decode(maps, threshold=0.5, overlap=0.5)
    assert found[:, 4].tolist() == pytest.approx(torch.tensor([3.0, 1.0]).sigmoid().tolist())
    assert found[0, :4].tolist() == pytest.approx([44, 44, 124, 124], abs=1e-3)
    assert len(decode(maps, threshold=0.5, max_persons=1)) == 1
    assert decode(maps, threshold=0.99).shape == (0, 5)


def test_an_exported_file_finds_the_same_boxes():
    maps = np.random.default_rng(0).normal(0, 1.5, (5, 12, 9)).astype(np.float32)
    maps[0, 3, 4] = maps[0, 3, 5] = 4.0  # equally high neighbors are peaks both
    graph = PixelsToBoxes(lambda _: torch.from_numpy(maps[None]))
    (expected,) = graph(torch.zeros(1, 96, 72, 3, dtype=torch.uint8)).numpy()
    expected = expected[expected[:, 4] > 0]
    found = boxes_at_peaks(maps, 200)
    assert len(found) == len(expected) > 10
    order = np.lexsort(found.T[::-1]), np.lexsort(expected.T[::-1])
    np.testing.assert_allclose(found[order[0]], expected[order[1]], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("frozen", [0, 1, 3])
def test_the_network_folded_and_from_its_first_features_answers_the_same(frozen):
    torch.manual_seed(0)
    network = DetectionNet(width=0.5, channels=(32, 32, 16), blocks=1, frozen=frozen).eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        maps = network(images)
        assert maps.shape == (2, 5, 8, 12)
        if frozen:
            assert torch.allclose(network(network.frozen_features(images)), maps, atol=1e-4)
        assert torch.allclose(deploy(network)(images), maps, atol=1e-4)
    assert maps[:, 0].sigmoid().mean() < 0.05  # nearly all is background before training


@pytest.mark.parametrize("native", [False, True])
def test_frozen_stages_stay_and_the_others_learn_folded_or_not(native):
    if native and not available():
        pytest.skip("needs a compiler")
    torch.manual_seed(0)
    network = DetectionNet(width=0.5, channels=(32, 32, 16), blocks=1, frozen=2)
    trainer = Trainer(
        network,
        torch.device("cpu"),
        loss=lambda maps: maps.square().mean(),
        optimizer=partial(torch.optim.Adam, lr=1e-2),
        frozen=network.frozen_parts,
        native=native,
    )
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    for _ in range(2):
        trainer.learn(torch.randn(2, 3, 64, 64))
    changed = {name for name, value in trainer.model.state_dict().items() if not torch.equal(value, before[name])}
    frozen = ("stages.0", "stages.1")
    assert not any(name.startswith(frozen) for name in changed)
    assert {name for name, _ in trainer.model.named_parameters() if not name.startswith(frozen)} <= changed
    assert len(trainer.frozen._folded) == (2 if native else 0)
