"""Static weights in a dynamic network: the same answers at the start, and kernels that can part."""

from urllib.error import URLError

import pytest
import torch
from torch import nn
from torchvision import models

from pose.checkpoint import save_checkpoint
from pose.config import load_settings
from pose.engine.initial import load_initial
from pose.errors import CheckpointError
from pose.models.classifier import build_classifier
from pose.models.dynamic.dynamic_conv import DynamicConv2d
from pose.models.dynamic.inflate import inflate, load_torchvision
from pose.models.pose_net import build_pose_net
from pose.resources import ROOT
from pose.skeleton import COCO, Skeleton
from pose.weights import shipped

KINDS = ["static", "dynamic", "dcd", "condconv"]
ALL_ROLES = ["expand", "depthwise", "project", "3x3", "reduce", "restore", "shortcut", "last", "hidden", "classifier"]


def trained(model: nn.Module) -> nn.Module:
    """Random weights everywhere, also where initialisation would make the comparison easy."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
        elif getattr(module, "bias", None) is not None:
            nn.init.normal_(module.bias, std=0.1)
    return model.eval()


def assert_same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert theirs.std() > 0
    assert torch.allclose(ours / theirs.abs().max(), theirs / theirs.abs().max(), rtol=0, atol=1e-5)


def pose_net(kind: str, **conv) -> nn.Module:
    section = dict(conv=dict(type=kind, **conv))
    return build_pose_net(
        dict(type="mobilenet_v2", width=0.35, depth=0.5, **section), dict(type="bottleneck", **section), 5
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_static_checkpoint_answers_the_same_in_every_kind_of_network(kind):
    static = trained(pose_net("static"))
    model = pose_net(kind, **({} if kind == "static" else dict(roles=ALL_ROLES))).eval()
    inflate(model, static.state_dict())
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert_same(model(x), static(x))


@pytest.mark.parametrize("kind", KINDS[1:])
def test_gradients_reach_every_dynamic_part_after_two_steps(kind):
    """A start at zero must not be a start that training cannot leave: P opens for Phi's scale, and that for Phi."""
    model = pose_net(kind)
    inflate(model, trained(pose_net("static")).state_dict(), noise=0.05)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (model(torch.randn(2, 3, 64, 64)) - 1).square().mean().backward()
        optimizer.step()
    parts = ("attention", "branch", "residual")
    dynamic = {name: parameter for name, parameter in model.named_parameters() if any(part in name for part in parts)}
    assert dynamic
    assert [name for name, parameter in dynamic.items() if not parameter.grad.any()] == []


