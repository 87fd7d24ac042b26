"""Configurations: every file builds its network, and a wrong key or value stops with a word about it."""

from pathlib import Path

import pytest

from pose.command_line import parse_options
from pose.config import Settings, load_settings, make_settings
from pose.models.dynamic.attention import attentions
from pose.options import OptionError

OTHERS = {"_base_", "detector", "imagenet"}
CONFIGS = sorted(path for path in Path("configs").rglob("*.py") if not OTHERS & set(path.parts))
ONE = "configs/coco/mobilenet_v2_x0.5_type_b_dynamic.py"


def test_there_are_configurations() -> None:
    assert Path(ONE) in CONFIGS


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_builds_its_network_and_survives_a_checkpoint(path: Path) -> None:
    settings = load_settings(path)
    assert isinstance(settings, Settings)
    assert make_settings(settings.to_dict()) == settings
    attention = attentions(settings.build_model())
    temperature = 1.0 if "tau1" in path.stem else 30.0
    assert {module.temperature.item() for module in attention if module.activation == "softmax"} <= {temperature}
    assert bool(attention) == any(kind in path.stem for kind in ("dynamic", "condconv", "quickstart"))


def test_heads_start_as_the_protocol_has_it() -> None:
    head = load_settings("configs/coco/mobilenet_v2_x0.5_type_a_static.py").build_model().head
    for layer in (head.deconvs[0], head.deconvs[3], head.final):
        assert layer.weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert head.final.bias.abs().max() == 0
    assert load_settings(ONE).build_model().head.final.weight.std().item() == pytest.approx(0.001, rel=0.1)


def test_coco_configurations_default_to_the_protocol() -> None:
    settings = load_settings(ONE)
    assert settings.train.epochs == 210
    assert [settings.train.learning_rate_at(epoch) for epoch in (0, 169, 170, 199, 200)] == pytest.approx(
        [1e-3, 1e-3, 1e-4, 1e-4, 1e-5]
    )
    assert settings.data.input_size == (192, 256)
    assert settings.data.val.boxes.endswith("AP_H_56_person.json")
    assert (settings.test.flip, settings.test.flip_shift, settings.test.decode) == (True, 1, "sign")
    assert (settings.test.rescore_threshold, settings.test.nms, settings.test.nms_threshold) == (0.2, "greedy", 0.9)


@pytest.mark.parametrize(
    ("override", "right"),
    [
        ({"train.epoch": 3}, "'epochs'"),
        ({"trian.epochs": 3}, "'train'"),
        ({"model.backbone.widht": 1.0}, "'width'"),
        ({"model.backbone.cnov": {"type": "dynamic"}}, "'conv'"),
        ({"model.backbone.conv.num_kernel": 2}, "'num_kernels'"),
        ({"model.backbone.conv.type": "dynamc"}, "'dynamic'"),
        ({"model.head.type": "botleneck"}, "'bottleneck'"),
        ({"model.haed": {}}, "'head'"),
        ({"augmentation.scale_sdt": 0.1}, "'scale_std'"),
        ({"test.decod": "none"}, "'decode'"),
    ],
)
def test_a_misspelt_key_names_the_nearest_right_one(override: dict, right: str) -> None:
    with pytest.raises(OptionError, match="did you mean") as error:
        load_settings(ONE, override).build_model()
    assert right in str(error.value)


@pytest.mark.parametrize(
    ("override", "word"),
    [
        ({"train.epochs": "many"}, "train.epochs"),
        ({"train.epochs": 0}, "epochs"),
        ({"data.input_size": (190, 256)}, "input_size"),
        ({"data.input_size": 256}, "input_size"),
        ({"train": 3}, "train"),
        ({"train.learning_rate": 0}, "learning_rate"),
        ({"train.seed": 10**30}, "seed"),
        ({"data.box_threshold": 7}, "box_threshold"),
        ({"augmentation.rotation_degrees": -45}, "rotation_degrees"),
        ({"test.batch_size": -3}, "batch_size"),
        ({"test.nms_threshold": 5}, "nms_threshold"),
        ({"model": 5}, "model"),
        ({"model.head": None}, "model.head"),
        ({"model.backbone.type": [1]}, "model.backbone"),
        ({"augmentation.flip_probability": 2}, "flip_probability"),
        ({"model.backbone.width": -1}, "width"),
        ({"model.backbone.conv.roles": ("depthwse",)}, "depthwse"),
        ({"model.head.conv": None, "model.head.type": "deconv", "model.head.make_conv": 1}, "make_conv"),
        ({"test.decode": "quarter"}, "decode"),
        ({"test.nms": "none"}, "nms"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(override: dict, word: str) -> None:
    with pytest.raises(OptionError) as error:
        load_settings(ONE, override).build_model()
    assert word in str(error.value)


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="nowhere.py"):
        load_settings("nowhere.py")
    broken = tmp_path / "broken.py"
    broken.write_text("model = dict(")
    with pytest.raises(OptionError, match="broken.py"):
        load_settings(broken)


def test_options_are_literals_or_text() -> None:
    pairs = ["a.b=3", "c=(1, 2)", "d=true", "e=data/coco", "f=None", "g=x=y"]
    assert parse_options(pairs) == {"a.b": 3, "c": (1, 2), "d": True, "e": "data/coco", "f": None, "g": "x=y"}
    with pytest.raises(OptionError, match="KEY=VALUE"):
        parse_options(["train.epochs"])
