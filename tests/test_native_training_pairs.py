"""Native training in bfloat16: its products against plain ones of rounded values, layers, and what a network learns."""

import copy
import ctypes

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from native_arithmetic import PROCESSORS, RUNNABLE, amx_granted, loaded, pointer, shared_folder
from torch import nn

from pose.engine.trainer import Trainer
from pose.models.dynamic.dcd import DCDConv2d
from pose.models.dynamic.dynamic_conv import DynamicConv2d
from pose.models.dynamic.makers import DCDConvs, DynamicConvs, StaticConvs
from pose.models.layers import InvertedResidual
from pose.models.native.training import layers as training
from pose.models.native.training.deferred import finished
from pose.models.native.training.forms import NativeTrainedConv2d, NativeTrainedConvNormAct
from pose.models.native.training.layers import use_native_training
from pose.models.native.training.operations import PoolCache
from pose.models.pose_net import build_pose_net
from pose.native import ahead
from pose.native.library import NativeError
from pose.options import OptionError

WITH_PAIRS = ahead.LEVELS["avx512_bf16"][0]
WITHOUT_TILES = f"{WITH_PAIRS} -DPOSE_WITHOUT_TILES"
CPU = torch.device("cpu")
LAST = torch.channels_last


KINDS_OF_PROCESSORS = [PROCESSORS[0]]
if WITH_PAIRS in PROCESSORS:
    KINDS_OF_PROCESSORS += [WITH_PAIRS, WITHOUT_TILES]


@pytest.fixture(scope="module", params=KINDS_OF_PROCESSORS)
def products(request, tmp_path_factory):
    """The functions of data/training_arithmetic.cpp, for one kind of processor, with matrix tiles and without."""
    folder, folders = shared_folder(tmp_path_factory), [training.TRAINING.sources[0].parent]
    if request.param == WITHOUT_TILES and not ahead.processor_features() >= RUNNABLE[WITH_PAIRS]:
        pytest.skip("this processor cannot run it")
    return loaded(request.param, folder, "training_arithmetic", folders)


def test_matrix_tiles_are_taken_where_they_are_not_compiled_away(products, request):
    wanted = request.node.callspec.params["products"] == WITH_PAIRS
    assert bool(products.by_matrix_tiles()) == (wanted and amx_granted())


@pytest.fixture(scope="module")
def built():
    try:
        training.load()
    except NativeError as error:
        pytest.skip(str(error))


@pytest.fixture
def with_pairs(built, monkeypatch):
    """A processor that has such instructions, or what this one computes without them."""
    if not training.has_pairs():
        monkeypatch.setattr("pose.engine.trainer.has_pairs", lambda: True)


def rounded(array):
    return torch.from_numpy(array).bfloat16().double().numpy()


def drawn(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


SIZES = dict(count=st.integers(1, 80), rows=st.integers(1, 70), columns=st.integers(1, 70), seed=st.integers(0, 1000))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(**SIZES)
def test_products_are_of_rounded_values_and_sums_are_not(products, count, rows, columns, seed):
    lanes = products.lanes()
    padded = (columns + lanes - 1) // lanes * lanes
    pixels, matrix, factors, terms, y = drawn(seed, (count, rows), (rows, columns), padded, padded, (count, columns))
    plain = np.zeros((count, columns))  # a loop over rounded pairs
    left, right = rounded(pixels), rounded(matrix)
    for row in range(0, rows, 2):
        for one in range(row, min(row + 2, rows)):
            plain += left[:, one, None] * right[one]
    expected = y + plain * factors[:columns] + terms[:columns]
    sizes = [ctypes.c_int64(size) for size in (count, rows, columns)]
    products.multiply_in_pairs(
        pointer(pixels), sizes[0], sizes[1], pointer(matrix), sizes[2], *map(pointer, (factors, terms, y))
    )
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-4)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(**SIZES)
def test_products_over_pixels_are_of_rounded_values_and_sums_are_not(products, count, rows, columns, seed):
    a, b, out = drawn(seed, (count, rows), (count, columns), (rows, columns))
    expected = out + rounded(a).T @ rounded(b)
    sizes = [ctypes.c_int64(size) for size in (rows, columns, count)]
    products.multiply_outer_in_pairs(pointer(a), sizes[0], pointer(b), sizes[1], sizes[2], pointer(out))
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-4)


