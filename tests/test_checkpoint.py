"""Checkpoints: whole or not at all, no code of theirs is run, and only where they fit."""

import os
import pickle

import numpy as np
import pytest
import torch
from tiny import same
from torch import nn

from pose.checkpoint import load_checkpoint, load_newest, load_weights, save_checkpoint
from pose.detection.network import DetectionNet
from pose.errors import CheckpointError, OutputError


def network(channels=3):
    return nn.Sequential(nn.Conv2d(3, channels, 3), nn.BatchNorm2d(channels))


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "net.pth"
    model = network()
    save_checkpoint(path, {"model": model.state_dict(), "epoch": 5})
    return path, model


def test_a_checkpoint_brings_back_what_was_saved(saved):
    path, model = saved
    other = network()
    assert load_weights(other, path)["epoch"] == 5
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])


def test_a_bare_state_dict_is_taken_as_a_model(tmp_path):
    torch.save(network().state_dict(), tmp_path / "bare.pth")
    assert set(load_checkpoint(tmp_path / "bare.pth")) == {"model"}
    load_weights(network(), tmp_path / "bare.pth")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_cut_off_file_is_told_in_one_line(saved, share):
    path, _ = saved
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(CheckpointError, match=r"net\.pth: ") as told:
        load_checkpoint(path)
    assert "\n" not in str(told.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"absent\.pth: checkpoint not found"):
        load_checkpoint(tmp_path / "absent.pth")


class Harmful:
    def __reduce__(self):
        return (pytest.fail, ("code of a checkpoint was run",))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_checkpoint_is_not_run(tmp_path):
    torch.save({"model": Harmful()}, tmp_path / "harmful.pth")
    with pytest.raises(CheckpointError, match=r"harmful\.pth"):
        load_checkpoint(tmp_path / "harmful.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(CheckpointError, match=r"plain\.pth"):
        load_checkpoint(tmp_path / "plain.pth")


@pytest.mark.parametrize("contents", [{"weights": 3}, [1, 2], {}, torch.zeros(3)])
def test_a_file_without_a_model_is_no_checkpoint(tmp_path, contents):
    torch.save(contents, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="no checkpoint with a network's weights"):
        load_checkpoint(tmp_path / "other.pth")


@pytest.mark.parametrize("other", [network(4), nn.Sequential(nn.Conv2d(3, 3, 3)), nn.Linear(2, 2)])
def test_a_checkpoint_of_another_network_is_refused_and_changes_nothing(saved, other):
    path, _ = saved
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"net\.pth: checkpoint of another network"):
        load_weights(other, path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())


def test_a_detectors_weights_are_told_where_a_pose_networks_belong(tmp_path):
    detector = DetectionNet(width=0.5, channels=(16, 16, 16), blocks=0)
    save_checkpoint(tmp_path / "person.pth", {"model": detector.state_dict(), "settings": {"canvas": {}}})
    with pytest.raises(CheckpointError, match="person.pth: a person detector's checkpoint, which finds boxes and no"):
        load_weights(network(), tmp_path / "person.pth")
    load_weights(detector, tmp_path / "person.pth")


@pytest.mark.parametrize("content", [b"nonsense, and no number in it", b"\n\n\n"])
def test_a_file_that_is_none_of_torchs_is_told_without_a_number_of_nobodys(tmp_path, content):
    (tmp_path / "junk.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"junk.pth: not a whole checkpoint with weights only \([A-Za-z ]+\)"):
        load_checkpoint(tmp_path / "junk.pth")


def test_a_save_that_fails_leaves_the_file_that_was_there(saved):
    path, _ = saved
    before = path.read_bytes()
    with pytest.raises(Exception, match="pickle"):
        save_checkpoint(path, {"model": {}, "hook": lambda: None})
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["net.pth"]


def test_a_place_that_cannot_be_written_is_told(saved, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file.*net\.pth: cannot be written"):
        save_checkpoint(tmp_path / "file" / "net.pth", {"model": {}})


def test_no_changed_bit_goes_unseen(saved):
    path, _ = saved
    whole, contents = path.read_bytes(), load_checkpoint(path)
    rng = np.random.default_rng(0)
    refused = 0
    for place, bit in zip(rng.integers(len(whole), size=300).tolist(), rng.integers(8, size=300).tolist(), strict=True):
        changed = bytearray(whole)
        changed[place] ^= 1 << bit
        path.write_bytes(changed)
        try:
            assert same(load_checkpoint(path), contents), f"bit {bit} of byte {place}"  # padding, a time stamp
        except CheckpointError:
            refused += 1
    assert refused > 100


def test_the_one_before_is_kept_and_taken_where_the_newest_is_torn(saved):
    path, model = saved
    previous = path.with_name("previous.pth")
    contents, taken, errors = load_newest([path, previous])
    assert (contents["epoch"], taken, errors) == (5, path, [])
    save_checkpoint(path, {"model": model.state_dict(), "epoch": 6}, previous)
    assert load_newest([path, previous])[0]["epoch"] == 6
    assert load_checkpoint(previous)["epoch"] == 5
    path.write_bytes(path.read_bytes()[:-100])
    contents, taken, errors = load_newest([path, previous])
    assert (contents["epoch"], taken) == (5, previous)
    assert "net.pth" in str(errors[0])
    path.unlink()  # a stop between two renames
    assert load_newest([path, previous])[1] == previous
    previous.write_bytes(b"")
    with pytest.raises(CheckpointError, match="previous.pth"):
        load_newest([path, previous])


def test_the_one_before_is_kept_without_hard_links_too(saved, monkeypatch):
    def refuse(*_):
        raise PermissionError("no links here")

    path, model = saved
    monkeypatch.setattr(os, "link", refuse)
    save_checkpoint(path, {"model": model.state_dict(), "epoch": 6}, path.with_name("previous.pth"))
    assert load_checkpoint(path)["epoch"] == 6
    assert load_checkpoint(path.with_name("previous.pth"))["epoch"] == 5
    assert len(list(path.parent.iterdir())) == 2


def test_a_full_disk_is_told_and_the_last_checkpoint_stays(saved):
    path, model = saved
    before = path.read_bytes()
    path.with_name(f".net.{os.getpid()}.pth").symlink_to("/dev/full")  # where the new one is written first
    with pytest.raises(OutputError, match=r"net\.pth: cannot be written \(No space left on device\)"):
        save_checkpoint(path, {"model": model.state_dict()}, path.with_name("previous.pth"))
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["net.pth"]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_weights_that_are_no_numbers_are_named(saved, value, dtype):
    path, model = saved
    state = {name: values.to(dtype) for name, values in model.state_dict().items()}
    state["1.running_var"][1] = value
    torch.save({"model": state}, path)
    with pytest.raises(CheckpointError, match=r"net\.pth: its tensor 1\.running_var holds NaN or infinity"):
        load_checkpoint(path)


@pytest.mark.parametrize("model", [5, torch.zeros(2), {}, {"weight": "text"}, None], ids=str)
def test_a_model_that_is_no_state_dict_is_refused(tmp_path, model):
    path = tmp_path / "odd.pth"
    torch.save({"model": model}, path)
    with pytest.raises(CheckpointError, match="odd.pth: a file of torch, but no checkpoint"):
        load_checkpoint(path)
