"""Networks: the sizes that both papers' tables count, which layers are dynamic, and what every network holds."""

import pytest
import torch
from torch import nn

from pose.models.backbones.mobilenet_v2 import MobileNetV2
from pose.models.backbones.resnet import ResNet
from pose.models.classifier import build_classifier
from pose.models.dynamic.dcd import DCDConv2d
from pose.models.dynamic.dynamic_conv import DynamicConv2d
from pose.models.dynamic.makers import CondConvs, DCDConvs, DynamicConvs
from pose.models.heads import BottleneckHead, DeconvHead
from pose.models.pose_net import BACKBONES, HEATMAP_STRIDE, build_part, build_pose_net
from pose.options import OptionError


def millions(model: nn.Module) -> float:
    """Parameters in millions, to three digits after the point as the papers' tables round them."""
    return round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 3)


def mobilenet_v2(width: float, kind: str = "static", **conv) -> dict:
    return dict(type="mobilenet_v2", width=width, conv=dict(type=kind, **conv))


def mobilenet_v3(kind: str = "static", form: str = "paper") -> dict:
    return dict(type="mobilenet_v3_small", form=form, conv=dict(type=kind))


def resnet(depth: int, kind: str = "static", **conv) -> dict:
    return dict(type="resnet", depth=depth, conv=dict(type=kind, **conv))


@pytest.mark.parametrize(
    ("backbone", "expected"),
    [
        (mobilenet_v2(1.0), 2.224),
        (mobilenet_v2(1.0, "dynamic"), 9.869),
        (mobilenet_v2(0.5), 0.688),
        (mobilenet_v2(0.5, "dynamic"), 2.665),
        (mobilenet_v3(), 1.094),
        (mobilenet_v3("dynamic"), 2.760),
    ],
    ids=str,
)
def test_pose_backbones_have_the_counted_parameters(backbone, expected):
    assert millions(build_part(BACKBONES, backbone, "")) == expected


@pytest.mark.parametrize(
    ("backbone", "expected"),
    [
        (mobilenet_v2(1.0), 3.505),
        (mobilenet_v2(0.75), 2.636),
        (mobilenet_v2(0.5), 1.969),
        (mobilenet_v2(0.35), 1.677),
        (mobilenet_v2(1.0, "dynamic"), 11.150),
        (mobilenet_v2(0.75, "dynamic"), 7.012),
        (mobilenet_v2(0.5, "dynamic"), 3.946),
        (mobilenet_v2(0.35, "dynamic"), 2.687),
        (mobilenet_v3("dynamic"), 4.780),
        (mobilenet_v3(form="torchvision"), 2.543),
        (resnet(10, "dynamic"), 19.686),
        (resnet(18), 11.690),
        (resnet(18, "dynamic"), 44.934),
        (resnet(50), 25.557),
        (resnet(50, "dcd", pool_size=1), 29.835),
    ],
    ids=str,
)
def test_imagenet_networks_have_the_counted_parameters(backbone, expected):
    assert millions(build_classifier(backbone)) == expected


@pytest.mark.parametrize(
    ("backbone", "shortcuts", "expected", "digits"),
    [
        (resnet(10), True, 5.168, 3),
        (resnet(18), True, 11.148, 3),
        (resnet(10, "dynamic"), False, 18.608, 3),
        (resnet(18, "dynamic"), False, 42.687, 3),
        (resnet(18, "dcd", roles=["3x3"]), True, 13.90, 2),
    ],
    ids=str,
)
def test_resnets_fit_the_tables_in_units_of_2_to_the_20(backbone, shortcuts, expected, digits):
    """The dynamic ones do so only without their 1 x 1 shortcuts' convolutions and normalisations."""
    named = build_classifier(backbone).named_parameters()
    parameters = sum(parameter.numel() for name, parameter in named if shortcuts or "shortcut" not in name)
    assert round(parameters / 2**20, digits) == expected


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (BottleneckHead(1280), 1.208),
        (BottleneckHead(576), 1.009),
        (BottleneckHead(1280, make_conv=DynamicConvs()), 6.319),
        (BottleneckHead(576, make_conv=DynamicConvs()), 4.871),
    ],
)
def test_heads_have_the_counted_parameters(head, expected):
    assert millions(head) == expected


@pytest.mark.parametrize(("in_channels", "expected"), [(512, 4.20), (1280, 7.35), (576, 4.46)])
def test_deconvolution_heads_have_the_counted_parameters(in_channels, expected):
    assert round(millions(DeconvHead(in_channels)), 2) == expected


