"""Checkpoints that mmpose's, SimpleBaseline's and HRNet's programs save: their names, their files, their weights here.

tests/slow/test_simple_baseline_originals.py compares with the programs themselves; here their names are rebuilt.
"""

import hashlib

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from small_project import run_tool as run_tool
from test_inflate import assert_same, trained
from torch import nn

from pose import published_weights
from pose.checkpoint import KEYPOINTS, load_checkpoint, load_weights
from pose.engine.initial import load_initial
from pose.errors import CheckpointError
from pose.models.pose_net import MEAN, STD, PoseNet, build_pose_net
from pose.published_weights import PUBLISHED, published_file
from pose.simple_baseline import by_our_names
from pose.skeleton import COCO

DECONV = dict(type="deconv", channels=[16, 16, 16])
CROPS = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))


def network(depth: int | None = 18, kind: str = "static", num_keypoints: int = 17, **options) -> PoseNet:
    """ResNet of a depth, or MobileNetV2 where there is none."""
    conv = dict(conv=dict(type=kind))
    backbone = dict(type="mobilenet_v2", width=0.25) if depth is None else dict(type="resnet", depth=depth)
    return trained(build_pose_net({**backbone, **conv}, DECONV, num_keypoints, **options))


def mobilenet_names(prefix: str = "head.") -> list[tuple[str, str]]:
    """mmpose's layers of MobileNetV2 in the order in which it computes them: names of a layer, and its kind."""
    names = [("backbone.conv1.conv", "conv"), ("backbone.conv1.bn", "norm")]
    for stage, blocks in enumerate((1, 2, 3, 4, 3, 3, 1), 1):
        for block in range(blocks):
            for conv in range(2 if stage == 1 else 3):
                place = f"backbone.layer{stage}.{block}.conv.{conv}"
                names += [(f"{place}.conv", "conv"), (f"{place}.bn", "norm")]
    names += [("backbone.conv2.conv", "conv"), ("backbone.conv2.bn", "norm")]
    return names + head_names(prefix)


def resnet_names(depth: int, backbone: str = "", head: str = "") -> list[tuple[str, str]]:
    """SimpleBaseline's layers of ResNet, and with prefixes mmpose's."""
    names = [(f"{backbone}conv1", "conv"), (f"{backbone}bn1", "norm")]
    counts, convs = ((2, 2, 2, 2), 2) if depth == 18 else ((3, 4, 6, 3), 3)
    for stage, blocks in enumerate(counts, 1):
        for block in range(blocks):
            place = f"{backbone}layer{stage}.{block}"
            for conv in range(1, convs + 1):
                names += [(f"{place}.conv{conv}", "conv"), (f"{place}.bn{conv}", "norm")]
            if block == 0 and (stage > 1 or depth == 50):
                names += [(f"{place}.downsample.0", "conv"), (f"{place}.downsample.1", "norm")]
    return names + head_names(head)


def head_names(prefix: str) -> list[tuple[str, str]]:
    names = []
    for number in (0, 3, 6):
        names += [(f"{prefix}deconv_layers.{number}", "conv"), (f"{prefix}deconv_layers.{number + 1}", "norm")]
    return [*names, (f"{prefix}final_layer", "conv")]


def renames(names: list[tuple[str, str]], model: nn.Module) -> dict[str, str]:
    """From others' names of a network's tensors to ours: both have the layers in the same order."""
    kinds = {nn.Conv2d: "conv", nn.ConvTranspose2d: "conv", nn.BatchNorm2d: "norm"}
    layers = [
        (next(name for kind, name in kinds.items() if isinstance(layer, kind)), own, layer)
        for own, layer in model.named_modules()
        if isinstance(layer, tuple(kinds))
    ]
    assert [kind for _, kind in names] == [kind for kind, *_ in layers]
    pairs = zip(names, layers, strict=True)
    return {f"{name}.{key}": f"{own}.{key}" for (name, _), (_, own, layer) in pairs for key in layer.state_dict()}


