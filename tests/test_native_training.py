"""Training by native operations: the gradients, statistics and checkpoints of torch's, and memory for fewer kernels."""

import copy
import warnings

import pytest
import torch
from tiny import same
from torch import nn
from torch.nn import functional as F

from pose.engine.trainer import Trainer
from pose.models.dynamic.dcd import DCDConv2d
from pose.models.dynamic.dynamic_conv import DynamicConv2d
from pose.models.dynamic.makers import DCDConvs, DynamicConvs, StaticConvs
from pose.models.layers import ConvNormAct, InvertedResidual
from pose.models.native import ACTIVATIONS
from pose.models.native.training import layers as training
from pose.models.native.training.deferred import Batch, Deferred, Measure, Normalization
from pose.models.native.training.layers import kernel_bytes, use_native_training
from pose.models.native.training.operations import Conv, Pool
from pose.models.norm import SafeBatchNorm2d
from pose.models.pose_net import build_pose_net
from pose.native.library import NativeError
from pose.options import OptionError

CPU = torch.device("cpu")
LAST = torch.channels_last
KINDS = ("static", "dynamic", "dcd")
SHAPES = ((3, 16, 6, 8), (2, 13, 5, 7), (1, 24, 9, 4), (4, 72, 1, 3), (2, 1, 4, 4))


@pytest.fixture(scope="module")
def built():
    try:
        training.load()
    except NativeError as error:
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def _needs(request):
    if "no_compiler" not in request.node.name:
        request.getfixturevalue("built")
    torch.manual_seed(0)


def close(mine, right, forward=False):
    """Within 1e-5 (forward) or 1e-4 of the largest value; gradients before a normalisation may vanish."""
    limit = (1e-5 if forward else 1e-4) * max(right.abs().max().item(), 0.1)
    assert mine.shape == right.shape
    assert (mine.double() - right).abs().max().item() <= limit


def gradients(outputs, inputs):
    """Of a scalar that no symmetry makes vanish."""
    generator = torch.Generator().manual_seed(1)
    total = sum((y * torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y.dtype)).sum() for y in outputs)
    return torch.autograd.grad(total, inputs)


def leaf(*shape):
    values = torch.randn(shape)
    return values.to(memory_format=LAST).requires_grad_() if len(shape) == 4 else values.requires_grad_()


def doubled(tensors):
    return [tensor.detach().double().requires_grad_() for tensor in tensors]


