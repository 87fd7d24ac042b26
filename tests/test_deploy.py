"""Deployed networks answer as the networks in evaluation mode do, in every form, and leave those alone."""

import copy
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pose.benchmark import BenchmarkError, Case, Entry, compare, table
from pose.models import native
from pose.models.deploy.folding import deploy
from pose.models.dynamic.base import DynamicLayer
from pose.models.dynamic.dcd import DCDConv2d
from pose.models.dynamic.dynamic_conv import DynamicConv2d
from pose.models.layers import ConvNormAct
from pose.models.pose_net import build_pose_net
from pose.native.library import NativeError, load_inference

CLOSE = 1e-4
BACKBONES = (
    dict(type="mobilenet_v2", width=0.1),
    dict(type="mobilenet_v3_small"),
    dict(type="resnet", depth=10),
)
CONVS = (
    dict(type="static"),
    dict(type="dynamic"),
    dict(type="dynamic", attention="sigmoid"),
    dict(type="condconv"),
    dict(type="dcd"),
    dict(type="dcd", roles=["expand", "depthwise", "project", "3x3"], num_blocks=2, fusion="joint"),
    dict(type="dcd", use_lambda=False),
    dict(type="dcd", use_phi=False),
)
ACTIVATIONS = (nn.Identity, nn.ReLU, nn.ReLU6, nn.Hardswish, nn.SiLU)