def under(names: list[tuple[str, str]], model: nn.Module) -> dict[str, torch.Tensor]:
    """A network's weights by others' names."""
    state = model.state_dict()
    return {theirs: state[ours] for theirs, ours in renames(names, model).items()}


CASES = {
    "mmpose's MobileNetV2": (None, mobilenet_names()),
    "mmpose's before version 1": (None, mobilenet_names("keypoint_head.")),
    "mmpose's ResNet-50": (50, resnet_names(50, "backbone.", "head.")),
    "SimpleBaseline's ResNet-18": (18, resnet_names(18)),
    "SimpleBaseline's ResNet-50": (50, resnet_names(50)),
    "a parallel module's": (18, resnet_names(18, "module.", "module.")),
}


@pytest.mark.parametrize(("depth", "names"), CASES.values(), ids=CASES.keys())
def test_every_tensor_goes_to_the_layer_that_it_is_of(depth, names):
    with torch.device("meta"):
        model = network(depth)
    wanted = renames(names, model)
    numbered = {theirs: torch.tensor(number) for number, theirs in enumerate(wanted)}
    found, keypoints = by_our_names({"state_dict": numbered, "model": "pose_resnet"})
    assert {name: value.item() for name, value in found.items()} == {name: i for i, name in enumerate(wanted.values())}
    assert found.keys() == model.state_dict().keys() and keypoints is None


def save_mmpose(path, model: nn.Module, keypoints=COCO.keypoints, **more) -> str:
    """A file as mmengine's runner saves it, with NumPy's arrays of the data set, in torch's old format."""
    meta = dict(
        dataset_meta=dict(
            keypoint_id2name=dict(enumerate(keypoints)),
            sigmas=np.full(len(keypoints), 0.05, np.float32),
            keypoint_colors=np.zeros((len(keypoints), 3), np.uint8),
            share=np.float64(0.5),
        )
    )
    contents = {"meta": meta, "state_dict": under(mobilenet_names(), model), **more}
    torch.save(contents, path, _use_new_zipfile_serialization=False)
    return str(path)


@pytest.mark.parametrize("kind", ["static", "dynamic", "dcd"])
def test_a_network_of_any_kind_starts_from_it_with_its_heatmaps(tmp_path, kind):
    theirs = network(None)
    path = save_mmpose(tmp_path / "a.pth", theirs)
    ours = network(None, kind)
    (told,) = load_initial(ours, path, skeleton=COCO)
    assert ("taken as they are" if kind == "static" else "those of the static network") in told
    with torch.no_grad():
        assert_same(ours.eval()(CROPS), theirs(CROPS))


def test_a_checkpoint_of_a_run_with_its_histories_is_read(tmp_path):
    history = dict(log_scalars={"train/loss": HistoryBuffer([1.0, 2.0], [1, 1])})
    path = save_mmpose(tmp_path / "epoch_2.pth", network(None), message_hub=history, optimizer={"state": {}})
    assert load_checkpoint(path)[KEYPOINTS] == list(COCO.keypoints)


def test_its_keypoints_go_by_name(tmp_path):
    theirs = network(None, num_keypoints=2)
    path = save_mmpose(tmp_path / "a.pth", theirs, ("left_ear", "nose"))
    ours = network(None)
    (told,) = load_initial(ours, path, skeleton=COCO)
    assert "of that 2 of 17 keypoints by name" in told
    assert torch.equal(ours.head.final.weight[0], theirs.head.final.weight[1])


def test_a_file_without_counters_of_batches_is_taken(tmp_path):
    """Of torch before 0.4.1, with which SimpleBaseline published."""
    theirs = network(18)
    state = {name: value for name, value in under(resnet_names(18), theirs).items() if "num_batches" not in name}
    torch.save(state, tmp_path / "pose_resnet_18.pth.tar")
    ours = network(18)
    load_weights(ours, tmp_path / "pose_resnet_18.pth.tar")
    with torch.no_grad():
        assert torch.equal(ours(CROPS), theirs(CROPS))