@pytest.fixture
def threads(request):
    """As many threads as asked for, within a test."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("activation", [nn.Identity, nn.ReLU, nn.ReLU6, nn.Hardswish])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("has_shortcut", [False, True])
def test_norm_activation_shortcut_and_averages_are_torchs(activation, shape, has_shortcut):
    channels = shape[1]
    inputs = [leaf(*shape), leaf(channels), leaf(channels)] + ([leaf(*shape)] if has_shortcut else [])
    with torch.no_grad():
        inputs[0].mul_(3).add_(50 * torch.randn(channels, 1, 1))  # means far from zero lose no digits
        inputs[1].mul_(4)
    running = torch.randn(channels), torch.rand(channels)
    theirs = [values.double() for values in running]
    norm = Normalization(Batch(*inputs[1:3], running, 0.1, 1e-5, ACTIVATIONS[activation]))
    deferred = Deferred(Measure.apply(*inputs[:3], norm), norm)
    y, averages = deferred.finish(inputs[3] if has_shortcut else None, wants_averages=True)
    wide = doubled(inputs)
    expected = activation()(F.batch_norm(wide[0], *theirs, wide[1], wide[2], True, 0.1, 1e-5))
    expected = expected + wide[3] if has_shortcut else expected
    assert y.is_contiguous(memory_format=LAST)
    close(y, expected, forward=True)
    close(averages, expected.mean((2, 3)), forward=True)
    for mine, right in zip(running, theirs, strict=True):
        close(mine, right, forward=True)
    mine, right = gradients((y, averages), inputs), gradients((expected, expected.mean((2, 3))), wide)
    for one, other in zip(mine, right, strict=True):
        close(one, other)


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_depthwise_convolutions_are_torchs(size, stride, per_image, shape):
    images, channels = shape[:2]
    inputs = [leaf(*shape), leaf(images if per_image else 1, channels, 1, size, size)]
    y = Conv.apply(*inputs, stride)
    wide = doubled(inputs)
    kernels = wide[1].expand(images, -1, -1, -1, -1)
    pairs = zip(wide[0], kernels, strict=True)
    expected = torch.stack([F.conv2d(x, kernel, None, stride, size // 2, 1, channels) for x, kernel in pairs])
    close(y, expected, forward=True)
    for one, other in zip(gradients((y,), inputs), gradients((expected,), wide), strict=True):
        close(one, other)


@pytest.mark.parametrize("threads", [1, 3], indirect=True)
@pytest.mark.parametrize("shape", [*SHAPES, (2, 13, 24, 30)])
@pytest.mark.parametrize("per_image", [False, True])
def test_pointwise_convolutions_and_averages_are_torchs(shape, per_image, threads):
    inputs = [leaf(*shape), leaf(shape[0] if per_image else 1, 10, shape[1], 1, 1)]
    y = Conv.apply(*inputs, 1)
    assert y.is_contiguous(memory_format=LAST)
    wide = doubled(inputs)
    kernels = wide[1].flatten(2).expand(shape[0], -1, -1)
    expected = torch.einsum("nihw,noi->nohw", wide[0], kernels)
    close(y, expected, forward=True)
    mine = gradients((y, Pool.apply(inputs[0])), inputs)
    for one, other in zip(mine, gradients((expected, wide[0].mean((2, 3))), wide), strict=True):
        close(one, other)


LAYERS = {
    "static pointwise": lambda: nn.Conv2d(12, 20, 1),
    "static depthwise": lambda: nn.Conv2d(12, 12, 3, 2, 1, groups=12),
    "dynamic pointwise": lambda: DynamicConv2d(12, 20, 1),
    "dynamic depthwise": lambda: DynamicConv2d(12, 12, 5, 1, 2, groups=12, bias=False),
    "dynamic 3 x 3": lambda: DynamicConv2d(12, 20, 3, 1, 1),
    "dynamic with stride": lambda: DynamicConv2d(12, 20, 1, 2),
    "condconv": lambda: DynamicConv2d(12, 20, 1, attention="sigmoid"),
    "decomposed": lambda: DCDConv2d(12, 20, 1),
    "decomposed depthwise": lambda: DCDConv2d(12, 12, 3, 1, 1, groups=12),
    "decomposed, without Lambda": lambda: DCDConv2d(12, 20, 1, use_lambda=False),
    "decomposed, projecting": lambda: DCDConv2d(12, 6, 1, bias=False),
    "decomposed, ten latent channels": lambda: DCDConv2d(12, 20, 1, latent_channels=10),
    "decomposed, not normalized": lambda: DCDConv2d(12, 20, 1, normalize=False),
    "decomposed depthwise 5 x 5": lambda: DCDConv2d(12, 12, 5, 2, 2, groups=12, bias=False),
    "decomposed, two blocks": lambda: DCDConv2d(12, 20, 1, num_blocks=2),
}


@pytest.mark.parametrize("threads", [1, 3], indirect=True)
@pytest.mark.parametrize("height", [6, 1])  # a decomposed layer computes many pixels otherwise than few
@pytest.mark.parametrize("images", [1, 5])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_learn_what_they_learn_in_torch(name, images, height, threads):
    conv = LAYERS[name]()
    right = ConvNormAct(conv, conv.out_channels, nn.Hardswish(inplace=True)).double()
    for parameter in right.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    mine = use_native_training(copy.deepcopy(right).float()).to(memory_format=LAST)
    x = leaf(images, 12, height, 7)
    wide = x.detach().double().requires_grad_()
    y, expected = mine(x), right(wide)
    close(y, expected, forward=True)
    parameters = dict(right.named_parameters())
    for one, other in zip(
        gradients((y,), [x, *(dict(mine.named_parameters())[key] for key in parameters)]),
        gradients((expected,), [wide, *parameters.values()]),
        strict=True,
    ):
        close(one, other)
    for key, value in right.named_buffers():
        close(mine.get_buffer(key).double(), value.double(), forward=True)


@pytest.mark.parametrize("channels", [6, 24])
@pytest.mark.parametrize("kernel", [1, 3])
def test_images_of_other_channels_are_refused_as_torch_does(kernel, channels):
    convs = [nn.Conv2d(12, 12, kernel, padding=kernel // 2, groups=12 if kernel > 1 else 1, bias=False)]
    convs += [DynamicConv2d(12, 20, 1), DCDConv2d(12, 20, 1)] if kernel == 1 else []
    for conv in convs:
        block = use_native_training(ConvNormAct(conv, conv.out_channels, nn.ReLU())).train()
        with pytest.raises(RuntimeError, match="channels|shapes cannot be multiplied"):
            block(torch.randn(2, channels, 6, 7).to(memory_format=torch.channels_last))


@pytest.mark.parametrize("shape", [(2, 20, 3, 3), (1, 20, 6, 7), (2, 1, 6, 7)])
def test_a_shortcut_of_another_shape_is_added_or_refused_as_torch_does(shape):
    block = use_native_training(ConvNormAct(nn.Conv2d(12, 20, 1, bias=False), 20, nn.Identity())).train()
    x, shortcut = torch.randn(2, 12, 6, 7), torch.randn(shape)
    if shape[2:] == (3, 3):
        with pytest.raises(RuntimeError, match="size of tensor"):
            block(x, shortcut)
        return
    torch.testing.assert_close(block(x, shortcut), block(x) + shortcut)


@pytest.mark.parametrize("kind", ["static", "dynamic", "dcd"])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6, nn.Hardswish])
@pytest.mark.parametrize(("size", "stride"), [(3, 1), (5, 2)])
def test_a_bottleneck_that_normalizes_as_it_reads_learns_what_torchs_does(kind, activation, size, stride):
    maker = dict(static=StaticConvs(), dynamic=DynamicConvs(), dcd=DCDConvs())[kind]
    right = InvertedResidual(10, 10, 36, maker, 4, size, stride, activation=activation).double()
    for parameter in right.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    mine = use_native_training(copy.deepcopy(right).float()).to(memory_format=LAST)
    kept = mine.expand.deferred(torch.randn(2, 10, 4, 4))
    assert isinstance(kept, Deferred) and isinstance(mine.depthwise.deferred(kept), Deferred)
    mine.load_state_dict(right.state_dict())
    with torch.no_grad():
        right.load_state_dict(mine.state_dict())
    inputs = leaf(3, 10, 9, 7), *mine.parameters()
    wide = inputs[0].detach().double().requires_grad_(), *right.parameters()
    for _ in range(2):  # nothing is left over from one batch for the next
        y, expected = mine(inputs[0]), right(wide[0])
        close(y, expected, forward=True)
        for one, other in zip(gradients((y,), inputs), gradients((expected,), wide), strict=True):
            close(one, other)
    for key, value in right.named_buffers():
        close(mine.get_buffer(key).double(), value.double(), forward=True)


def test_a_bottleneck_that_is_watched_shows_what_torchs_shows():
    stock = InvertedResidual(8, 12, 24, StaticConvs(), 4)
    mine = use_native_training(copy.deepcopy(stock))
    x, seen = torch.randn(2, 8, 5, 5), ([], [])
    for model, values in zip((stock, mine), seen, strict=True):
        for module in (model.expand.conv, model.depthwise, model.project):
            module.register_forward_hook(lambda module, given, y, values=values: values.append(y.detach().clone()))
        model(x)
    assert len(seen[0]) == len(seen[1]) == 3
    for one, other in zip(*seen, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_bottleneck_hands_averages_on_and_a_shortcut_is_added(monkeypatch):
    def make_conv(ins, outs, size, stride=1, groups=1, **place):
        return DynamicConv2d(ins, outs, size, stride, size // 2, groups=groups)

    block = InvertedResidual(8, 8, 24, make_conv, 4)
    mine = use_native_training(nn.Sequential(copy.deepcopy(block), copy.deepcopy(block)))
    right = nn.Sequential(copy.deepcopy(block), copy.deepcopy(block)).double()
    x = leaf(3, 8, 6, 5)
    wide = x.detach().double().requires_grad_()
    pooled = []
    pool = Pool.apply
    monkeypatch.setattr(Pool, "apply", lambda features: pooled.append(features) or pool(features))
    y, expected = mine(x), right(wide)
    assert len(pooled) == 1 and pooled[0] is x  # every other attention reads what a normalisation has averaged
    close(y, expected, forward=True)
    close(gradients((y,), [x])[0], gradients((expected,), [wide])[0])


def network(kind):
    torch.manual_seed(3)
    backbone = dict(type="mobilenet_v2", width=0.2, depth=0.5, out_stride=16, last_channels=32, conv=dict(type=kind))
    head = dict(type="bottleneck", stages=((48, 16, 1), (48, 16, 1)), conv=dict(type=kind))
    model = build_pose_net(backbone, head, 5)
    nn.init.normal_(model.head.final.weight)
    return model


def batch(count=6):
    return torch.randn(count, 3, 64, 64), torch.rand(count, 5, 16, 16), torch.ones(count, 5)


def network_gradient(model, images):
    y = model(images)
    (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)).mean().backward()
    return y.detach().double(), torch.cat([p.grad.double().flatten() for p in model.parameters()])


@pytest.mark.parametrize("kind", KINDS)
def test_a_networks_gradients_are_as_near_to_the_right_ones_as_torchs(kind):
    stock = network(kind)
    right, mine = copy.deepcopy(stock).double(), use_native_training(copy.deepcopy(stock)).to(memory_format=LAST)
    names = list(stock.state_dict())
    assert list(mine.state_dict()) == names
    images = batch()[0]
    expected, gradient = network_gradient(right, images.double())
    theirs, their_gradient = network_gradient(stock, images)
    y, own_gradient = network_gradient(mine, images)
    size = gradient.norm()
    assert (y - expected).norm() <= 3 * (theirs - expected).norm() + 1e-5 * expected.norm()
    assert (own_gradient - gradient).norm() <= 3 * (their_gradient - gradient).norm() + 1e-4 * size
    for name, value in right.named_buffers():
        close(mine.get_buffer(name).double(), value.double() + 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_in_evaluation_and_in_other_precisions_a_network_is_what_it_was(kind):
    stock, images = network(kind), batch(2)[0]
    mine = use_native_training(copy.deepcopy(stock))
    for dtype in (torch.float32, torch.float64):
        for training_mode in (False, True) if dtype == torch.float64 else (False,):
            stock.to(dtype).train(training_mode), mine.to(dtype).train(training_mode)
            with torch.no_grad():
                assert torch.equal(stock(images.to(dtype)), mine(images.to(dtype)))
    assert same(stock.state_dict(), mine.state_dict())


def test_one_value_per_channel_is_normalized_as_in_evaluation():
    norm = SafeBatchNorm2d(4)
    mine = use_native_training(copy.deepcopy(norm))
    x = torch.randn(1, 4, 1, 1)
    torch.testing.assert_close(mine(x), norm(x))
    assert same(norm.state_dict(), mine.state_dict())


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_goes_on_to_the_last_bit_and_torchs_checkpoints_are_taken(kind, tmp_path):
    data = batch(4)
    trainer = Trainer(network(kind), CPU, native=True, average_decay=0.5)
    trainer.set_learning_rate(1e-3)
    trainer.learn(*data)
    state = copy.deepcopy(trainer.state_dict())
    losses = [trainer.learn(*data).item() for _ in range(2)]
    resumed = Trainer(network(kind), CPU, native=True, average_decay=0.5)
    resumed.load_state_dict(state, tmp_path)
    assert [resumed.learn(*data).item() for _ in range(2)] == losses
    assert same(resumed.state_dict(), trainer.state_dict())
    stock = Trainer(network(kind), CPU, average_decay=0.5)
    stock.load_state_dict(state, tmp_path)
    assert stock.learn(*data).item() == pytest.approx(losses[0], rel=1e-4)
    assert not stock.optimizer.param_groups[0]["fused"]
    resumed.load_state_dict(stock.state_dict(), tmp_path)
    assert resumed.optimizer.param_groups[0]["fused"]
    resumed.learn(*data)


@pytest.mark.parametrize("native", [False, True])
def test_kernels_mixed_again_give_the_same_gradients(native):
    kept, again = (Trainer(network("dynamic"), CPU, native=native, recompute_kernels=r) for r in (False, True))
    images = batch()[0].contiguous(memory_format=kept.memory_format)
    torch.testing.assert_close(
        network_gradient(again.model, images), network_gradient(kept.model, images), rtol=1e-6, atol=1e-9
    )


def saved_bytes(layer, x):
    """What the backward pass keeps, each storage once, without parameters and the input."""
    known = {value.untyped_storage().data_ptr() for value in (x, *layer.parameters(), *layer.buffers())}
    storages = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = layer(x)
    assert kept.requires_grad
    return sum(storages.values())


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("shape", [(64, 48, 1, 0, 1), (64, 64, 3, 1, 64)])
def test_kernels_that_are_mixed_again_are_not_kept(native, shape):
    ins, outs, size, padding, groups = shape
    layer = DynamicConv2d(ins, outs, size, padding=padding, groups=groups, bias=False)
    layer = use_native_training(layer) if native else layer
    x = torch.randn(16, ins, 4, 4).requires_grad_()
    bytes_kept = kernel_bytes(layer, 16)
    assert bytes_kept == 16 * outs * ins // groups * size**2 * 4
    kept = saved_bytes(layer, x)
    layer.recompute = True
    assert (kept >= bytes_kept) == (not native or size > 1)
    assert saved_bytes(layer, x) < bytes_kept


@pytest.mark.parametrize("choices", [dict(device=torch.device("cuda")), dict(compile=True)])
def test_what_cannot_be_native_is_refused(choices):
    with pytest.raises(OptionError, match="train.native"):
        Trainer(nn.Conv2d(3, 3, 1), **{"device": CPU, **choices}, native=True)


def test_no_compiler_is_one_warning_and_torchs_way(monkeypatch):
    def fail():
        raise NativeError("native layers cannot be built (no compiler)")

    monkeypatch.setattr(training, "load", fail)
    training.available.cache_clear()
    try:
        with pytest.warns(UserWarning, match="no compiler.*more slowly"):
            model = use_native_training(network("dynamic"))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            trainer = Trainer(model, CPU, native=True)
        assert type(trainer.model.backbone.stem) is ConvNormAct
        assert trainer.learn(*batch(2)).isfinite()
    finally:
        training.available.cache_clear()
