"""Native layers answer as torch's operations do, whatever the shapes, the threads and the batch."""

import copy
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pose.config import TestSettings as Choices
from pose.detection.network import DetectionNet
from pose.models.backbones.resnet import BasicBlock
from pose.models.deploy.folding import deploy
from pose.models.dynamic.dcd import DCDConv2d
from pose.models.dynamic.dynamic_conv import DynamicConv2d
from pose.models.dynamic.folded_dcd import NativeDCDConv2d
from pose.models.dynamic.makers import DynamicConvs, StaticConvs
from pose.models.heads import BottleneckHead, DeconvHead
from pose.models.layers import ConvNormAct, InvertedResidual, SqueezeExcitation
from pose.models.native.inference.layers import (
    NativeConv2d,
    NativeLayer,
    NativeMaxPool,
    NativeModule,
    NativeSequence,
    NativeSqueezeExcitation,
    NativeUpsample,
    interleave,
    pack_panels,
)
from pose.models.native.inference.times import layer_times
from pose.models.pose_net import build_pose_net
from pose.native import library
from pose.options import OptionError
from pose.prediction import ready_for_testing


@pytest.fixture(scope="module", autouse=True)
def _built(native_layers):
    with torch.no_grad():
        yield


@pytest.fixture
def threads():
    """Sets how many threads torch has; as many as before afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def assert_same(answer: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(answer, expected, rtol=0, atol=tolerance * max(1.0, expected.abs().max().item()))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_static_convolution_and_its_activation(data):
    draw = data.draw
    depthwise = draw(st.booleans())
    channels = draw(st.integers(1, 90))
    outputs = channels if depthwise else draw(st.integers(1, 90))
    kernel = draw(st.sampled_from([1, 3, 5, 2, (1, 3), (5, 2)]))
    geometry = (draw(st.integers(1, 3)), draw(st.integers(0, 3)), draw(st.integers(1, 2)))
    conv = nn.Conv2d(channels, outputs, kernel, *geometry, channels if depthwise else 1, draw(st.booleans()))
    activation = draw(st.sampled_from([nn.Identity, nn.ReLU, nn.ReLU6, nn.Hardswish]))()
    deployed = deploy(nn.Sequential(ConvNormAct(conv, outputs, activation)).eval())
    assert all(isinstance(module, NativeLayer | NativeSequence | nn.ModuleList) for module in deployed.modules())
    x = 3 * torch.randn(draw(st.integers(1, 3)), channels, draw(st.integers(9, 30)), draw(st.integers(9, 30)))
    assert_same(deployed(x), activation(conv(x) * (1 + 1e-5) ** -0.5))


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("size", [(64, 48, 41, 60), (600, 40, 9, 11), (3, 16, 70, 70), (30, 8, 50, 50)], ids=str)
def test_pictures_of_more_pixels_than_the_cache_takes(size, kernel, count, threads):
    """Several blocks of pixels, several panels together, and rests of both, shared out among threads or not."""
    channels, outputs, height, width = size
    conv, x = nn.Conv2d(channels, outputs, kernel, padding=kernel // 2), torch.randn(1, channels, height, width)
    expected, deployed = conv(x), deploy(conv)
    threads(count)
    assert_same(deployed(x), expected)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("convs", [StaticConvs(), DynamicConvs()], ids=["static", "dynamic"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("kernel", "size", "channels"),
    [(5, (11, 7), 48), (5, (50, 61), 32), (5, (8, 6), 40), (3, (70, 81), 48)],
    ids=["small", "several strips", "half a panel", "larger than the cache"],
)
def test_what_passes_by_planes(kernel, size, channels, stride, convs, count, threads):
    """A product leaves its image by planes where the depthwise layer after it reads them: any 5 x 5, a large 3 x 3."""
    block = InvertedResidual(16, 24, channels, convs, 4, kernel, stride, activation=nn.Hardswish).eval()
    x = torch.randn(1, 16, *size)
    expected, deployed = block(x), deploy(block)
    assert isinstance(deployed, NativeSequence)
    threads(count)
    assert_same(deployed(x), expected)


DEPTHWISE = {
    "3": (3, 1, 1),
    "3, stride 2": (3, 2, 1),
    "5": (5, 1, 2),
    "7": (7, 1, 3),
    "2": (2, 1, 1),
    "3, no padding": (3, 1, 0),
    "3, dilated": (3, 1, 2, 2),
}
"""Kernel, stride, padding and dilation of depthwise layers, of which some go by planes and some do not."""


@pytest.mark.parametrize("conv", [nn.Conv2d, DynamicConv2d], ids=["static", "dynamic"])
@pytest.mark.parametrize("second", DEPTHWISE)
@pytest.mark.parametrize("first", DEPTHWISE)
def test_depthwise_layers_that_follow_each_other(first, second, conv):
    layers = [ConvNormAct(nn.Conv2d(8, 48, 1), 48, nn.ReLU())]
    for kernel, stride, padding, *dilation in (DEPTHWISE[first], DEPTHWISE[second]):
        layers.append(ConvNormAct(conv(48, 48, kernel, stride, padding, *dilation, groups=48), 48, nn.Identity()))
    network = nn.Sequential(*layers, ConvNormAct(nn.Conv2d(48, 8, 1), 8, nn.Identity())).eval()
    x = torch.randn(1, 8, 71, 83)  # 48 channels of it are more than the cache takes
    assert_same(deploy(network)(x), network(x))
    small = torch.randn(1, 8, 12, 13)
    assert_same(deploy(network)(small), network(small))


@pytest.mark.parametrize("layer", [nn.Conv2d(4, 5, 3, 2), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 5, 1)], ids=str)
@pytest.mark.parametrize("size", [(2, 9), (9, 2), (0, 9), (9, 9)], ids=str)
def test_a_kernel_larger_than_its_image_is_refused_where_torch_refuses_it(layer, size):
    x, deployed = torch.randn(1, 4, *size), deploy(layer)
    try:
        expected = layer(x)
    except RuntimeError:
        expected = None
    if expected is None or not expected.numel():
        with pytest.raises(RuntimeError, match="larger than its image"):
            deployed(x)
    else:
        assert_same(deployed(x), expected)


@pytest.mark.parametrize("size", [3, 60], ids=["factors", "one kernel"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("use_lambda", [True, False])
def test_a_decomposed_layer_in_both_its_forms(size, stride, kernel, use_lambda):
    """Small images take the factors, large ones one kernel."""
    conv = DCDConv2d(48, 40, kernel, stride, kernel // 2, use_lambda=use_lambda)
    layer = ConvNormAct(conv, 40, nn.ReLU()).eval()
    nn.init.normal_(conv.branch.to_phi.weight, std=0.1)
    for norm in (layer.norm, conv.residual.norm_in, conv.residual.norm_out):
        norm.running_mean.normal_(0, 0.3)
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.normal_(0, 0.3)
    x = torch.randn(2, 48, size, size)
    assert conv.fold().assembling_is_less(size, size) == (size == 60)
    deployed = deploy(layer)
    assert isinstance(deployed, NativeDCDConv2d)
    assert_same(deployed(x), layer(x), 1e-4)


NETWORKS = {
    "static": (dict(type="mobilenet_v3_small"), dict(type="static")),
    "dynamic": (dict(type="mobilenet_v2", width=0.1), dict(type="dynamic")),
    "condconv": (dict(type="mobilenet_v2", width=0.1), dict(type="condconv")),
    "decomposed": (dict(type="resnet", depth=10), dict(type="dcd")),
}


def network_of(name: str) -> nn.Module:
    """A pose network whose normalisations, heatmaps and dynamic parts all matter."""
    torch.manual_seed(0)
    backbone, conv = NETWORKS[name]
    model = build_pose_net(dict(backbone, conv=conv), dict(type="bottleneck", conv=conv)).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.weight.uniform_(0.5, 1.5)
        elif isinstance(module, DCDConv2d):
            nn.init.normal_(module.branch.to_phi.weight, std=0.03)
    nn.init.normal_(model.head.final.weight, std=0.1)
    return model


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("count", [2, 3])
def test_threads_change_nothing(name, count, threads):
    model, x = network_of(name), torch.randn(5, 3, 64, 32)
    deployed, expected = deploy(model), model(x)
    threads(count)
    for images in (1, 2, 5):  # pixels and panels shared out, images one by one, images shared out
        assert_same(deployed(x[:images]), expected[:images])


@pytest.mark.parametrize("name", NETWORKS)
def test_an_image_alone_is_the_same_image_in_a_batch(name):
    deployed, x = deploy(network_of(name)), torch.randn(3, 3, 64, 32)
    assert torch.equal(deployed(x), torch.cat([deployed(image) for image in x.split(1)]))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_one_native_sequence_from_its_image_to_its_heatmaps(name):
    deployed = deploy(network_of(name))
    assert isinstance(deployed, NativeSequence)
    assert all(isinstance(module, NativeModule | nn.ModuleList | nn.Identity) for module in deployed.modules())


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (7, 4)], ids=str)
def test_layers_that_change_an_image_s_size(size):
    x = torch.randn(2, 12, *size)
    head = BottleneckHead(12, 3, stages=((24, 16, 1), (16, 8, 1))).eval()
    layers = {
        "bilinear": (head, deploy(head)),
        "deconvolution": (deconv := nn.ConvTranspose2d(12, 20, 4, 2, 1), deploy(deconv)),
        "type A": (head := trained_type_a(12), deploy(head)),
        "pool": (pool := nn.MaxPool2d(3, 2, 1), deploy(pool)),
        "pool, two sizes": (pool := nn.MaxPool2d((1, 2), (1, 3), (0, 1)), deploy(pool)),
    }
    for name, (layer, deployed) in layers.items():
        assert isinstance(deployed, NativeModule), name
        assert_same(deployed(x), layer(x))
    assert isinstance(deploy(nn.MaxPool2d(2, ceil_mode=True)), nn.MaxPool2d)
    assert isinstance(deploy(nn.ConvTranspose2d(4, 4, 2, 2)), nn.ConvTranspose2d)


def trained_type_a(in_channels: int) -> nn.Module:
    """A head whose normalisations do something."""
    head = DeconvHead(in_channels, 5, (20, 18)).eval()
    for module in head.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.3)
    return head


def test_a_network_that_takes_blue_first_and_a_detector_are_native_too():
    conv = dict(type="static")
    swapped = build_pose_net(dict(type="mobilenet_v2", width=0.1), dict(type="bottleneck", conv=conv), 17, "bgr").eval()
    x = torch.randn(2, 3, 64, 96)
    for network in (swapped, DetectionNet(0.1, (16, 8, 24)).eval()):
        deployed = deploy(network)
        assert isinstance(deployed, NativeSequence)
        assert_same(deployed(x), network(x), 1e-4)


@pytest.mark.parametrize("bank", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_deployed_network_can_be_copied_saved_and_cast(name, bank, tmp_path):
    deployed, x = deploy(network_of(name), bank_dtype=bank), torch.randn(1, 3, 64, 32)
    expected = deployed(x)
    torch.save(deployed, tmp_path / "network.pth")
    loaded = torch.load(tmp_path / "network.pth", weights_only=False)
    for other in (copy.deepcopy(deployed), loaded, deployed.to("cpu").float()):
        assert torch.equal(other(x), expected)


def test_a_saved_network_runs_in_a_program_that_has_built_nothing_yet(tmp_path):
    torch.save(deploy(nn.Conv2d(3, 4, 1)), tmp_path / "network.pth")
    code = "import sys, torch; torch.load(sys.argv[1], weights_only=False)(torch.zeros(1, 3, 2, 2))"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "network.pth")], check=True)


def test_loaded_weights_are_the_ones_it_runs_with():
    deployed, x = deploy(network_of("dynamic")), torch.randn(1, 3, 64, 32)
    assert deployed(x).any()
    zeros = {name: torch.zeros_like(value) for name, value in deployed.state_dict().items()}
    deployed.load_state_dict(zeros, assign=True)
    assert not deployed(x).any()


@pytest.mark.parametrize("conv", [DynamicConv2d(40, 50, 1), DynamicConv2d(24, 24, 3, padding=1, groups=24)], ids=str)
def test_a_bfloat16_bank_is_the_kernels_rounded(conv):
    """Rounded beforehand, kernels and first matrix lose nothing more, whatever order they are in memory."""
    layer = ConvNormAct(conv, conv.out_channels).eval()
    layer.norm.eps = 0.0
    conv.weight.copy_(conv.weight.bfloat16())
    conv.attention.fc1.weight.copy_(conv.attention.fc1.weight.bfloat16())
    x = torch.randn(2, conv.in_channels, 7, 9)
    deployed = deploy(layer, bank_dtype=torch.bfloat16)
    assert deployed.bank.dtype == deployed.w1.dtype == torch.int16
    assert_same(deployed(x), layer(x))


def test_a_decomposed_layer_reads_its_branch_in_bfloat16():
    layer = ConvNormAct(DCDConv2d(48, 64, 1, bias=False), 64, nn.ReLU6()).eval()
    nn.init.normal_(layer.conv.branch.to_phi.weight, std=0.1)
    nn.init.ones_(layer.conv.residual.norm_out.weight)
    branch = layer.conv.branch
    for linear in (branch.reduce, branch.gate, branch.to_lambda, branch.to_phi):
        linear.weight.copy_(linear.weight.bfloat16())
    x = torch.randn(2, 48, 9, 7)
    deployed = deploy(layer, bank_dtype=torch.bfloat16)
    assert isinstance(deployed, NativeDCDConv2d) and deployed.to_phi.dtype == torch.int16
    assert_same(deployed(x), layer(x), 1e-4)


def test_panels_hold_what_sixteen_outputs_need():
    kernel = torch.arange(18 * 3 * 2 * 2, dtype=torch.float32).view(18, 3, 2, 2)
    panels = pack_panels(kernel)
    assert panels.shape == (2, 2 * 2 * 3, 16)
    assert panels[1, 5, 1] == kernel[17, 2, 0, 1]  # output 16 + 1; tap 1 of 4, channel 2
    assert not panels[1, :, 2:].any()


def test_words_hold_values_i_and_i_plus_eight():
    row = torch.arange(20, dtype=torch.bfloat16)[None]
    words = interleave(row).view(torch.bfloat16)
    assert words.shape == (1, 32)
    assert words[0, :6].tolist() == [0, 8, 1, 9, 2, 10] and words[0, 16:20].tolist() == [16, 0, 17, 0]
    assert torch.equal(interleave(row.float()), row.float())


class Standardised(nn.Conv2d):
    """A convolution that does something else with its weight."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)


