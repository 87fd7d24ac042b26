"""Targets, flip averaging and decoding by hand: docs/protocol.md#target and docs/protocol.md#decode."""

import math

import numpy as np
import pytest
import torch

from pose import geometry, heatmap
from pose.skeleton import COCO


def peaked(*values: tuple[int, int, float], size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """(1, 1, H, W) zeros with some (x, y, value)."""
    maps = np.zeros((1, 1, size[1], size[0]), np.float32)
    for x, y, value in values:
        maps[0, 0, y, x] = value
    return maps


def test_target_is_an_unnormalized_gaussian_on_a_13_x_13_patch() -> None:
    maps, weights = heatmap.encode(torch.tensor([[[81.0, 98.1]]]), torch.tensor([[True]]), (48, 64))
    assert weights.item() == 1
    assert maps.shape == (1, 1, 64, 48)
    assert maps[0, 0, 25, 20] == 1  # int(81 / 4 + .5) = 20, int(98.1 / 4 + .5) = 25
    assert maps[0, 0, 25, 22].item() == pytest.approx(math.exp(-4 / 8))
    assert maps[0, 0, 31, 26].item() == pytest.approx(math.exp(-72 / 8))
    assert maps[0, 0, 32, 20] == 0
    assert maps[0, 0, 25, 27] == 0
    assert (maps > 0).sum() == 169


def test_target_weight_is_zero_for_the_unlabeled_and_where_the_whole_patch_is_outside() -> None:
    points = torch.tensor([[[10.0, 10.0], [10.0, 10.0], [-27.9, 10.0], [-26.1, 10.0], [10.0, 282.0], [10.0, 277.9]]])
    labeled = torch.tensor([[True, False, True, True, True, True]])
    maps, weights = heatmap.encode(points, labeled, (48, 64))
    # x = -27.9: int(-6.475) = -6, whose patch ends at 0; y = 282: int(71) begins at 65
    assert weights.tolist() == [[1, 0, 1, 1, 0, 1]]
    assert maps[0, 1].sum() == 0
    assert maps[0, 4].sum() == 0
    assert heatmap.encode(torch.tensor([[[-30.0, 10.0]]]), torch.tensor([[True]]), (48, 64))[1].item() == 0


def test_loss_is_half_the_mean_square_with_unlabeled_joints_in_the_denominator() -> None:
    predicted, target = torch.full((1, 2, 2, 2), 3.0), torch.full((1, 2, 2, 2), 1.0)
    assert heatmap.mean_squared_loss(predicted, target, torch.tensor([[1.0, 0.0]])).item() == pytest.approx(1.0)


def test_sign_moves_a_quarter_pixel_towards_the_higher_neighbor() -> None:
    maps = peaked((10, 20, 1.0), (11, 20, 0.5), (9, 20, 0.2), (10, 19, 0.4))
    points, scores = heatmap.decode(maps, "sign")
    assert points.tolist() == [[[10.25, 19.75]]]
    assert scores.tolist() == [[1.0]]
    assert heatmap.decode(maps, "none")[0].tolist() == [[[10, 20]]]


def test_sign_leaves_peaks_at_the_border_and_equal_neighbors() -> None:
    for x, y in ((1, 20), (47, 20), (10, 1), (10, 63)):
        maps = peaked((x, y, 1.0), (min(x + 1, 47), y, 0.5) if x < 47 else (46, y, 0.5))
        assert heatmap.decode(maps, "sign")[0].tolist() == [[[x, y]]]
    assert heatmap.decode(peaked((46, 62, 1.0), (47, 62, 0.5), (46, 63, 0.5)))[0].tolist() == [[[46.25, 62.25]]]
    assert heatmap.decode(peaked((10, 20, 1.0)))[0].tolist() == [[[10, 20]]]


def test_second_highest_moves_a_quarter_pixel_towards_it_wherever_it_is() -> None:
    points, _ = heatmap.decode(peaked((10, 20, 1.0), (13, 24, 0.9), (9, 20, 0.2)), "second_highest")
    np.testing.assert_allclose(points, [[[10 + 0.25 * 3 / 5, 20 + 0.25 * 4 / 5]]], rtol=1e-6)


def test_dark_finds_the_true_peak_of_a_gaussian() -> None:
    y, x = np.mgrid[:64, :48]
    maps = np.exp(-((x - 20.3) ** 2 + (y - 30.6) ** 2) / 8).astype(np.float32)[None, None]
    points, _ = heatmap.decode(maps, "dark")
    np.testing.assert_allclose(points, [[[20.3, 30.6]]], atol=0.01)


def test_a_maximum_that_is_not_positive_is_at_the_origin() -> None:
    for method in heatmap.DECODERS:
        points, scores = heatmap.decode(peaked() - 0.5, method)
        assert points.tolist() == [[[0, 0]]]
        assert scores.tolist() == [[-0.5]]


@pytest.mark.parametrize("method", heatmap.DECODERS)
def test_torch_and_numpy_decode_alike(method: str) -> None:
    random = torch.Generator().manual_seed(0)
    points = torch.rand(3, 5, 2, generator=random) * torch.tensor([110.0, 140.0]) - 5
    maps, _ = heatmap.encode(points, torch.ones(3, 5, dtype=torch.bool), (24, 32))
    maps = maps + 0.05 * torch.rand(maps.shape, generator=random)
    points, scores = heatmap.decode(maps.numpy(), method)
    for other in (heatmap.decode(maps, method), heatmap._decode(maps, method)):
        np.testing.assert_allclose(other[0].numpy(), points, atol=1e-4)
        np.testing.assert_allclose(other[1].numpy(), scores)


def test_unknown_decode_is_refused() -> None:
    with pytest.raises(ValueError, match="second_highest"):
        heatmap.decode(peaked(), "quarter")


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_flip_back_mirrors_swaps_and_shifts(shift: int) -> None:
    maps = np.arange(2 * 3 * 4, dtype=np.float32).reshape(1, 2, 3, 4)
    back = heatmap.flip_back(maps, np.array([1, 0]), shift)
    mirrored = maps[:, ::-1, :, ::-1]
    np.testing.assert_array_equal(back[..., :shift], mirrored[..., :shift])
    np.testing.assert_array_equal(back[..., shift:], mirrored[..., : 4 - shift])
    np.testing.assert_array_equal(heatmap.flip_back(torch.from_numpy(maps), np.array([1, 0]), shift).numpy(), back)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("persons", [0, 1, 19])  # 19: two whole blocks and a part
def test_decoding_with_flip_is_decoding_the_average(kind, persons: int) -> None:
    rng = np.random.default_rng(5)
    heatmaps, mirrored = kind(rng.random((2, persons, 17, 12, 9), dtype=np.float32))
    coordinates, scores = heatmap.decode_with_flip(heatmaps, mirrored, COCO.flip_index, 1, "dark")
    average = heatmap.average_flip(heatmaps, mirrored, COCO.flip_index, 1)
    assert type(coordinates) is type(heatmaps) and coordinates.shape == (persons, 17, 2)
    wanted, peaks = heatmap.decode(average, "dark")
    assert (coordinates == wanted).all() and (scores == peaks).all()
    if persons:
        plain = heatmap.decode_with_flip(heatmaps, mirrored, COCO.flip_index, 0, "dark")[0]
        assert (plain != coordinates).any()  # the shift counts


def test_mirrored_inputs_decode_to_mirrored_keypoints() -> None:
    """A network that is exact on both crops: the flip average must agree with the plain heatmaps."""
    rng = np.random.default_rng(0)
    points = torch.from_numpy(rng.uniform((20, 20), (170, 230), (8, 17, 2)).astype(np.float32))
    labeled = torch.ones(8, 17, dtype=torch.bool)
    plain, _ = heatmap.encode(points, labeled, (48, 64))
    swapped = points[:, COCO.flip_index].clone()
    swapped[..., 0] = 191 - swapped[..., 0]  # what the network sees: the crop's pixels mirrored
    mirrored, _ = heatmap.encode(swapped, labeled, (48, 64))
    back = heatmap.flip_back(mirrored, COCO.flip_index, 1)
    expected, found = (heatmap.decode(maps, "none")[0] for maps in (plain, back))
    assert (found - expected).abs().max() <= 1
    # 4 (47 - (191 - x) / 4 + shift) = x - 3 + 4 shift: one pixel of the input with the shift, -3 without
    assert ((found * 4 - points)[..., 0]).mean().item() == pytest.approx(1, abs=0.3)
    unshifted, _ = heatmap.decode(heatmap.flip_back(mirrored, COCO.flip_index, 0), "none")
    assert ((unshifted * 4 - points)[..., 0]).mean().item() == pytest.approx(-3, abs=0.3)


def test_encoding_and_decoding_keeps_keypoints_to_half_a_heatmap_pixel() -> None:
    rng = np.random.default_rng(0)
    centers, scales = rng.uniform(50, 300, (6, 2)), np.repeat(rng.uniform(60, 300, (6, 1)), 2, 1) * [0.75, 1]
    points = centers[:, None] + rng.uniform(-0.4, 0.4, (6, 17, 2)) * scales[:, None]
    crop_points = geometry.apply_affine(points, geometry.crop_affine(centers, scales, (192, 256)))
    maps, _ = heatmap.encode(torch.from_numpy(crop_points), torch.ones(6, 17, dtype=torch.bool), (48, 64))
    found, _ = heatmap.decode(maps)
    back = geometry.heatmap_to_image(found.numpy(), centers, scales, (48, 64))
    half_pixel = scales[:, 0] / 48 / 2
    assert (np.abs(back - points) <= half_pixel[:, None, None] + 1e-4).all()