class Rounded(torch.autograd.Function):
    """A 1 x 1 convolution by a kernel for each image whose three products are of values rounded to bfloat16."""

    @staticmethod
    def forward(ctx, x, kernels):
        ctx.save_for_backward(x, kernels)
        return torch.einsum("nihw,noi->nohw", rounded_tensor(x), rounded_tensor(kernels))

    @staticmethod
    def backward(ctx, grad):
        x, kernels = map(rounded_tensor, ctx.saved_tensors)
        grad = rounded_tensor(grad)
        return torch.einsum("nohw,noi->nihw", grad, kernels), torch.einsum("nohw,nihw->noi", grad, x)


def rounded_tensor(values):
    return values.float().bfloat16().to(values.dtype)


@pytest.mark.parametrize("layer", ["static", "dynamic"])
def test_a_layer_multiplies_rounded_values_in_both_passes(built, layer):
    torch.manual_seed(0)
    conv = nn.Conv2d(11, 21, 1, bias=False) if layer == "static" else DynamicConv2d(11, 21, 1, bias=False)
    conv.weight.data.copy_(conv.weight.bfloat16())
    mine = nn.Sequential(NativeTrainedConv2d.of(copy.deepcopy(conv), PoolCache()) if layer == "static" else conv)
    mine = use_native_training(copy.deepcopy(mine), pairs=True)
    x = torch.randn(3, 11, 5, 6).to(memory_format=LAST).requires_grad_()
    wide = x.detach().double().requires_grad_()
    right = copy.deepcopy(conv).double()
    if layer == "static":
        kernels = right.weight.flatten(1).expand(3, -1, -1)
    else:
        kernels = (right.attention(wide) @ right.weight.flatten(1)).view(3, 21, 11)
    y, expected = mine(x), Rounded.apply(wide, kernels)
    along = torch.randn(y.shape)
    found = torch.autograd.grad((y * along).sum(), [x, mine[0].weight])
    wanted = torch.autograd.grad((expected * along.double()).sum(), [wide, right.weight])
    for one, other in zip((y, *found), (expected, *wanted), strict=True):
        # a value in the middle of two may be rounded to either
        assert (one.double() - other).norm() <= 2e-3 * other.norm()
    exact = torch.einsum("nihw,noi->nohw", wide, kernels)
    assert (y.double() - expected).norm() < 0.3 * (y.double() - exact).norm()


def test_a_decomposed_layer_in_bfloat16_is_near_the_one_in_float32(built):
    for height in (2, 12):
        torch.manual_seed(0)
        conv = DCDConv2d(16, 24, 1, bias=False)
        plain, pairs = (use_native_training(nn.Sequential(copy.deepcopy(conv)), pairs=p) for p in (False, True))
        x = torch.randn(4, 16, height, 6).to(memory_format=LAST).requires_grad_()
        one, other = plain(x), pairs(x)
        assert 0 < (one - other).norm() < 0.01 * one.norm()
        along = torch.randn(one.shape)
        for first, second in zip(
            torch.autograd.grad((one * along).sum(), [x, plain[0].weight]),
            torch.autograd.grad((other * along).sum(), [x, pairs[0].weight]),
            strict=True,
        ):
            assert 0 < (first - second).norm() < 0.02 * first.norm()


def block_of(kind, stride, size):
    makers = dict(static=StaticConvs, dynamic=DynamicConvs, dcd=DCDConvs)
    return InvertedResidual(8, 8, 48, makers[kind](), 4, size, stride)


@pytest.mark.parametrize("kind", ["static", "dynamic", "dcd"])
@pytest.mark.parametrize(
    ("stride", "size", "shape"), [(1, 3, (4, 8, 12, 9)), (2, 5, (3, 8, 7, 10)), (1, 5, (2, 8, 30, 22))]
)
def test_gradients_of_a_block_are_as_near_to_exact_ones_as_torchs_in_bfloat16(built, kind, stride, size, shape):
    torch.manual_seed(0)
    block = block_of(kind, stride, size)
    forms = [copy.deepcopy(block).double(), use_native_training(copy.deepcopy(block), pairs=True), block]
    made = []
    for form, torchs in zip(forms, (False, False, True), strict=True):
        torch.manual_seed(1)
        dtype = torch.float64 if form is forms[0] else torch.float32
        x = torch.randn(shape).to(dtype, memory_format=LAST).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, torchs):
            y = form(x)
        assert y.dtype == dtype or torchs
        grads = torch.autograd.grad((y * torch.randn(y.shape).to(dtype)).sum(), [x, *form.parameters()])
        values = (y, grads[0], torch.cat([grad.flatten() for grad in grads[1:]]))
        made.append([value.detach().double() for value in values])
    for exact, mine, theirs in zip(*made, strict=True):
        # most is due to activations that a rounded value passes or does not: about as many in both, not the same
        assert 0 < (mine - exact).norm() < 2 * (theirs - exact).norm()
        assert abs((mine * exact).sum() / (exact * exact).sum() - 1) < 0.01  # no rounding leans to a side


