"""Counted costs: nothing missed, equal to torch's own counter, and every printed cell met or explained."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pose.config import load_settings
from pose.models.classifier import build_classifier
from pose.models.complexity import Complexity, measure, measure_pose_net
from pose.models.dynamic.dcd import DCDConv2d
from pose.models.dynamic.dynamic_conv import DynamicConv2d
from pose.models.leaves import leaf_layers
from pose.models.pose_net import build_pose_net
from pose.models.published import IMAGENET, NOTES, POSE_BACKBONES, POSE_HEADS, Published, compare, find

TOOL = str(Path(__file__).parents[1] / "tools" / "complexity.py")


def without_products(model: nn.Module, x: torch.Tensor) -> int:
    """What we count and torch does not: the attentions' pooling (an addition is half) and Lambda times something."""
    unseen = []

    def note(layer: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        unseen.append(inputs[0].numel() // 2)
        if isinstance(layer, DCDConv2d) and layer.branch.to_lambda is not None:
            factorized, assembled = layer.madds(*inputs[0].shape[2:])
            scales_kernel = factorized is None or assembled < factorized
            unseen.append(layer.weight.numel() if scales_kernel else output.numel())

    kinds = (DynamicConv2d, DCDConv2d)
    hooks = [layer.register_forward_hook(note) for _, layer in leaf_layers(model) if isinstance(layer, kinds)]
    model(x)
    for hook in hooks:
        hook.remove()
    return sum(unseen)


ROLES = ["expand", "depthwise", "project", "3x3", "shortcut", "last"]


@pytest.mark.parametrize(
    ("backbone", "head"),
    [
        (dict(type="mobilenet_v2", width=0.35), dict(type="deconv")),
        (dict(type="mobilenet_v3_small"), dict(type="bottleneck")),
        (
            dict(type="mobilenet_v2", width=0.35, conv=dict(type="dynamic", roles=ROLES, num_kernels=3)),
            dict(type="bottleneck", conv=dict(type="dynamic")),
        ),
        (dict(type="mobilenet_v2", width=0.35, conv=dict(type="condconv")), dict(type="deconv")),
        (
            dict(type="mobilenet_v2", width=0.35, conv=dict(type="dcd", roles=ROLES, num_blocks=2)),
            dict(type="bottleneck", conv=dict(type="dcd", use_lambda=False)),
        ),
        (dict(type="resnet", depth=10, conv=dict(type="dcd", fusion="joint")), dict(type="deconv")),
    ],
    ids=str,
)
def test_products_equal_torchs_count(backbone, head):
    model = build_pose_net(backbone, head).eval()
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x)
    ours = sum(measure_pose_net(model, (96, 64)), Complexity())
    with torch.no_grad():
        assert ours.madds - without_products(model, x) == counter.get_total_flops() / 2
    assert ours.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_a_dynamic_layer_by_hand():
    """8 to 6 channels, 3 x 3 in 2 groups at 10 x 12 with stride 2, K = 4, 2 hidden units."""
    layer = DynamicConv2d(8, 6, 3, stride=2, padding=1, groups=2)
    cost, y = measure(layer, torch.zeros(1, 8, 10, 12))
    kernel = 6 * 4 * 9
    assert y.shape == (1, 6, 5, 6)
    assert cost == Complexity(
        parameters=4 * (kernel + 6) + 8 * 2 + 2 + 2 * 4 + 4,
        convolution=kernel * 5 * 6,
        attention=8 * 10 * 12 // 2 + 8 * 2 + 2 * 4,
        aggregation=4 * (kernel + 6),
    )


def test_measuring_leaves_the_network_as_it_was():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    measure(model, torch.randn(1, 3, 4, 4))
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not model[0]._forward_hooks


@pytest.mark.parametrize(
    ("value", "printed", "expected"),
    [
        (2_665_334, "2.7", "same"),
        (1_859_140_000, "1.85G", "+0.5 %"),
        (98_080_000, "98.0", "+0.08 %"),
        (209_040_000, "209.0", "same"),
        (1, None, ""),
    ],
)
def test_a_count_is_compared_to_the_printed_digit(value, printed, expected):
    assert compare(value, printed) == expected


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_every_printed_number_of_parameters_is_met_or_explained():
    explained = {}
    for row in IMAGENET:
        if row.published.params is None:
            continue
        with torch.device("meta"):
            text = row.published.explain(parameters(build_classifier(row.section)), 0)[0]
        if text != "same":
            explained[row.name] = text.partition("[")[2].rstrip("]")
    assert explained == {
        "DY-MobileNetV2 x0.5, K = 4": "digit",
        "DY-MobileNetV2 x0.35, K = 4": "digit",
        "MobileNetV3-Small": "v3",
        "ResNet-10": "2^20",
        "DY-ResNet-10": "2^20",
        "ResNet-18": "2^20",
        "DY-ResNet-18": "2^20",
        "DCD-MobileNetV2 x0.5, classifier": "classifier",
        "DCD-ResNet-18, Lambda": "lambda",
        "DCD-ResNet-18, Phi": "lambda",
        "DCD-ResNet-18, both": "lambda",
    }


def test_every_note_is_there_and_used():
    heads = [row for rows in POSE_HEADS.values() for row in rows]
    cells = [row.published for row in (*IMAGENET, *POSE_BACKBONES, *heads)]
    assert {note for cell in cells for note in (cell.note, cell.params_note) if note} == set(NOTES)


def test_every_row_of_tables_10_and_11_is_one_configuration():
    """ResNet-18 with Type-A, the others with both heads, Type-B as dynamic as its backbone; Table 11 mixes two."""
    found = []
    for path in Path("configs/coco").glob("*.py"):
        settings = load_settings(path)
        with torch.device("meta"):
            model = settings.build_model()
        backbone = find(POSE_BACKBONES, settings.model["backbone"])
        head = find(POSE_HEADS.get(model.backbone.out_channels, ()), settings.model["head"])
        if backbone is None or head is None:
            continue
        texts = [
            row.published.explain(parameters(part), 0)[0]
            for row, part in ((backbone, model.backbone), (head, model.head))
        ]
        assert texts[0] == "same" or texts[0].endswith(("[2^20]", "[digit]"))
        assert texts[1] == "same" or texts[1].endswith("[deconv]")
        found.append((backbone.name, head.name))
    dynamic = [row.name for row in POSE_BACKBONES]
    expected = [(name, "Type-A") for name in dynamic]
    expected += [(name, "DY Type-B" if name.startswith("DY") else "Type-B") for name in dynamic if "ResNet" not in name]
    mixed = [("MobileNetV2 x0.5", "DY Type-B"), ("DY-MobileNetV2 x0.5", "Type-B")]
    assert sorted(found) == sorted(expected + mixed)


def run_tool(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", [TOOL, *arguments])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_path(TOOL, run_name="__main__")
    return exit_.value.code


def test_the_tool_prints_backbone_and_head_beside_the_printed_cells(monkeypatch, capsys):
    assert run_tool(monkeypatch, "configs/coco/mobilenet_v2_x0.5_type_b_dynamic.py") == 0
    backbone, head, _, note, *_ = capsys.readouterr().out.splitlines()[6:]
    assert [cell.strip() for cell in backbone.split("|")[2:5]] == ["2.665", "2.7", "same"]
    assert [cell.strip() for cell in head.split("|")[2:5]] == ["6.319", "6.3", "same"]
    assert note.startswith("* [quoted]")


def test_the_tool_writes_a_page(monkeypatch, tmp_path):
    page = tmp_path / "tables" / "complexity.md"
    config = "configs/coco/mobilenet_v2_x0.5_type_a_static.py"
    assert run_tool(monkeypatch, config, "--write", str(page)) == 0
    text = page.read_text()
    assert "# Parameters and multiply-adds\n" in text and f"    python tools/complexity.py {config} --write" in text
    assert "| mobilenet_v2_x0.5_type_a_static: head |" in text


def test_a_section_is_found_by_what_it_builds():
    plain = dict(type="mobilenet_v2", width=0.5)
    assert find(POSE_BACKBONES, plain).name == "MobileNetV2 x0.5"
    assert find(POSE_BACKBONES, dict(plain, conv=dict(type="dynamic"))).name == "DY-MobileNetV2 x0.5"
    assert find(POSE_BACKBONES, dict(plain, width=0.4)) is None
    assert Published().explain(1, 1) == ("", "")
