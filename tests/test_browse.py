"""Crops as pictures: what is drawn lies where it says, and the tool writes sheets."""

import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny import write_config, write_tiny_set

from pose.skeleton import COCO, SIDE_COLORS, Skeleton
from pose.visualization import draw_heatmaps, draw_predictions, draw_truth, tile

THREE = Skeleton("three", ("left_hand", "right_hand", "head"), limbs=(("left_hand", "head"), ("right_hand", "head")))
BLACK = np.zeros((64, 48, 3), np.uint8)
POINTS = np.array([(10.0, 20.0), (40.0, 20.0), (24.0, 50.0)])


def test_keypoints_and_limbs_are_colored_by_side_and_unlabeled_ones_left_out():
    drawn = draw_truth(BLACK, POINTS, np.array([True, False, True]), THREE)
    assert tuple(drawn[20, 10]) == SIDE_COLORS["left"]
    assert tuple(drawn[50, 24]) == SIDE_COLORS["center"]
    np.testing.assert_allclose(drawn[35, 17], SIDE_COLORS["left"], atol=25)  # the limb's middle, its edges softened
    assert not drawn[:, 30:].any()
    assert not BLACK.any()


def test_predictions_are_crosses_above_the_threshold():
    drawn = draw_predictions(BLACK, POINTS, np.array([0.9, 0.1, 0.2]), THREE)
    for x, y in ((10, 20), (24, 50)):
        assert drawn[y, x].any()
        assert drawn[y + 4, x - 4].any()
        assert not drawn[y, x + 5].any()
    assert not drawn[:, 32:].any()


def test_heatmaps_glow_where_their_index_sits_in_the_crop():
    heatmaps = np.zeros((2, 16, 12), np.float32)
    heatmaps[1, 5, 7] = 1
    drawn = draw_heatmaps(BLACK, heatmaps).sum(axis=2)
    assert np.unravel_index(drawn.argmax(), drawn.shape) == (20, 28)
    assert not draw_heatmaps(BLACK, 0 * heatmaps).any()


def test_points_far_outside_are_no_trouble():
    far = np.array([(-1e9, 5.0), (np.nan_to_num(np.inf), 1e12), (24.0, 50.0)])
    draw_truth(BLACK, far, np.ones(3, bool), THREE)


def test_tiles_stand_in_rows():
    cells = [np.full((2, 3, 3), value, np.uint8) for value in (1, 2, 3)]
    sheet = tile(cells, 2)
    assert sheet.shape == (4, 6, 3)
    assert sheet[::2, ::3, 0].tolist() == [[1, 2], [3, 0]]
    with pytest.raises(ValueError, match="no image"):
        tile([], 2)


def browse(monkeypatch, *arguments):
    tool = Path(__file__).resolve().parents[1] / "tools" / "browse_dataset.py"
    monkeypatch.setattr("sys.argv", [str(tool), *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(tool), run_name="__main__")
    return ended.value.code


@pytest.mark.parametrize(("split", "count", "sheets"), [("train", 20, 1), ("train", 3, 1), ("val", 20, 1)])
def test_the_tool_writes_sheets_of_crops(monkeypatch, tmp_path, capsys, split, count, sheets):
    root = write_tiny_set(tmp_path / "set")  # 12 persons to train on, 4 to validate on
    config = write_config(tmp_path / "config.py", root)
    out = tmp_path / "out"
    assert browse(monkeypatch, config, "--split", split, "--count", count, "--out", out) == 0
    written = sorted(out.iterdir())
    assert [str(path) for path in written] == capsys.readouterr().out.split()
    assert len(written) == sheets
    persons = min(count, 12 if split == "train" else 4)
    height, width, _ = cv2.imread(str(written[0])).shape
    assert (width, height) == (2 * 32 * min(persons, 4), 64 * -(-persons // 4))


def test_the_tool_tells_what_it_cannot_use_in_one_line(monkeypatch, tmp_path, capsys):
    root = write_tiny_set(tmp_path / "set")
    config = write_config(tmp_path / "config.py", root)
    (tmp_path / "file").write_text("")
    assert browse(monkeypatch, config, "--out", tmp_path / "file" / "out") == 2
    image = root / "val2017" / "000000000101.jpg"
    image.write_text("no image")
    assert browse(monkeypatch, config, "--split", "val", "--out", tmp_path / "out") == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert "000000000101.jpg: not a picture" in errors[1]


def test_sides_of_coco_have_three_colors():
    assert {SIDE_COLORS[side] for side in COCO.sides} == set(SIDE_COLORS.values())