def test_noise_parts_the_kernels_by_its_size():
    static = trained(pose_net("static"))
    for noise in (0.0, 0.1):
        model = pose_net("dynamic")
        inflate(model, static.state_dict(), noise)
        layer = next(module for module in model.modules() if isinstance(module, DynamicConv2d))
        difference = layer.weight[0] - layer.weight[1]
        expected = noise * 2**0.5 * layer.weight.mean(0).std().item()
        assert difference.std().item() == pytest.approx(expected, rel=0.3, abs=1e-12)
    with pytest.raises(ValueError, match="noise"):
        inflate(model, static.state_dict(), -1.0)


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing():
    state = pose_net("static").state_dict()
    model = pose_net("dynamic")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    name = "backbone.blocks.1.expand.conv.weight"
    for wrong in (
        {key: tensor for key, tensor in state.items() if key != name},
        {**state, "more": state[name]},
        {**state, name: state[name][:-1]},
        pose_net("dynamic").state_dict(),
    ):
        with pytest.raises(CheckpointError, match="another.pth: not the static network"):
            inflate(model, wrong, source="another.pth")
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "backbone", "kinds"),
    [
        ("mobilenet_v2", dict(type="mobilenet_v2"), KINDS),
        ("mobilenet_v3_small", dict(type="mobilenet_v3_small", form="torchvision"), KINDS),
        ("resnet18", dict(type="resnet", depth=18), ["static", "dynamic", "dcd"]),
        ("resnet50", dict(type="resnet", depth=50), ["static", "dcd"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_torchvisions_weights_give_torchvisions_answers(name, backbone, kinds, tmp_path):
    """The whole classifier, from a file of weights, so that every layer's weights are in the right place."""
    theirs = trained(models.get_model(name, weights=None))
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = theirs(x)
        for kind in kinds:
            model = build_classifier(dict(backbone, conv=dict(type=kind))).eval()
            load_torchvision(model, name, tmp_path / "weights.pth")
            assert_same(model(x), expected)


def test_a_pose_backbone_leaves_the_classifier_out(tmp_path):
    theirs = trained(models.mobilenet_v2(weights=None))
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    model = build_pose_net(dict(type="mobilenet_v2", conv=dict(type="dynamic")), dict(type="deconv")).eval()
    load_torchvision(model.backbone, "mobilenet_v2", tmp_path / "weights.pth", noise=0.0)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert_same(model.backbone(x), theirs.features(x))


def test_a_download_that_fails_says_how_to_pass_a_file(monkeypatch):
    def offline(*arguments, **options):
        raise URLError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    model = build_pose_net(dict(type="mobilenet_v2"), dict(type="deconv"))
    with pytest.raises(CheckpointError, match=r"mobilenet_v2-\w+\.pth: cannot be downloaded .* pass the file's path"):
        load_torchvision(model.backbone, "mobilenet_v2")


def test_training_starts_from_a_static_or_equal_checkpoint_or_from_torchvision(tmp_path):
    static, path = trained(pose_net("static")), tmp_path / "static.pth"
    save_checkpoint(path, {"model": static.state_dict()})
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for kind in ("static", "dynamic"):
            model = pose_net(kind).eval()
            load_initial(model, str(path))
            assert_same(model(x), static(x))
        save_checkpoint(path, {"model": model.state_dict()})
        again = pose_net("dynamic").eval()
        load_initial(again, str(path))
        assert torch.equal(again(x), model(x))
        theirs = trained(models.mobilenet_v2(weights=None))
        torch.save(theirs.state_dict(), tmp_path / "weights.pth")
        model = build_pose_net(dict(type="mobilenet_v2"), dict(type="deconv")).eval()
        load_initial(model, f"torchvision:mobilenet_v2={tmp_path / 'weights.pth'}")
        assert_same(model.backbone(x), theirs.features(x))
    with pytest.raises(CheckpointError, match="absent.pth"):
        load_initial(model, str(tmp_path / "absent.pth"))
    with pytest.raises(CheckpointError, match="static.pth: not the static network"):
        load_initial(model, str(path))


@pytest.mark.parametrize(
    ("name", "backbone", "message"),
    [
        ("mobilenet_v9", dict(type="mobilenet_v2"), "no such network"),
        ("resnet18", dict(type="mobilenet_v2"), "another architecture"),
        ("mobilenet_v2", dict(type="mobilenet_v2", width=0.5), "another shape"),
        ("mobilenet_v3_small", dict(type="mobilenet_v3_small"), "another architecture|not the static network"),
    ],
)
def test_the_wrong_network_is_named(name, backbone, message, tmp_path):
    path = tmp_path / "weights.pth"
    if name in models.list_models(models):
        torch.save(models.get_model(name, weights=None).state_dict(), path)
    model = build_pose_net(backbone, dict(type="deconv"))
    with pytest.raises(CheckpointError, match=message):
        load_torchvision(model.backbone, name, path)


def test_a_file_that_holds_no_weights_is_named(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"nothing")
    model = build_pose_net(dict(type="mobilenet_v2"), dict(type="deconv"))
    for wrong in (path, tmp_path / "absent.pth"):
        with pytest.raises(CheckpointError, match=wrong.name):
            load_torchvision(model.backbone, "mobilenet_v2", wrong)


def named(*keypoints: str) -> Skeleton:
    return Skeleton("own", keypoints)


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_a_start_from_other_keypoints_takes_the_channels_of_equal_names(kind, tmp_path):
    theirs = ("nose", "left_hip", "right_hip", "left_knee", "right_knee")
    start = trained(pose_net("static"))
    save_checkpoint(tmp_path / "start.pth", {"model": start.state_dict(), "keypoints": list(theirs)})
    section = dict(conv=dict(type=kind))
    head = dict(type="bottleneck", **section)
    model = build_pose_net(dict(type="mobilenet_v2", width=0.35, depth=0.5, **section), head, 3).eval()
    ours = named("right_knee", "hat", "nose")
    told, *static = load_initial(model, str(tmp_path / "start.pth"), skeleton=ours)
    assert len(static) == (kind == "dynamic") and all("those of the static network" in line for line in static)
    assert "2 of 3 keypoints by name; fresh: hat; not taken: left_hip, right_hip, left_knee" in told
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert_same(model(x)[:, [0, 2]], start(x)[:, [4, 0]])
    assert model.head.final.weight[1].std() > 0


def test_a_start_from_the_same_keypoints_in_another_order_is_reordered(tmp_path):
    start, model = trained(pose_net("static")), pose_net("static").eval()
    save_checkpoint(tmp_path / "start.pth", {"model": start.state_dict(), "keypoints": list("abcde")})
    assert load_initial(model, str(tmp_path / "start.pth"), skeleton=named(*"edcba"))
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert_same(model(x), start(x).flip(1))


def test_a_start_without_keypoint_names_takes_all_but_the_last_layer_or_as_many_channels(tmp_path):
    start, path = trained(pose_net("static")), tmp_path / "start.pth"
    save_checkpoint(path, {"model": start.state_dict()})
    assert load_initial(pose_net("static"), str(path), skeleton=named(*"abcde")) == [
        f"initial weights {path}: taken as they are"
    ]
    model = build_pose_net(dict(type="mobilenet_v2", width=0.35, depth=0.5), dict(type="bottleneck"), 2)
    fresh = model.head.final.weight.clone()
    (told,) = load_initial(model, str(path), skeleton=named("a", "b"))
    assert "5 keypoints the file does not name; all 2 start fresh" in told
    assert torch.equal(model.head.final.weight, fresh)
    assert torch.equal(model.backbone.stem.conv.weight, start.backbone.stem.conv.weight)


def test_shipped_weights_are_a_start_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = load_settings(ROOT / shipped("base").config).build_model()
    assert load_initial(model, "base", skeleton=COCO) == ["initial weights base: taken as they are"]
    five = named("left_wrist", "right_wrist", "racket_tip", "racket_grip", "nose")
    model = build_pose_net(**load_settings(shipped("base").config).model, num_keypoints=5)
    (told,) = load_initial(model, "base", skeleton=five)
    assert told.startswith("initial weights base: all but the last layer, and of that 3 of 5 keypoints by name; fresh")
    with pytest.raises(CheckpointError, match="bace: checkpoint not found.*or the name of shipped weights: .*base"):
        load_initial(model, "bace", skeleton=five)