def dynamic_places(model: nn.Module) -> set[str]:
    """The last part of the name of every dynamic layer's place, e.g. ``expand``."""
    kinds = (DynamicConv2d, DCDConv2d)
    return {name.split(".")[-2] for name, module in model.named_modules() if isinstance(module, kinds)}


@pytest.mark.parametrize("roles", [{"expand"}, {"depthwise", "project"}, {"stem", "last"}])
def test_roles_choose_the_dynamic_layers(roles):
    assert dynamic_places(MobileNetV2(0.35, DynamicConvs(roles))) == roles
    assert dynamic_places(MobileNetV2(0.35, DCDConvs(roles))) == roles


def test_input_strides_choose_the_dynamic_layers():
    model = MobileNetV2(0.35, DynamicConvs(input_strides=[8]))
    sizes = {}
    for name, module in model.named_modules():
        if isinstance(module, DynamicConv2d):
            module.register_forward_hook(lambda _, x, y, name=name: sizes.update({name: x[0].shape[-1]}))
    model(torch.zeros(1, 3, 64, 64))
    assert set(sizes.values()) == {64 // 8}
    assert len(sizes) == 9  # the project of block 3, two whole blocks, expand and depthwise of the next


@pytest.mark.parametrize(
    ("roles", "places"), [(["shortcut"], {"shortcut"}), (["3x3"], {"1"}), (["reduce", "restore"], {"0", "2"})]
)
def test_resnets_roles_choose_the_dynamic_layers(roles, places):
    assert dynamic_places(ResNet(50, DCDConvs(roles))) == places


def test_the_classifier_is_a_role():
    conv = dict(type="dynamic", roles=["hidden", "classifier"])
    model = build_classifier(dict(type="mobilenet_v3_small", conv=conv), num_classes=5)
    names = [name for name, module in model.named_modules() if isinstance(module, DynamicConv2d)]
    assert names == ["classifier.hidden.0", "classifier.conv"]
    assert model.eval()(torch.zeros(2, 3, 64, 64)).shape == (2, 5)


def test_dcds_classifier_has_the_released_size():
    """Of 1280 channels and 1000 classes: 32 latent channels, 32 hidden units."""
    static, dynamic = (
        build_classifier(dict(type="mobilenet_v2", width=0.5, conv=dict(type="dcd", roles=roles)))
        for roles in ([], ["classifier"])
    )
    own = 1280 * 32 + 32 * 1000 + 1280 * 32 + 32 * 32 + 32 * 32 * 32 + 32 * 1000 + 4 * 32
    assert round(millions(dynamic) - millions(static), 3) == round(own / 1e6, 3)


@pytest.mark.parametrize(("depth", "blocks"), [(1.0, 17), (0.7, 12), (0.5, 8), (0.01, 7)])
def test_the_depth_multiplier_takes_blocks_away(depth, blocks):
    assert len(MobileNetV2(0.35, depth=depth).blocks) == blocks


BACKBONE_SECTIONS = [
    dict(type="mobilenet_v2", width=0.35, depth=0.5),
    dict(type="mobilenet_v3_small"),
    dict(type="mobilenet_v3_small", form="torchvision"),
    dict(type="resnet", depth=10),
    dict(type="resnet", depth=50),
]


@pytest.mark.parametrize("head", ["deconv", "bottleneck"])
@pytest.mark.parametrize("backbone", BACKBONE_SECTIONS, ids=str)
def test_every_head_sits_on_every_backbone(backbone, head):
    model = build_pose_net(backbone, dict(type=head), 5).eval()
    assert model(torch.zeros(1, 3, 64, 96)).shape == (1, 5, 64 // HEATMAP_STRIDE, 96 // HEATMAP_STRIDE)


@pytest.mark.parametrize("kind", ["dynamic", "dcd", "condconv"])
@pytest.mark.parametrize("backbone", BACKBONE_SECTIONS[1:4], ids=str)
def test_every_backbone_takes_every_kind_of_convolution(backbone, kind):
    model = build_part(BACKBONES, dict(backbone, conv=dict(type=kind)), "")
    features = model(torch.randn(2, 3, 64, 64))
    features.mean().backward()
    assert features.shape == (2, model.out_channels, 2, 2)
    assert dynamic_places(model)


def test_kinds_of_convolution_are_named_in_the_configuration():
    head = dict(type="bottleneck", conv=dict(type="dcd"))
    for kind, options in [
        ("dynamic", dict(num_kernels=2)),
        ("dcd", dict(num_blocks=2, reduction=8)),
        ("condconv", {}),
        ("static", {}),
    ]:
        conv = dict(type=kind, **options)
        model = build_pose_net(dict(type="mobilenet_v2", width=0.35, conv=conv), head, 5)
        heatmaps = model(torch.zeros(1, 3, 64, 96))
        assert heatmaps.shape == (1, 5, 64 // HEATMAP_STRIDE, 96 // HEATMAP_STRIDE)


@pytest.mark.parametrize("kind", ["static", "dynamic", "dcd", "condconv"])
def test_an_image_alone_is_the_same_image_in_a_batch(kind):
    torch.manual_seed(0)
    conv = dict(type=kind)
    model = build_pose_net(dict(type="mobilenet_v2", width=0.35, conv=conv), dict(type="bottleneck", conv=conv))
    nn.init.normal_(model.head.final.weight)
    x = torch.randn(3, 3, 64, 64, dtype=torch.float64)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the running statistics become those of this batch
    with torch.no_grad():
        model.double().train()(x)
        model.eval()
        together, alone = model(x), torch.cat([model(image[None]) for image in x])
    scale = together.abs().max()
    assert torch.allclose(together / scale, alone / scale, rtol=0, atol=1e-6)
    assert not torch.allclose(together[0] / scale, together[1] / scale, rtol=0, atol=1e-2)


@pytest.mark.parametrize("kind", ["static", "dynamic", "dcd"])
def test_one_picture_of_32_pixels_can_be_trained_on(kind):
    """Its features are 1 x 1: one value per channel, which plain batch normalisation refuses."""
    conv = dict(type=kind)
    model = build_pose_net(dict(type="mobilenet_v2", width=0.35, conv=conv), dict(type="bottleneck", conv=conv))
    before = model.backbone.last.norm.running_mean.clone()
    y = model.train()(torch.randn(1, 3, 32, 32))
    y.square().mean().backward()
    assert y.isfinite().all()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())
    assert torch.equal(model.backbone.last.norm.running_mean, before)


@pytest.mark.parametrize("maker", [DynamicConvs, DCDConvs, CondConvs])
@pytest.mark.parametrize(
    ("name", "options"),
    [("roles", dict(roles=["expnd"])), ("roles", dict(roles="expand")), ("3", dict(input_strides=[3]))],
)
def test_unknown_places_are_value_errors(maker, name, options):
    with pytest.raises(ValueError, match=name):
        maker(**options)


@pytest.mark.parametrize(
    ("name", "backbone"),
    [
        ("widht.*width", dict(type="mobilenet_v2", widht=0.5)),
        ("width", dict(type="mobilenet_v2", width=0)),
        ("depth", dict(type="mobilenet_v2", depth=0)),
        ("depth", dict(type="resnet", depth=34)),
        ("form", dict(type="mobilenet_v3_small", form="v1")),
        ("mobilenet_v2", dict(type="mobilenet_v22")),
        ("model.backbone.conv", dict(type="mobilenet_v2", conv=dict(type="dynamic", kernels=3))),
        ("num_kernels", dict(type="mobilenet_v2", conv=dict(type="dynamic", num_kernels=0))),
        ("dynamic", dict(type="mobilenet_v2", conv=dict(type="dynamics"))),
        ("roles", dict(type="mobilenet_v2", conv=dict(type="dynamic", roles=["head"]))),
    ],
)
def test_a_mistake_in_the_configuration_is_named(name, backbone):
    with pytest.raises(OptionError, match=name):
        build_pose_net(backbone, dict(type="bottleneck"))


def test_a_coarser_or_finer_backbone_needs_a_head_that_reaches_stride_4() -> None:
    backbone = {"type": "mobilenet_v2", "width": 0.35, "out_stride": 16, "last_channels": 64}
    stages = ((64, 32, 1), (64, 32, 1))
    model = build_pose_net(backbone, {"type": "bottleneck", "stages": stages})
    assert model.backbone.out_channels == 64
    assert model(torch.zeros(1, 3, 128, 96)).shape == (1, 17, 32, 24)
    with pytest.raises(OptionError, match="stride"):
        build_pose_net(backbone, {"type": "bottleneck"})