@pytest.fixture(scope="module", autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module", params=[False, True], ids=["operations", "native"])
def fused(request) -> bool:
    if request.param:
        request.getfixturevalue("native_layers")
    return request.param


def trained(model: nn.Module, seed: int = 0) -> nn.Module:
    """Statistics, affine parameters and biases as no initialisation leaves them."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.3)
        elif isinstance(module, DynamicConv2d):
            for linear in (module.attention.fc1, module.attention.fc2):
                if linear is not None:
                    linear.bias.normal_()
    return model.eval()


def assert_close(answer: torch.Tensor, expected: torch.Tensor, tolerance: float = CLOSE) -> None:
    torch.testing.assert_close(answer, expected, rtol=0, atol=tolerance * max(1.0, expected.abs().max().item()))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_dynamic_layer_its_normalization_and_activation_fold_into_one(fused, data):
    draw = data.draw
    depthwise = draw(st.booleans())
    channels = draw(st.integers(1, 150))
    outputs = channels if depthwise else draw(st.integers(1, 40))
    conv = DynamicConv2d(
        channels,
        outputs,
        draw(st.sampled_from([1, 3, 5, (1, 3)])),
        draw(st.integers(1, 2)),
        draw(st.integers(0, 2)),
        draw(st.integers(1, 2)),
        channels if depthwise else 1,
        bias=draw(st.booleans()),
        padding_mode=draw(st.sampled_from(["zeros", "replicate"])),
        num_kernels=draw(st.integers(1, 6)),
        temperature=draw(st.sampled_from([1.0, 30.0])),
        attention=draw(st.sampled_from(["softmax", "sigmoid"])),
    )
    activation = draw(st.sampled_from(ACTIVATIONS))()
    layer = trained(ConvNormAct(conv, outputs, activation), draw(st.integers(0, 99)))
    x = torch.randn(draw(st.integers(1, 3)), channels, draw(st.integers(9, 13)), draw(st.integers(9, 13)))
    if draw(st.booleans()):
        x = x.to(memory_format=torch.channels_last)
    deployed = deploy(layer, fused=fused)
    assert not any(isinstance(module, nn.BatchNorm2d | DynamicConv2d) for module in deployed.modules())
    assert_close(deployed(x), layer(x))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_decomposed_layer_its_normalization_and_activation_fold_into_one(fused, data):
    draw = data.draw
    depthwise = draw(st.booleans())
    channels = draw(st.sampled_from([4, 8, 32, 48]))
    outputs = channels if depthwise else draw(st.sampled_from([4, 16, 40]))
    kernel = 3 if depthwise else draw(st.sampled_from([1, 3]))
    conv = DCDConv2d(
        channels,
        outputs,
        kernel,
        draw(st.integers(1, 2)),
        draw(st.integers(0, 1)),
        groups=channels if depthwise else 1,
        bias=draw(st.booleans()),
        use_lambda=draw(st.booleans()),
        num_blocks=draw(st.sampled_from([1, 2])),
        fusion=draw(st.sampled_from(["channel", "joint"])),
        normalize=draw(st.booleans()),
    )
    layer = trained(ConvNormAct(conv, outputs, nn.ReLU6()), draw(st.integers(0, 99)))
    nn.init.normal_(conv.branch.to_phi.weight)
    x = torch.randn(draw(st.integers(1, 3)), channels, draw(st.integers(3, 12)), draw(st.integers(3, 12)))
    assert_close(deploy(layer, fused=fused)(x), layer(x))


@settings(max_examples=14, deadline=None, derandomize=True)
@given(
    backbone=st.sampled_from(BACKBONES),
    conv=st.sampled_from(CONVS),
    head=st.sampled_from(["deconv", "bottleneck"]),
    batch=st.integers(1, 3),
    height=st.integers(1, 3),
    width=st.integers(1, 3),
    seed=st.integers(0, 9),
)
def test_every_network_gives_the_same_heatmaps(fused, backbone, conv, head, batch, height, width, seed):
    section = dict(type=head, **({"conv": conv} if head == "bottleneck" else {"channels": (16, 16, 16)}))
    model = trained(build_pose_net(dict(backbone, conv=conv), section), seed)
    nn.init.normal_(model.head.final.weight, std=0.1)
    x = torch.randn(batch, 3, 32 * height, 32 * width)
    assert_close(deploy(model, fused=fused)(x), model(x))


def test_the_network_itself_is_left_alone(fused):
    model = build_pose_net(
        dict(BACKBONES[0], conv=dict(type="dcd")), dict(type="bottleneck", conv=dict(type="dynamic"))
    )
    model.train()
    before = copy.deepcopy(model.state_dict())
    deployed = deploy(model, fused=fused)
    assert model.training and not deployed.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    shared = {p.data_ptr() for p in model.parameters()} & {t.data_ptr() for t in deployed.state_dict().values()}
    assert not shared - {0}
    assert not any(parameter.requires_grad for parameter in deployed.parameters())


SMALL = {
    "static": lambda: nn.Conv2d(3, 16, 3, padding=1),
    "deconvolution": lambda: nn.ConvTranspose2d(3, 16, 4, 2, 1),
    "dynamic": lambda: DynamicConv2d(3, 16, 3, padding=1),
    "dynamic, sixteen hidden": lambda: DynamicConv2d(64, 16, 1),
    "dynamic depthwise": lambda: DynamicConv2d(3, 3, 3, padding=1, groups=3),
    "condconv": lambda: DynamicConv2d(3, 16, 3, padding=1, attention="sigmoid"),
    "decomposed": lambda: DCDConv2d(3, 16, 1),
    "decomposed depthwise": lambda: DCDConv2d(3, 3, 3, padding=1, groups=3),
}


@pytest.mark.parametrize("has_norm", [False, True])
@pytest.mark.parametrize("name", SMALL)
def test_a_small_layer_runs_where_gradients_are_computed(fused, name, has_norm):
    with torch.enable_grad():
        conv = SMALL[name]()
        layer = (ConvNormAct(conv, conv.out_channels, nn.ReLU()) if has_norm else conv).eval()
        deployed, x = deploy(layer, fused=fused), torch.randn(2, conv.in_channels, 8, 6)
        assert not any(tensor.requires_grad for tensor in (*deployed.parameters(), *deployed.buffers()))
        assert_close(deployed(x), layer(x).detach())
        folded = conv.fold() if isinstance(conv, DynamicConv2d) else deployed  # by itself it has no gradients either
        assert not any(tensor.requires_grad for tensor in folded.buffers())


def test_a_bfloat16_bank_rounds_the_kernels_and_nothing_else(fused):
    layer = trained(ConvNormAct(DynamicConv2d(64, 32, 1, bias=False), 32, nn.ReLU()))
    x = torch.randn(2, 64, 9, 7)
    deployed = deploy(layer, fused=fused, bank_dtype=torch.bfloat16)
    answer = deployed(x)
    assert answer.dtype == torch.float32
    half = torch.int16 if fused else torch.bfloat16  # native layers keep its bits where no cast of floats finds them
    assert {t.dtype for t in deployed.state_dict().values()} == {torch.float32, half}
    assert_close(answer, layer(x), 1e-2)
    layer.conv.weight.copy_(layer.conv.weight.bfloat16())
    for name in ("weight", "running_var"):
        getattr(layer.norm, name).fill_(1)
    layer.norm.eps = 0.0
    layer.conv.attention.fc1.weight.copy_(layer.conv.attention.fc1.weight.bfloat16())
    tolerance = CLOSE if fused else 1e-2  # torch operations round the shares too
    assert_close(deploy(layer, fused=fused, bank_dtype=torch.bfloat16)(x), layer(x), tolerance)


def test_sigmoid_shares_do_not_multiply_the_shift_of_the_normalization(fused):
    layer = trained(ConvNormAct(DynamicConv2d(3, 2, 1, bias=False, attention="sigmoid"), 2))
    nn.init.zeros_(layer.conv.weight)
    expected = (layer.norm.bias - layer.norm.running_mean * layer.norm.weight / layer.norm.running_var.sqrt())[:, None]
    answer = deploy(layer, fused=fused)(torch.randn(1, 3, 2, 2))
    torch.testing.assert_close(answer[0].flatten(1), expected.expand(-1, 4), rtol=1e-4, atol=1e-4)


def test_deploying_refuses_a_precision_that_there_is_no_bank_of():
    with pytest.raises(ValueError, match="bank_dtype must be float32, bfloat16 or int8"):
        deploy(nn.Conv2d(3, 3, 1), bank_dtype=torch.float16)
    with pytest.raises(ValueError, match="must be float32, got torch.float64"):
        deploy(nn.Conv2d(3, 3, 1).double())


def test_without_a_compiler_one_warning_says_so_and_torch_operations_take_over(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))  # where nothing is built yet
    monkeypatch.setenv("PATH", "")
    load_inference.cache_clear()
    native.available.cache_clear()
    layer = trained(ConvNormAct(DynamicConv2d(3, 2, 1), 2))
    x = torch.randn(1, 3, 4, 4)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            answers = [deploy(layer)(x) for _ in range(2)]
        assert [str(warning.message).count("no C++ compiler") for warning in caught] == [1]
        for answer in answers:
            assert_close(answer, layer(x))
        with pytest.raises(NativeError, match="compiler"):
            deploy(layer, fused=True)
    finally:
        monkeypatch.undo()
        load_inference.cache_clear()
        native.available.cache_clear()


@pytest.mark.parametrize("missing", ["wish", "compiler", "device"])
def test_eight_bits_without_native_layers_are_refused(monkeypatch, missing):
    """Never a network in float32 in their place."""
    if missing == "compiler":
        monkeypatch.setattr(native, "available", lambda: False)
    conv = DynamicConv2d(8, 8, 1, device="meta" if missing == "device" else None)
    with pytest.raises(ValueError, match="int8 bank is for native layers, which need a CPU and a C"):
        deploy(conv, fused=False if missing == "wish" else None, bank_dtype=torch.int8)


class Doubled(DynamicLayer):
    """A layer with the family's defaults alone."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 1)
        self.weight, self.bias = nn.Parameter(torch.randn(channels, channels, 1, 1)), None

    def kernel(self, x):
        return (2 * self.weight).expand(len(x), -1, -1, -1, -1), None


@pytest.mark.usefixtures("native_layers")
@pytest.mark.parametrize(
    ("bank", "fused", "left"),
    [(torch.int8, True, 4), (torch.bfloat16, True, 2), (torch.bfloat16, False, 3), (torch.float32, True, 0)],
)
def test_layers_that_keep_float32_are_counted(bank, fused, left):
    mirrored = DynamicConv2d(8, 8, 3, padding=1, padding_mode="reflect")  # has no native form
    grouped = DynamicConv2d(8, 8, 1, groups=2)
    decomposed = DCDConv2d(8, 8, 1), DCDConv2d(8, 8, 3, padding=1, groups=8)
    model = nn.Sequential(mirrored, grouped, DynamicConv2d(8, 8, 1), *decomposed, Doubled(8))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        deployed = deploy(model, fused=fused, bank_dtype=bank)
    assert deployed(torch.randn(1, 8, 5, 5)).shape == (1, 8, 5, 5)
    told = [f"dynamic layers without a form in {bank}, kept in float32: {left}"] if left else []
    assert [str(warning.message).partition(", first")[0] for warning in caught] == told


def test_the_benchmark_refuses_to_compare_unlike_with_unlike():
    folded, plain = deploy(nn.Conv2d(3, 2, 1), fused=False), ConvNormAct(nn.Conv2d(3, 2, 1), 2).eval()
    for other, reason in (
        (Entry(folded, "another"), "architecture differs"),
        (Entry(folded, "net", torch.contiguous_format), "memory_format differs"),
        (Entry(plain, "net"), "other is not deployed"),
        (Entry(folded, "net", base="another"), "no another for other"),
    ):
        with pytest.raises(BenchmarkError, match=reason):
            Case("title", (1, 3, 4, 4), {"static": Entry(folded, "net"), "other": other})
    case = Case("title", (1, 3, 4, 4), {"static": Entry(folded, "net"), "other": Entry(folded, "net", target=1.1)})
    timings = compare(case, rounds=2, runs=1)
    assert timings["static"].ratio == 1.0 and timings["other"].seconds > 0
    assert table(case, timings)[0] == "**title, batch 1, 4 x 4**"
    assert table(case, timings)[2] == "| network | ms | ratio | quartiles | target | paper |"


def test_a_ratio_is_to_the_network_of_the_same_form(monkeypatch):
    made = {name: deploy(nn.Conv2d(3, 2, 1), fused=False) for name in ("torch", "native", "dynamic")}
    seconds = dict(zip(made.values(), (4e-3, 2e-3, 3e-3), strict=True))
    monkeypatch.setattr("pose.benchmark._time", lambda network, x: seconds[network])
    bases = {"torch": None, "native": None, "dynamic": "native"}
    case = Case("title", (1, 3, 4, 4), {name: Entry(made[name], "net", base=bases[name]) for name in made})
    timings = compare(case, rounds=2, runs=1)
    assert [round(timing.ratio, 9) for timing in timings.values()] == [1.0, 0.5, 1.5]
    lines = table(case, timings)
    assert lines[2] == "| network | ms | to torch | ratio | quartiles | target | paper |"
    assert lines[-2] == "| dynamic | 3.00 | 0.75 | 1.500 | 1.50 to 1.50 |  |  |"
