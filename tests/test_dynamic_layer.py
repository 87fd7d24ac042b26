"""The family of dynamic layers is open: a layer defined here alone trains, is deployed, counted, inflated, exported."""

import ast
import math
from pathlib import Path

import pytest
import torch
from test_deploy import trained
from torch import nn

from pose.config import Settings, make_settings
from pose.engine.trainer import Trainer
from pose.models import native
from pose.models.complexity import Complexity, measure
from pose.models.deploy.folding import deploy
from pose.models.dynamic import makers
from pose.models.dynamic.attention import KernelAttention
from pose.models.dynamic.base import DynamicLayer
from pose.models.dynamic.inflate import inflate
from pose.models.dynamic.makers import SelectedConvs
from pose.models.layers import ConvNormAct
from pose.models.native.training.layers import available, use_native_training

INPUT_SIZE = (32, 64)


class OmniConv2d(DynamicLayer):
    """ODConv (Li et al., arXiv 2209.07947, eq. 3): K kernels, each image's scaled along all of their dimensions."""

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, groups=1, bias=True, num_kernels=3):
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, 1, groups)
        kernel = (out_channels, in_channels // groups, *self.kernel_size)
        self.weight = nn.Parameter(torch.empty(num_kernels, *kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.squeeze = nn.Linear(in_channels, 4)
        self.shares = nn.Linear(4, num_kernels)
        self.scales = nn.ModuleList(nn.Linear(4, size) for size in (*kernel[:2], math.prod(self.kernel_size)))
        self.reset_parameters()

    def reset_parameters(self):
        for kernel in self.weight:
            nn.init.kaiming_normal_(kernel, mode="fan_out", nonlinearity="relu")

    def kernel(self, x):
        hidden = self.squeeze(x.mean((2, 3))).relu()
        mixed = (self.shares(hidden).softmax(1) @ self.weight.flatten(1)).view(-1, *self.weight.shape[1:])
        outputs, inputs, places = (2 * scale(hidden).sigmoid() for scale in self.scales)
        places = places.view(-1, 1, 1, *self.kernel_size)
        weight = mixed * outputs[:, :, None, None, None] * inputs[:, None, :, None, None] * places
        return weight, None if self.bias is None else self.bias.expand(len(x), -1)

    def load_static(self, weight, bias, noise=0.0):
        super().load_static(weight, bias, noise)
        for scale in self.scales:  # 2 sigmoid(0) = 1
            nn.init.zeros_(scale.weight)
            nn.init.zeros_(scale.bias)


class OmniConvs(SelectedConvs):
    """Makes :class:`OmniConv2d` in an inverted residual."""

    def __init__(self) -> None:
        super().__init__(OmniConv2d, ("expand", "depthwise", "project"))


@pytest.fixture(autouse=True)
def _omni(monkeypatch):
    monkeypatch.setitem(makers.CONVS, "omni", OmniConvs)
    torch.manual_seed(0)


def settings_of(kind: str) -> Settings:
    conv = dict(type=kind)
    backbone = dict(type="mobilenet_v2", width=0.1, depth=0.1, last_channels=32, conv=conv)
    head = dict(type="bottleneck", stages=((8, 8, 1),) * 3, conv=conv)
    return make_settings(dict(model=dict(backbone=backbone, head=head), data=dict(input_size=INPUT_SIZE)))


def network(kind: str = "omni") -> nn.Module:
    with torch.no_grad():
        model = trained(settings_of(kind).build_model())
    nn.init.normal_(model.head.final.weight, std=0.1)
    return model


def images(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, INPUT_SIZE[1], INPUT_SIZE[0])


@pytest.mark.parametrize("asked", [False, True])
def test_it_trains_and_falls_back_to_torch_where_native_training_is_asked_for(asked):
    if asked and not available():
        pytest.skip("no compiler")
    trainer = Trainer(network().train(), torch.device("cpu"), native=asked, average_decay=0.5)
    trainer.set_learning_rate(1e-2)
    data = images(4), torch.rand(4, 17, 16, 8), torch.ones(4, 17)
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    losses = [trainer.learn(*data).item() for _ in range(4)]
    assert losses[-1] < losses[0]
    layers = [module for module in trainer.model.modules() if isinstance(module, DynamicLayer)]
    assert {type(layer) for layer in layers} == {OmniConv2d}
    changed = [name for name, value in trainer.model.named_parameters() if not torch.equal(value, before[name])]
    for part in (
        "conv.weight",
        "squeeze.weight",
        "shares.bias",
        "scales.0.weight",
        "scales.1.weight",
        "scales.2.weight",
    ):
        assert any(name.endswith(part) for name in changed)
    assert (type(trainer.model.backbone.stem) is ConvNormAct) == (not asked)


@pytest.mark.parametrize("fused", [False, True])
def test_it_is_deployed_with_its_normalization(fused):
    if fused and not native.available():
        pytest.skip("no compiler")
    model = network().eval()
    x = images(3)
    with torch.no_grad():
        expected, deployed = model(x), deploy(model, fused=fused)
        assert not any(isinstance(module, nn.BatchNorm2d) for module in deployed.modules())
        for found in (deployed(x), torch.cat([deployed(one) for one in x.split(1)])):
            assert (found - expected).abs().max() <= 1e-4 * max(1, expected.abs().max())


def test_it_is_counted():
    cost, _ = measure(OmniConv2d(8, 6, 3, padding=1, groups=2), torch.zeros(1, 8, 10, 12))
    kernel, linears = 6 * 4 * 9, 8 * 4 + 4 * (3 + 6 + 4 + 9)
    parameters = 3 * kernel + 6 + linears + 4 + 3 + 6 + 4 + 9
    assert cost == Complexity(parameters, kernel * 10 * 12, 8 * 10 * 12 // 2 + linears, 3 * kernel + 6)


def test_it_starts_from_static_weights():
    static, model, x = network("static").eval(), network().eval(), images()
    inflate(model, static.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(model(x), static(x), rtol=0, atol=1e-4)
    inflate(model, static.state_dict(), noise=0.1)
    bank = next(module.weight for module in model.modules() if isinstance(module, OmniConv2d))
    assert not torch.equal(bank[0], bank[1])


def test_it_is_exported(tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from pose.export.onnx_file import export_onnx

    for runtime in ("onnxruntime", "openvino"):
        assert export_onnx(network(), settings_of("omni"), tmp_path / "pose.onnx", runtime=runtime) <= 1e-4


def test_native_training_leaves_a_subclass_with_another_kernel_to_torch():
    class Uniform(KernelAttention):
        def forward(self, x):
            return torch.full((len(x), self.num_kernels), 1 / self.num_kernels)

    attention = Uniform(4)
    assert use_native_training(nn.Sequential(attention))[0] is attention


def imports(folder: Path) -> set[str]:
    """The modules of this project that a folder's files import, anywhere in them."""
    found = set()
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                found |= {node.module} | {f"{node.module}.{entry.name}" for entry in node.names}
            elif isinstance(node, ast.Import):
                found |= {entry.name for entry in node.names}
    return {name for name in found if name == "pose" or name.startswith("pose.")}


@pytest.mark.parametrize(("room", "other"), [("inference", "training"), ("training", "inference")])
def test_the_native_rooms_do_not_import_each_other(room, other):
    """What they share stands in pose.models.native itself and in pose.native."""
    folder = Path(native.__file__).parent
    names = imports(folder / room)
    assert any(name.startswith("pose.native") for name in names)
    assert not any(name.startswith(f"pose.models.native.{other}") for name in names | imports(folder))
