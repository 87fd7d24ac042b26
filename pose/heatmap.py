"""Heatmaps: encode keypoints, mirror back, average and decode.

Batched throughout. Decoding and flipping take NumPy arrays or torch tensors and return the same
kind; torch is imported only by those who hand a tensor in. Sources: docs/protocol.md#target,
docs/protocol.md#target-weight, docs/protocol.md#loss, docs/protocol.md#flip-test, docs/protocol.md#flip-shift and
docs/protocol.md#decode.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch

Array = TypeVar("Array", np.ndarray, "torch.Tensor")

SIGMA = 2.0
"""Standard deviation of the target Gaussian, in heatmap pixels."""

DECODER = "sign"
"""The decoder of the protocol."""

FLIP_SHIFT = 1
"""Pixels that mirrored heatmaps move to the right: index j sits at input pixel 4 j (docs/protocol.md#flip-shift)."""


def encode(
    keypoints: torch.Tensor,
    weights: torch.Tensor,
    heatmap_size: tuple[int, int],
    stride: float = 4.0,
    sigma: float = SIGMA,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Target heatmaps: one unnormalised Gaussian per keypoint on a patch of 6 sigma + 1 pixels.

    The peak sits at the whole heatmap pixel int(x / stride + 0.5).

    Args:
        keypoints: (N, K, 2) float, in input pixels.
        weights: (N, K) bool or float, what each keypoint weighs; 0 where it is not labelled.
        heatmap_size: Width and height of a map.
        stride: Input pixels per heatmap pixel.
        sigma: The Gaussian's standard deviation in heatmap pixels.

    Returns:
        heatmaps (N, K, H, W) and weights (N, K), both float32 on the keypoints' device. A weight
        is the one given, and 0 where the whole patch is outside.
    """
    import torch

    width, height = heatmap_size
    radius = int(3 * sigma)
    peak = (keypoints.float() / stride + 0.5).trunc()  # trunc is int() of docs/protocol.md#target
    limit = torch.tensor([width, height], device=keypoints.device)
    inside = ((peak + radius >= 0) & (peak - radius < limit)).all(dim=-1)
    weights = weights.float() * inside

    def profile(center: torch.Tensor, length: int) -> torch.Tensor:
        offset = torch.arange(length, device=center.device, dtype=torch.float32) - center[..., None]
        return torch.exp(-(offset**2) / (2 * sigma**2)) * (offset.abs() <= radius)

    columns = profile(peak[..., 0], width)
    rows = profile(peak[..., 1], height) * (weights > 0)[..., None]
    return rows[..., :, None] * columns[..., None, :], weights


def mean_squared_loss(predicted: torch.Tensor, target: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Per joint 0.5 x w x mean((p - t)^2), averaged over all joints, zero-weight joints in the denominator.

    Args:
        predicted: (N, K, H, W).
        target: (N, K, H, W).
        weights: (N, K).

    Returns:
        A scalar, float32 or wider.
    """
    difference = (predicted.to(target.dtype) - target) * weights.sqrt()[..., None, None]
    return 0.5 * difference.square().mean()


def flip_back(heatmaps: Array, flip_index: np.ndarray, shift: int = FLIP_SHIFT) -> Array:
    """Turns the heatmaps of a mirrored input into those of the input itself.

    Args:
        heatmaps: (N, K, H, W).
        flip_index: (K,), what each keypoint becomes in a mirror.
        shift: Pixels to move to the right after mirroring; the first ``shift`` columns stay. The
            usual 1 makes up for heatmap index j sitting at input pixel 4 j (docs/protocol.md#flip-shift).

    Raises:
        ValueError: The shift is negative or as wide as the map.
    """
    if not 0 <= shift < heatmaps.shape[-1]:
        raise ValueError(f"shift must be between 0 and the heatmap's width, got {shift}")
    width = heatmaps.shape[-1]
    if isinstance(heatmaps, np.ndarray):
        mirrored = heatmaps[:, flip_index][..., ::-1]
        moved = np.empty_like(heatmaps)
        moved[..., :shift], moved[..., shift:] = mirrored[..., :shift], mirrored[..., : width - shift]
        return moved
    mirrored = heatmaps[:, flip_index.tolist()].flip(-1)
    return _namespace(heatmaps).cat([mirrored[..., :shift], mirrored[..., : width - shift]], -1)


def average_flip(heatmaps: Array, mirrored: Array, flip_index: np.ndarray, shift: int = FLIP_SHIFT) -> Array:
    """The mean of plain heatmaps and those of the mirrored input; shapes as in :func:`flip_back`."""
    mean = flip_back(mirrored, flip_index, shift)
    mean += heatmaps
    mean *= 0.5
    return mean


_BLOCK = 8  # persons averaged at a time on a CPU: their maps stay in its cache


def decode_with_flip(
    heatmaps: Array, mirrored: Array, flip_index: np.ndarray, shift: int = FLIP_SHIFT, method: str = DECODER
) -> tuple[Array, Array]:
    """:func:`decode` of :func:`average_flip`, twice as fast on a CPU; arguments and results are theirs."""
    if not isinstance(heatmaps, np.ndarray) and heatmaps.device.type == "cpu":
        plain, other = _numpy(heatmaps), _numpy(mirrored)
        coordinates, scores = decode_with_flip(plain, other, flip_index, shift, method)
        return _namespace(heatmaps).from_numpy(coordinates), _namespace(heatmaps).from_numpy(scores)
    block = _BLOCK if isinstance(heatmaps, np.ndarray) else max(1, len(heatmaps))
    parts = [slice(start, start + block) for start in range(0, max(1, len(heatmaps)), block)]
    decoded = [decode(average_flip(heatmaps[part], mirrored[part], flip_index, shift), method) for part in parts]
    if len(decoded) == 1:
        return decoded[0]
    found, values = zip(*decoded, strict=True)
    return np.concatenate(found), np.concatenate(values)  # type: ignore[return-value]  # a tensor is one part


def decode(heatmaps: Array, method: str = DECODER) -> tuple[Array, Array]:
    """Keypoints from heatmaps.

    Args:
        heatmaps: (N, K, H, W) float.
        method: ``none``: the highest pixel. ``sign`` (default): a quarter pixel further towards
            the higher neighbour, in x and in y, where 1 < px < W - 1 and 1 < py < H - 1.
            ``second_highest``: a quarter pixel from the highest pixel of the map towards the
            second highest, as the paper words it. ``dark``: the Taylor step of arXiv 1910.06278,
            eq. 5, on the logarithm of the blurred map, where 1 < px < W - 2 and 1 < py < H - 2.

    Returns:
        coordinates (N, K, 2) float32 in heatmap pixels and scores (N, K), the values of the
        highest pixels. A keypoint whose highest value is not positive is at (0, 0).

    Raises:
        ValueError: The method is not one of :data:`DECODERS`.
    """
    if method not in DECODERS:
        raise ValueError(f"decode method must be one of {', '.join(DECODERS)}, got {method!r}")
    if not isinstance(heatmaps, np.ndarray) and heatmaps.device.type == "cpu":
        coordinates, scores = _decode(_numpy(heatmaps), method)  # NumPy's argmax is three times as fast as torch's
        return _namespace(heatmaps).from_numpy(coordinates), _namespace(heatmaps).from_numpy(scores)
    return _decode(heatmaps, method)


def _decode(heatmaps: Array, method: str) -> tuple[Array, Array]:
    """:func:`decode` in operations that NumPy and torch share."""
    batch, joints, height, width = heatmaps.shape
    flat = heatmaps.reshape(batch * joints, height * width)
    xp = _namespace(flat)
    peak = flat.argmax(1)
    rows = xp.arange(len(flat), **_on(flat))
    scores = flat[rows, peak]
    x, y = peak % width, peak // width
    offset_x, offset_y = _OFFSETS[method](flat, rows, peak, x, y, width, height) if method != "none" else (0, 0)
    found = scores > 0
    coordinates = xp.stack([(x + offset_x) * found, (y + offset_y) * found], -1)
    coordinates = coordinates.astype(np.float32) if xp is np else coordinates.float()
    return coordinates.reshape(batch, joints, 2), scores.reshape(batch, joints)


def _namespace(array: Array) -> Any:
    """The module whose functions take this array."""
    if isinstance(array, np.ndarray):
        return np
    import torch

    return torch


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    """A tensor on the CPU as float32."""
    return tensor.detach().float().numpy()


def _on(array: Array) -> dict:
    """Where to create arrays that meet this one."""
    return {} if isinstance(array, np.ndarray) else {"device": array.device}


def _sign_offset(flat: Any, rows: Any, peak: Any, x: Any, y: Any, width: int, height: int) -> tuple[Any, Any]:
    xp = _namespace(flat)
    inside = (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)
    safe = xp.where(inside, peak, width + 1)
    horizontal = xp.sign(flat[rows, safe + 1] - flat[rows, safe - 1])
    vertical = xp.sign(flat[rows, safe + width] - flat[rows, safe - width])
    return 0.25 * horizontal * inside, 0.25 * vertical * inside


def _second_highest_offset(flat: Any, rows: Any, peak: Any, x: Any, y: Any, width: int, height: int) -> tuple[Any, Any]:
    xp = _namespace(flat)
    rest = flat.copy() if xp is np else flat.clone()
    rest[rows, peak] = -float("inf")
    second = rest.argmax(1)
    along_x, along_y = second % width - x, second // width - y
    length = (along_x * along_x + along_y * along_y) ** 0.5
    return 0.25 * along_x / length, 0.25 * along_y / length


_REACH = 2  # derivatives of the blurred map need values up to two pixels from the peak
_BLUR_RADIUS = 5  # an 11 x 11 Gaussian, as for targets with sigma 2


def blur_matrix() -> np.ndarray:
    """(15, 5) float32: blurs a line of 15 pixels into its middle five, as ``dark`` does before its derivatives."""
    tap = np.exp(-(np.arange(-_BLUR_RADIUS, _BLUR_RADIUS + 1) ** 2) / (2 * SIGMA**2))
    matrix = np.zeros((2 * (_BLUR_RADIUS + _REACH) + 1, 2 * _REACH + 1), dtype=np.float32)
    for column in range(matrix.shape[1]):
        matrix[column : column + len(tap), column] = tap / tap.sum()
    return matrix


def _dark_offset(flat: Any, rows: Any, peak: Any, x: Any, y: Any, width: int, height: int) -> tuple[Any, Any]:
    """Only the neighbourhood of the peak is blurred; the map's overall scale cancels in the logarithm."""
    xp = _namespace(flat)
    radius = _BLUR_RADIUS + _REACH
    span = xp.arange(-radius, radius + 1, **_on(flat))
    columns, lines = x[:, None] + span, y[:, None] + span
    column_inside, line_inside = (columns >= 0) & (columns < width), (lines >= 0) & (lines < height)
    index = (lines.clip(0, height - 1) * width)[:, :, None] + columns.clip(0, width - 1)[:, None, :]
    patch = flat[rows[:, None, None], index] * (line_inside[:, :, None] & column_inside[:, None, :])
    blur = blur_matrix()
    if xp is not np:
        blur = xp.from_numpy(blur).to(patch)
    log = xp.log((blur.T @ (patch @ blur)).clip(1e-10))
    center = log[:, 2, 2]
    dx, dy = (log[:, 2, 3] - log[:, 2, 1]) / 2, (log[:, 3, 2] - log[:, 1, 2]) / 2
    dxx = (log[:, 2, 4] - 2 * center + log[:, 2, 0]) / 4
    dyy = (log[:, 4, 2] - 2 * center + log[:, 0, 2]) / 4
    dxy = (log[:, 3, 3] - log[:, 1, 3] - log[:, 3, 1] + log[:, 1, 1]) / 4
    determinant = dxx * dyy - dxy * dxy
    usable = (x > 1) & (x < width - 2) & (y > 1) & (y < height - 2) & (determinant != 0)
    divisor = xp.where(usable, determinant, 1)
    return (dxy * dy - dyy * dx) / divisor * usable, (dxy * dx - dxx * dy) / divisor * usable


_OFFSETS = {"sign": _sign_offset, "second_highest": _second_highest_offset, "dark": _dark_offset}
"""The step of each decoder from the highest pixel; saved predictions count on the order, so a new one comes last."""

DECODERS = ("none", *_OFFSETS)
"""The names of the decoders; ``none`` takes the highest pixel itself."""
