"""Choices that mean nothing are refused in a line, with what would do."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pose.command_line import count, parse_options, positive, share
from pose.config import make_settings
from pose.datasets.loading.shared_batches import SharedBatches
from pose.engine.progress import _stored_progress
from pose.engine.reporting import Report
from pose.engine.trainer import Trainer
from pose.errors import CheckpointError, DataError, command
from pose.evaluation.protocol import TestProtocol
from pose.evaluation.saved_predictions import DECODERS, WAYS, SavedPredictions, load_predictions
from pose.inference.boxes import CocoBoxes
from pose.options import OptionError
from pose.skeleton import COCO

MODEL = dict(backbone=dict(type="mobilenet_v2", width=0.1), head=dict(type="bottleneck"))


@pytest.mark.parametrize(
    ("section", "values", "said"),
    [
        ("train", dict(learning_rate=float("inf")), "finite"),
        ("train", dict(learning_rate=float("nan")), "finite"),
        ("train", dict(weight_decay=float("nan")), "nearest is 0"),
        ("train", dict(warm_up=float("inf")), "finite"),
        ("train", dict(milestones=(-1, 3)), "from 0 on"),
        ("data", dict(input_size=(32, 32_000_000)), "at most 4096"),
        ("test", dict(nms_threshold=float("nan")), "between 0 and 1"),
        ("augmentation", dict(rotation_degrees=float("nan")), "from 0 to 180"),
        ("augmentation", dict(rotation_degrees=9999), "from 0 to 180"),
        ("augmentation", dict(blur_sigma=float("inf")), "finite"),
    ],
)
def test_settings(section: str, values: dict, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        make_settings({"model": MODEL, section: values})


@pytest.mark.parametrize("width", [1e-9, 1e9, float("inf"), float("nan")])
def test_widths_that_make_no_other_network(width: float) -> None:
    model = dict(MODEL, backbone=dict(type="mobilenet_v2", width=width))
    with pytest.raises(OptionError, match="width must be"):
        make_settings(dict(model=model)).build_model()


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        (share, "1.5", "the nearest is 1"),
        (share, "-0.1", "the nearest is 0"),
        (share, "nan", "from 0 to 1"),
        (share, "much", "needs a number"),
        (count(), "0", "the nearest is 1"),
        (count(0, 65535), "70000", "the nearest is 65535"),
        (count(0, 2**63 - 1), "9" * 25, "the nearest is 9223372036854775807"),
        (count(), "1.5", "a whole number"),
        (positive, "inf", "finite"),
    ],
)
def test_arguments(kind, text: str, said: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=said):
        kind(text)
    assert share("0.5") == 0.5 and count()("3") == 3 and positive("2") == 2


@pytest.mark.parametrize("content", [{}, [dict(image_id=10**30, category_id=1, bbox=[1, 2, 3, 4], score=1)]])
def test_boxes_of_nothing_and_ids_of_more_than_64_bits(tmp_path: Path, content: object) -> None:
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"boxes\.json"):
        CocoBoxes(tmp_path / "boxes.json")


def test_json_that_is_nested_too_deeply(tmp_path: Path) -> None:
    (tmp_path / "boxes.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="nested too deeply"):
        CocoBoxes(tmp_path / "boxes.json")


def saved(**changed: np.ndarray) -> SavedPredictions:
    arrays = dict(
        image_ids=np.array([1, 2]),
        boxes=np.full((2, 4), 9.0),
        box_scores=np.ones(2),
        annotation_ids=np.array([5, 6]),
        points=np.ones((2, len(WAYS), len(DECODERS), 17, 2), np.float32),
        joint_scores=np.ones((2, len(WAYS), 17), np.float32),
    )
    protocol = TestProtocol(boxes_count=2)
    return SavedPredictions(protocol, COCO, (8, 16), "a.json", "images", **{**arrays, **changed})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (dict(points=np.ones((2, 17, 2), np.float32)), "points is float32"),
        (dict(boxes=np.full((2, 4), np.nan)), "boxes of person 0 holds NaN"),
        (dict(boxes=np.zeros((2, 4))), "no size"),
        (dict(box_scores=np.ones(3)), "box_scores"),
        (dict(image_ids=np.array(["a", "b"])), "image_ids"),
    ],
)
def test_saved_predictions_of_another_shape(tmp_path: Path, changed: dict, said: str) -> None:
    saved(**changed).save(tmp_path / "saved.npz")
    with pytest.raises(DataError, match=rf"saved\.npz.*{said}"):
        load_predictions(tmp_path / "saved.npz")
    saved().save(tmp_path / "saved.npz")
    assert len(load_predictions(tmp_path / "saved.npz")) == 2


def test_predictions_saved_before_the_last_decoder_existed_are_read_without_it(tmp_path: Path) -> None:
    saved(points=np.ones((2, len(WAYS), len(DECODERS) - 1, 17, 2), np.float32)).save(tmp_path / "saved.npz")
    found = load_predictions(tmp_path / "saved.npz")
    assert len(found.predictions(found.varied(decode=DECODERS[-2])).keypoints) == 2
    with pytest.raises(DataError, match=f"{DECODERS[-1]!r} did not exist"):
        found.varied(decode=DECODERS[-1])


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a,b\n1,2\n", None])
def test_a_damaged_table_of_figures(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "metrics.csv"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(DataError, match=r"metrics\.csv"):
        Report(path, 1, ("AP",))


def test_an_optimizer_of_another_network(tmp_path: Path) -> None:
    small, large = (
        Trainer(torch.nn.Linear(size, 2), torch.device("cpu"), optimizer=torch.optim.Adam) for size in (2, 3)
    )
    for trainer in (small, large):
        for parameter in trainer.model.parameters():
            parameter.grad = torch.ones_like(parameter)
        trainer.optimizer.step()
    state = {**small.state_dict(), "optimizer": large.state_dict()["optimizer"]}
    with pytest.raises(CheckpointError, match=r"last\.pth.*optimizer"):
        small.load_state_dict(state, tmp_path / "last.pth")


@pytest.mark.parametrize("epoch", ["three", -1, 1.5, None, True])
def test_an_epoch_that_is_no_number(epoch: object) -> None:
    right = dict(epoch=1, batches=0, persons=0, loss=0.0, seconds=0.0, waited=0.0, best=None)
    assert _stored_progress(right, "AP").epoch == 1
    with pytest.raises(ValueError, match="epoch is"):
        _stored_progress({**right, "epoch": epoch}, "AP")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_too_little_memory_is_told_in_a_line(capsys: pytest.CaptureFixture, error: Exception) -> None:
    @command
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2 and "not enough memory" in capsys.readouterr().err


def test_a_missing_library_keeps_its_line_apart_from_defects() -> None:
    code = "import pose.missing_libraries\nraise ModuleNotFoundError('no', name={!r})"
    for name, status in (("matplotlib.pyplot", 2), ("pose.nowhere", 1)):
        done = subprocess.run([sys.executable, "-c", code.format(name)], capture_output=True, text=True, check=False)
        assert done.returncode == status and ("'.[plots]'" in done.stderr) == (status == 2)


@pytest.mark.parametrize("word", ["nan", "-inf", "Infinity"])
def test_a_number_on_the_command_line_is_finite(word: str) -> None:
    with pytest.raises(OptionError, match=f"model.backbone.width={word}: needs a finite number"):
        parse_options([f"model.backbone.width={word}"])


def test_more_workers_than_memory_is_too_little_memory() -> None:
    with pytest.raises(MemoryError, match="999,999 workers|999999 workers"):
        SharedBatches(999_999, 4096, (4096, 4096))


@pytest.mark.parametrize("content", [[], {"images": [], "annotations": []}])
def test_a_file_without_boxes_is_told(tmp_path: Path, content: object) -> None:
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    (notice,) = CocoBoxes(tmp_path / "boxes.json").notices
    assert "boxes.json: holds no box" in notice


def test_what_is_no_archive_of_predictions_is_not_advised_to_be_unpickled(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_text("hello")
    with pytest.raises(DataError, match=r"a\.npz: not a whole file of saved predictions \(no \.npz archive"):
        load_predictions(tmp_path / "a.npz")