def test_a_network_of_bgr_sees_what_cv2_gave_it_in_training():
    """SimpleBaseline's loader keeps cv2's BGR and normalizes it by RGB's figures, zeros around it."""
    crop = torch.randint(0, 256, (1, 3, 64, 64), generator=torch.Generator().manual_seed(0)) / 255  # RGB
    mean, std = (torch.tensor(value)[:, None, None] for value in (MEAN, STD))
    ours, theirs = network(18, channel_order="bgr"), network(18)
    with torch.no_grad():
        assert_same(ours((crop - mean) / std), theirs((crop.flip(1) - mean) / std))
    assert ours.state_dict().keys() == theirs.state_dict().keys()


def test_another_programs_other_network_is_refused_in_a_line(tmp_path):
    torch.save({"state_dict": {"stage2.0.branches.0.0.conv1.weight": torch.zeros(1)}}, tmp_path / "hrnet.pth")
    with pytest.raises(CheckpointError, match=r"hrnet\.pth: another program's checkpoint, of a network that this"):
        load_checkpoint(tmp_path / "hrnet.pth")


def test_a_network_that_is_not_the_configurations_is_refused(tmp_path):
    path = save_mmpose(tmp_path / "a.pth", network(None))
    with pytest.raises(CheckpointError, match="checkpoint of another network"):
        load_weights(build_pose_net(dict(type="mobilenet_v2", width=0.5), DECONV), path)


# --- by name


NAME = "td-hm_mobilenetv2_8xb64-210e_coco-256x192"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """torch's folder of downloads, empty."""
    monkeypatch.setattr(published_weights.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def test_a_published_file_that_is_not_there_is_named_with_its_place_and_hash(hub, monkeypatch):
    monkeypatch.setattr(published_weights.hub, "download_url_to_file", pytest.fail)
    with pytest.raises(CheckpointError) as told:
        load_checkpoint(f"mmpose:{NAME}")
    for part in ("nothing is fetched unasked", f"{NAME}-55a04c35_20221016.pth", "begins with 55a04c35", str(hub)):
        assert part in str(told.value)
    with pytest.raises(ValueError, match="did you mean 'td-hm_res50_8xb64-210e_coco-256x192'"):
        load_checkpoint("mmpose:td-hm_res50_8xb64_coco-256x192")


def test_a_file_by_name_is_taken_where_its_hash_is_right(hub, monkeypatch):
    save_mmpose(hub / "a.pth", network(None))
    digits = hashlib.sha256((hub / "a.pth").read_bytes()).hexdigest()[:8]
    entry = PUBLISHED[NAME]._replace(file=f"{NAME}-{digits}_20221016.pth")
    monkeypatch.setitem(PUBLISHED, NAME, entry)
    (hub / "a.pth").rename(hub / entry.file)
    assert "static network" in load_initial(network(None, "dynamic"), f"mmpose:{NAME}", skeleton=COCO)[0]
    (hub / entry.file).write_bytes(b"another")
    with pytest.raises(CheckpointError, match="not the published file"):
        published_file(f"mmpose:{NAME}")


def test_the_tool_fetches_what_is_asked_for_and_lists_the_others(hub, run_tool, monkeypatch):
    served = hub.parent / "served.pth"
    save_mmpose(served, network(None))
    digits = hashlib.sha256(served.read_bytes()).hexdigest()[:8]
    entry = PUBLISHED[NAME]._replace(file=f"{NAME}-{digits}_20221016.pth")
    monkeypatch.setitem(PUBLISHED, NAME, entry)
    monkeypatch.setattr(type(entry), "url", property(lambda self: served.as_uri()))
    code, printed, _ = run_tool("download_weights.py", f"mmpose:{NAME}")
    assert code == 0 and (hub / entry.file).is_file() and str(hub / entry.file) in printed
    assert run_tool("download_weights.py")[1].count("mmpose:") == len(PUBLISHED)
    (hub / entry.file).unlink()
    monkeypatch.setitem(PUBLISHED, NAME, entry._replace(file=f"{NAME}-00000000_20221016.pth"))
    code, _, error = run_tool("download_weights.py", NAME)
    assert code == 2 and "invalid hash value" in error and list(hub.iterdir()) == []