def test_what_has_no_native_form_stays_as_it_is():
    for layer in (nn.Conv2d(4, 8, 3, groups=2), nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")):
        assert type(deploy(layer)) is nn.Conv2d
    assert type(deploy(nn.Conv2d(4, 4, 3, padding="same"))) is nn.Conv2d
    assert type(deploy(Standardised(4, 4, 3))) is Standardised
    assert type(deploy(nn.Conv2d(4, 4, 3))) is NativeConv2d


class Halved(BasicBlock):
    """A block that does something else with its answer."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) / 2


@pytest.mark.parametrize("change", ["activation", "class", "shortcut"])
def test_blocks_of_somebody_elses_keep_what_they_do(change):
    block = (Halved if change == "class" else BasicBlock)(8, 8, StaticConvs(), 4).eval()
    if change == "activation":
        block.activation = nn.SiLU()
    elif change == "shortcut":
        block.shortcut = nn.Sequential()
    x = torch.randn(1, 8, 6, 5)
    assert_same(deploy(block)(x), block(x))


def test_images_that_do_not_fit_are_refused():
    deployed = deploy(nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 4, 3)))
    for x, reason in (
        (torch.zeros(1, 3, 5, 5).double(), "float32"),
        (torch.zeros(3, 5, 5), "needs images"),
        (torch.zeros(1, 2, 5, 5), "takes 3 channels, got 2"),
        (torch.zeros(1, 4, 5, 5), "takes 3 channels, got 4"),
    ):
        with pytest.raises(RuntimeError, match=reason):
            deployed(x)
    assert deployed(torch.zeros(0, 3, 5, 5)).shape == (0, 4, 3, 3)


def test_a_block_ends_with_a_convolution_of_its_input_s_shape():
    layer = NativeConv2d(nn.Conv2d(4, 32, 1), 0)
    with pytest.raises(RuntimeError, match="another shape"):
        NativeSequence([layer], nn.Identity())(torch.ones(1, 4, 2, 2))
    squeeze = SqueezeExcitation(4, 2).native_form()
    for layers, reason in (
        ([squeeze], "follows a layer"),
        ([NativeConv2d(nn.Conv2d(4, 4, 1), 0), squeeze], "ends with"),
    ):
        with pytest.raises(RuntimeError, match=reason):
            NativeSequence(layers, nn.Identity())(torch.ones(1, 4, 2, 2))


def test_the_sources_that_a_source_includes_are_packaged():
    """A build from an installed package finds its headers."""
    root = Path(library.__file__).parents[1]
    places = {
        (file.parent, name)
        for file in root.rglob("*")
        if file.suffix in (".cpp", ".h")
        for name in re.findall(r'#include "(.+)"', file.read_text())
    }
    included = {name for _, name in places}
    assert included and all((here / name).is_file() or (root / "native" / name).is_file() for here, name in places)
    setup = (root.parent / "setup.py").read_text()
    assert {Path(name).suffix for name in (*included, "layers.cpp")} == {".h", ".cpp"}
    assert '"*.cpp", "*.h"' in setup


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_layer_of_a_network_is_timed_and_the_answer_stays(kind, threads):
    threads(1)
    model, x = network_of(kind), torch.randn(1, 3, 64, 32)
    deployed = deploy(model)
    before = deployed(x)
    layers = layer_times(deployed, x, runs=1)
    kinds = NativeLayer | NativeSqueezeExcitation | NativeUpsample | NativeMaxPool
    assert len(layers) == sum(isinstance(part, kinds) for part in deployed.modules())
    stem = next(part for part in deployed.modules() if isinstance(part, NativeLayer))
    assert layers[0].size == (32, 16)
    assert layers[0].multiply_adds == 32 * 16 * 3 * stem.geometry[0] * stem.geometry[1] * stem.out_channels
    assert all(layer.seconds > 0 and layer.image_bytes > 0 for layer in layers)
    assert all(layer.weight_bytes > 0 for layer in layers if layer.multiply_adds)
    assert torch.equal(deployed(x), before)


def test_layers_are_timed_with_one_thread(threads):
    threads(2)
    with pytest.raises(ValueError, match="one thread"):
        layer_times(deploy(network_of("static")), torch.randn(1, 3, 64, 32))


def test_a_test_runs_native_layers_where_its_settings_say_so():
    model = network_of("dynamic")
    assert ready_for_testing(model, Choices(), "cpu") is model
    assert isinstance(ready_for_testing(model, Choices(native=True), "cpu"), NativeSequence)
    with pytest.raises(OptionError, match=r"test\.native: is for CPUs, not cuda"):
        ready_for_testing(model, Choices(native=True), "cuda")
