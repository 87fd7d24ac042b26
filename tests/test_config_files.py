"""Configurations of plain values: the same settings as Python ones, and nothing in them is executed."""

import json
from pathlib import Path

import pytest

from pose.config import load_settings
from pose.options import OptionError

MODEL = {"backbone": {"type": "mobilenet_v2", "width": 0.1}, "head": {"type": "bottleneck"}}
YAML = """
_base_: base.json
train: {epochs: 3, learning_rate: 0.002}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    sections = {"model": MODEL, "train": {"epochs": 9, "batch_size": 2}, "data": {"input_size": [32, 64]}}
    (tmp_path / "base.json").write_text(json.dumps(sections))
    return tmp_path


def test_json_yaml_and_python_say_the_same(folder: Path) -> None:
    (folder / "run.yaml").write_text(YAML)
    (folder / "run.py").write_text(
        f"model = {MODEL!r}\ndata = dict(input_size=(32, 64))\n"
        "train = dict(epochs=3, batch_size=2, learning_rate=0.002)\n"
    )
    plain, code = load_settings(folder / "run.yaml"), load_settings(folder / "run.py")
    assert plain.train == code.train and plain.model == code.model
    assert tuple(plain.data.input_size) == code.data.input_size
    assert load_settings(folder / "run.yaml", {"train.epochs": 5}).train.epochs == 5


def test_a_plain_configuration_may_build_on_one_that_comes_with_the_project(folder: Path) -> None:
    base = "configs/coco/mobilenet_v2_x0.5_type_b_static.py"
    (folder / "mine.json").write_text(json.dumps({"_base_": base, "train": {"epochs": 4}}))
    mine, theirs = load_settings(folder / "mine.json"), load_settings(base)
    assert mine.model == theirs.model and mine.train.epochs == 4


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.yaml", "model: !!python/object/apply:os.mkdir [made]", "python/object/apply"),
        ("a.json", '{"_base_": "code.py"}', "is code"),
        ("a.json", '{"custom_imports": {"imports": ["code"]}, "model": {}}', "custom_imports"),
        ("a.json", '{"_base_": "a.json"}', "builds on itself"),
        ("a.json", "[1]", "mapping"),
        ("a.json", "[" * 100_000, "RecursionError"),
        ("a.yml", "{1: 2}", "mapping"),
        ("a.toml", "", ".yaml"),
    ],
)
def test_nothing_in_a_plain_configuration_is_executed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, said: str
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    (folder / "code.py").write_text("import os\nos.mkdir('made')\n")
    (folder / name).write_text(text)
    with pytest.raises(OptionError, match=said):
        load_settings(name)
    assert not (folder / "made").exists()