def test_what_convolutions_alone_read_is_bfloat16_and_what_others_read_is_not(built):
    for pairs in (False, True):
        block = use_native_training(block_of("static", 1, 3), pairs=pairs)
        x = torch.randn(2, 8, 6, 6).to(memory_format=LAST)
        wide = block.expand.deferred(x, half=True)
        assert wide.raw.dtype == (torch.bfloat16 if pairs else torch.float32)
        assert block.project.deferred(block.depthwise.deferred(wide, half=True)).raw.dtype == torch.float32
        assert finished(wide).dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, [True, True]), ({"squeeze_channels": 8}, [True, False]), ({"kernel_size": 7}, [False, True])],
)
def test_features_are_bfloat16_where_a_convolution_takes_them_as_they_are(built, monkeypatch, options, expected):
    """Not in front of squeeze-and-excitation, nor of a kernel that has no native form."""
    block = use_native_training(InvertedResidual(8, 8, 48, StaticConvs(), 4, **options).train(), pairs=True)
    asked = []
    deferred = NativeTrainedConvNormAct.deferred

    def noting(self, x, shortcut=None, half=False):
        asked.append(half)
        return deferred(self, x, shortcut, half)

    monkeypatch.setattr(NativeTrainedConvNormAct, "deferred", noting)
    block(torch.randn(2, 8, 12, 9).to(memory_format=LAST))
    assert asked[:2] == expected


def network(seed, kind):
    torch.manual_seed(seed)
    backbone = dict(type="mobilenet_v2", width=0.1, depth=0.1, last_channels=16, out_stride=16, conv=dict(type=kind))
    head = dict(type="bottleneck", stages=((24, 16, 1), (24, 16, 1)), conv=dict(type=kind))
    return build_pose_net(backbone, head, 2)


def learned(seed, kind, precision):
    """The loss on a small fixed set after a few steps."""
    generator = torch.Generator().manual_seed(5)
    centers = torch.rand(8, 2, 2, generator=generator) * 7
    grid = torch.arange(8.0)
    blobs = [torch.exp(-((grid - centers[..., axis, None]) ** 2) / 4) for axis in (0, 1)]
    heatmaps = blobs[1][..., :, None] * blobs[0][..., None, :]
    images = nn.functional.interpolate(heatmaps, scale_factor=4) @ torch.eye(32)
    images = torch.cat([images, images.mean(1, keepdim=True)], 1)
    trainer = Trainer(network(seed, kind), CPU, native=True, precision=precision)
    trainer.set_learning_rate(1e-2)
    weights = torch.ones(8, 2)
    losses = [trainer.learn(images, heatmaps, weights).item() for _ in range(20)]
    assert all(parameter.dtype == torch.float32 for parameter in trainer.model.parameters())
    return float(np.mean(losses[-4:])), losses[0]


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_a_network_learns_as_much_as_seeds_differ(with_pairs, kind):
    """Seed by seed the log loss is not above that of float32: on average by less than chance lets six seeds differ."""
    seeds = range(6)
    plain = np.log([learned(seed, kind, "float32")[0] for seed in seeds])
    pairs, starts = np.log([learned(seed, kind, "bfloat16") for seed in seeds]).T
    assert (plain != pairs).all()
    differences = pairs - plain
    assert differences.mean() < min(0.05 + 3 * differences.std(ddof=1) / np.sqrt(len(seeds)), 0.5)
    assert (pairs < starts - 1).all()


def test_a_processor_without_it_is_told_so(built, monkeypatch):
    monkeypatch.setattr("pose.engine.trainer.has_pairs", lambda: False)
    with pytest.raises(OptionError, match="train.native: this processor has no bfloat16 products"):
        Trainer(nn.Conv2d(3, 3, 1), CPU, native=True, precision="bfloat16")
