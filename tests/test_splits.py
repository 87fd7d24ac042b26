"""Splits: sections of their own, old names that still work, one rule for paths."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import tiny_sections, tiny_settings, write_config, write_tiny_set

from pose.checkpoint import load_checkpoint, save_checkpoint
from pose.config import load_settings, make_settings, stored_settings
from pose.data_settings import COCO_TRAIN, COCO_VAL, Split
from pose.engine.train import train
from pose.options import OptionError

LSP = "configs/lsp/small/mobilenet_v2_x0.5_type_b_static.py"
OLD = dict(
    root="data/lsp",
    train_annotations="fit.json",
    train_images="images",
    val_annotations="held_out.json",
    val_images="images",
    test_annotations="test.json",
    test_images="pictures",
    boxes="annotated",
)
"""A data section as it was before splits had sections of their own."""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_tiny_set(tmp_path_factory.mktemp("data") / "set")


def data(**section):
    return make_settings({"model": dict(backbone={}, head={}), "data": section}).data


def test_what_a_split_leaves_out_is_cocos_and_the_test_splits_is_the_validations():
    assert data() == data(train=dict(images="train2017"), val={})
    made = data(train=dict(images="elsewhere"), val=dict(boxes="boxes.json"), test=dict(annotations="test.json"))
    assert made.train == (replace(COCO_TRAIN, images="elsewhere"),)
    assert made.val == replace(COCO_VAL, boxes="boxes.json")
    assert made.tested == made.test == Split("test.json", "val2017", "boxes.json")
    assert data().test is None and data().tested == COCO_VAL
    assert made.path(made.test.annotations) == Path("data/coco/test.json")


def test_old_names_mean_what_they_meant():
    made = data(**OLD)
    assert [(each.annotations, each.images) for each in made.train] == [("fit.json", "images")]
    assert made.val == Split("held_out.json", "images", "annotated")
    assert made.test == Split("test.json", "pictures", "annotated")
    assert data(**{**OLD, "test_images": None}).test.images == "images"
    assert data(**{**OLD, "test_annotations": None, "test_images": None}).test is None


def test_old_names_on_the_command_line_change_an_up_to_date_configuration():
    options = {"data.train_annotations": "mine.json", "data.boxes": "boxes.json", "data.test_images": "elsewhere"}
    made, before = load_settings(LSP, options).data, load_settings(LSP).data
    assert made.train == (replace(before.train[0], annotations="mine.json"),)
    assert (made.val.boxes, made.test.boxes, made.test.images) == ("boxes.json", "boxes.json", "elsewhere")
    assert made.test.annotations == before.test.annotations
    assert load_settings(LSP, {"data.test_annotations": None}).data.test is None
    new = {"data.train.annotations": "mine.json", "data.val.boxes": "b.json", "data.test.images": "elsewhere"}
    assert load_settings(LSP, new).data.train == made.train


def test_an_old_configuration_can_be_changed_by_new_names(tmp_path):
    path = tmp_path / "old.py"
    path.write_text(f"model = dict(backbone={{}}, head={{}})\ndata = {OLD!r}\n")
    made = load_settings(path, {"data.train.annotations": "mine.json"}).data
    assert made.train[0].annotations == "mine.json" and made.train[0].images == "images"


@pytest.mark.parametrize(
    ("section", "told"),
    [
        (dict(train=3), "data.train: needs a dict with annotations and images, got 3"),
        (dict(train=[]), "train must hold at least one data set"),
        (dict(train=[dict(images="a")]), "missing option data.train.0.annotations"),
        (dict(train=dict(anotations="a")), "data.train.anotations': did you mean 'annotations'"),
        (dict(train=dict(weight=0)), "weight must be positive"),
        (dict(val=dict(images=3)), "data.val.images"),
        (dict(test=dict(images="a")), "missing option data.test.annotations"),
        (dict(train=[{**vars(COCO_TRAIN)}] * 2, train_images="a"), "data.train_images: data.train lists several sets"),
    ],
)
def test_a_split_that_cannot_be_is_refused_by_name(section, told):
    with pytest.raises(OptionError) as error:
        data(**section)
    assert told in str(error.value)


def test_settings_of_an_old_checkpoint_are_those_of_a_new_one(root):
    settings = tiny_settings(root)
    old = settings.to_dict()
    (one,), val = old["data"].pop("train"), old["data"].pop("val")
    old["data"] |= dict(train_annotations=one["annotations"], train_images=one["images"], boxes=val["boxes"])
    old["data"] |= dict(val_annotations=val["annotations"], val_images=val["images"])
    old["data"] |= dict(test_annotations=None, test_images=None)
    assert stored_settings(old) == settings.to_dict()
    assert stored_settings({"model": 3}) == {"model": 3}


def test_a_checkpoint_from_before_resumes_without_a_word_about_other_settings(root, tmp_path, capsys):
    settings = tiny_settings(root, train=dict(epochs=1))
    train(settings, tmp_path, "cpu")
    last = load_checkpoint(tmp_path / "last.pth")
    old = tiny_sections(root, train=dict(epochs=1))
    old["data"]["train_images"], old["data"]["test_annotations"] = "train2017", None
    save_checkpoint(tmp_path / "last.pth", {**last, "settings": {**old, "train": {**old["train"], "seed": 0}}})
    capsys.readouterr()
    train(tiny_settings(root, train=dict(epochs=2)), tmp_path, "cpu", resume=True)
    said = capsys.readouterr().out
    assert "resumed" in said and "other settings: train.epochs 1 -> 2\n" in said
    weights = load_checkpoint(tmp_path / "last.pth")["model"]
    assert any(not torch.equal(weights[name], last["model"][name]) for name in weights)


def test_a_skeleton_file_is_found_from_the_configurations_folder_upwards(root, tmp_path, monkeypatch):
    skeleton = json.dumps({"keypoints": ["a", "b"]})
    folder = tmp_path / "configs" / "mine"
    folder.mkdir(parents=True)
    config = write_config(folder / "one.py", root, data=dict(skeleton="skeleton.json"))
    (tmp_path / "configs" / "skeleton.json").write_text(skeleton)
    for here in (tmp_path, Path.cwd()):
        monkeypatch.chdir(here)
        assert load_settings(config).skeleton().keypoints == ("a", "b")
        assert load_settings(Path(os.path.relpath(config))).skeleton().keypoints == ("a", "b")
    (folder / "skeleton.json").write_text(json.dumps({"keypoints": ["nearer"]}))
    assert load_settings(config).skeleton().keypoints == ("nearer",)
    (tmp_path / "skeleton.json").write_text(json.dumps({"keypoints": ["given"]}))
    monkeypatch.chdir(tmp_path)
    found = load_settings(config, {"data.skeleton": "skeleton.json"})  # as typed: the current folder's
    assert found.skeleton().keypoints == ("given",) and found.data.skeleton == "skeleton.json"


def test_a_skeleton_named_from_the_current_folder_is_still_found(root, tmp_path, monkeypatch):
    config = write_config(tmp_path / "one.py", root, data=dict(skeleton="configs/lsp/skeleton.json"))
    assert load_settings(config).skeleton().name == "lsp"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match="data.skeleton: skeleton 'configs/lsp/skeleton.json' is neither built in"):
        load_settings(config).skeleton()
    assert load_settings(Path(__file__).parents[1] / LSP).skeleton().name == "lsp"


def test_a_set_of_a_list_can_be_changed_by_its_number():
    path = "configs/people/mobilenet_v2_x0.5_type_b_dynamic.py"
    made, before = (
        load_settings(path, {"data.train.0.weight": 2, "data.root": "elsewhere"}).data,
        load_settings(path).data,
    )
    assert made.train == (replace(before.train[0], weight=2), *before.train[1:])
    assert {file.parts[0] for file in made.files()} == {"elsewhere"} and len(made.files()) == 5 + 2 + 1
    with pytest.raises(OptionError, match="data.train_images: data.train lists several sets; say data.train.0.images"):
        load_settings(path, {"data.train_images": "images"})
