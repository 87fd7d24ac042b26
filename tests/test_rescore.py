"""Saved predictions: scoring them under any choices gives what the test tool gives under these choices."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_project import ANNOTATIONS, run_tool, write_project

from pose import heatmap
from pose.errors import DataError
from pose.evaluation.coco_eval import FIGURES, score
from pose.evaluation.protocol import TestProtocol, scoring_options
from pose.evaluation.saved_predictions import WAYS, decode_every_way, load_predictions
from pose.heatmap import DECODERS
from pose.skeleton import COCO

__all__ = ["run_tool"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return write_project(tmp_path_factory.mktemp("project"))


@pytest.fixture
def saved(project, run_tool):
    """A file of the network's predictions on the detected boxes."""
    path = project / "saved.npz"
    if not path.exists():
        status, printed, error = run_tool("test.py", project / "tiny.py", project / "tiny.pth",
                                          "--save-predictions", path, "--out", project / "saved.json")  # fmt: skip
        assert (status, error) == (0, "")
        assert f"{load_predictions(path).bytes_per_person():,} bytes a person" in printed
    return path


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_every_way_is_each_way(kind):
    heatmaps, mirrored = np.random.default_rng(2).random((2, 3, 17, 16, 12), dtype=np.float32)
    points, scores = decode_every_way(kind(heatmaps), kind(mirrored), COCO.flip_index)
    for way, shift in enumerate(WAYS):
        for method, name in enumerate(DECODERS):
            if shift is None:
                wanted = heatmap.decode(heatmaps, name)
            else:
                wanted = heatmap.decode_with_flip(heatmaps, mirrored, COCO.flip_index, shift, name)
            np.testing.assert_array_equal(points[:, way, method], wanted[0])
            np.testing.assert_array_equal(scores[:, way], wanted[1])


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        ([], []),
        (["--flip", "off"], ["test.flip=False"]),
        (["--shift", "0"], ["test.flip_shift=0"]),
        (["--shift", "2", "--decode", "dark"], ["test.flip_shift=2", "test.decode=dark"]),
        (["--decode", "none", "--rescore", "off"], ["test.decode=none", "test.rescore=False"]),
        (["--decode", "second_highest", "--nms", "soft"], ["test.decode=second_highest", "test.nms=soft"]),
        (["--nms-threshold", "0.05", "--rescore-threshold", "0.5"],
         ["test.nms_threshold=0.05", "test.rescore_threshold=0.5"]),
        (["--box-threshold", "0.5", "--nms", "off"], ["data.box_threshold=0.5", "test.nms=off"]),
    ],
)  # fmt: skip
def test_scoring_again_is_testing_again(project, saved, run_tool, tmp_path, asked, options):
    status, _, error = run_tool("rescore.py", saved, *asked, "--out", tmp_path / "table.json")
    assert (status, error) == (0, "")
    row = next(iter(json.loads((tmp_path / "table.json").read_text()).values()))
    options = ["--cfg-options", *options] if options else []
    run_tool("test.py", project / "tiny.py", project / "tiny.pth", "--out", tmp_path / "results.json", *options)
    tested = json.loads((tmp_path / "results.protocol.json").read_text())
    assert row == tested
    predictions, protocol = load_predictions(saved), TestProtocol.from_dict(row["protocol"])
    truth = project / "data" / ANNOTATIONS
    _, results = score(predictions.predictions(protocol), truth, **scoring_options(protocol))
    assert results.records() == json.loads((tmp_path / "results.json").read_text())


def test_alone_it_shows_each_alternative(saved, run_tool):
    status, printed, _ = run_tool("rescore.py", saved)
    assert status == 0
    labels = ["as tested", "flip off", "rescoring off", "decode none", "decode second_highest", "decode dark",
              "shift 0", "shift 2", "NMS soft", "NMS off"]  # fmt: skip
    rows = printed.splitlines()[-len(labels) :]
    assert [row.split("  ")[0] for row in rows] == labels
    assert {len(row.removeprefix(label).split()) for row, label in zip(rows, labels, strict=True)} == {len(FIGURES)}


def test_named_choices_are_combined(saved, run_tool, tmp_path):
    out = tmp_path / "table.json"
    assert (
        run_tool("rescore.py", saved, "--flip", "on", "off", "--shift", 0, 1, "--decode", "sign", "--out", out)[0] == 0
    )
    rows = json.loads(out.read_text())
    assert list(rows) == ["flip on, shift 0, decode sign", "flip on, shift 1, decode sign", "flip off, decode sign"]
    assert [row["protocol"]["flip_shift"] for row in rows.values()][:2] == [0, 1]


def test_a_person_takes_2504_bytes(saved):
    predictions = load_predictions(saved)
    assert predictions.bytes_per_person() == 2504
    assert saved.stat().st_size == pytest.approx(2504 * len(predictions), abs=5000)


def test_boxes_that_were_not_saved_cannot_come_back(saved):
    predictions = load_predictions(saved)
    predictions = replace(predictions, protocol=predictions.varied(box_threshold=0.5))
    with pytest.raises(DataError, match=r"below 0\.5 were not saved"):
        predictions.varied(box_threshold=0.4)


def test_other_annotations_are_said(project, saved, run_tool, tmp_path):
    changed = json.loads((project / "data" / ANNOTATIONS).read_text())
    changed["annotations"] = changed["annotations"][1:]
    (tmp_path / "changed.json").write_text(json.dumps(changed))
    status, printed, _ = run_tool("rescore.py", saved, "--nms", "off", "--annotations", tmp_path / "changed.json")
    assert status == 0 and "not the file that the test was run on" in printed and "annotations: changed.json" in printed


def cut(folder, saved):
    (folder / "cut.npz").write_bytes(saved.read_bytes()[:5000])
    return folder / "cut.npz"


def other(folder, saved):
    np.savez(folder / "other.npz", a=np.zeros(3))
    return folder / "other.npz"


def text(folder, saved):
    (folder / "text.npz").write_text("hello")
    return folder / "text.npz"


@pytest.mark.parametrize(
    ("prepare", "named"),
    [
        (cut, "cut.npz"),
        (other, "other.npz"),
        (text, "text.npz"),
        (lambda folder, saved: folder / "none.npz", "none.npz"),
        (lambda folder, saved: saved, "gone.json"),
    ],
)
def test_bad_files_are_named_in_one_line(saved, run_tool, tmp_path, prepare, named):
    status, printed, error = run_tool("rescore.py", prepare(tmp_path, saved), "--annotations", tmp_path / "gone.json")
    assert (status, printed) == (2, "")
    assert error.count("\n") == 1 and error.startswith("error: ") and named in error
