"""The frontier: the front by hand, and the tool's table and plot of a tiny network in the forms that it has."""

import runpy
from dataclasses import replace

import pytest
from small_project import TOOLS, write_project

from pose.checkpoint import load_weights
from pose.config import load_settings
from pose.export.frontier import Point, _rounded, best_within, draw_frontier, front, frontier_rows, measure_points
from pose.export.measured_networks import Network, take_part

TRAINED = {"annotations": "annotations/person_keypoints_val2017.json", "images": "val2017"}


def test_the_front_is_what_nothing_beats():
    slow, best = Point("a", "PyTorch", 9, 0.4), Point("a", "native layers", 4, 0.4)
    fast, worse, late = Point("b", "native layers", 2, 0.3), Point("b", "PyTorch", 3, 0.2), Point("c", "x", 20, 0.5)
    points = [slow, late, best, worse, fast]
    assert front(points) == [fast, best, late]
    assert best_within(points, 1.9) is None
    assert best_within(points, 2) == fast and best_within(points, 9) == best and best_within(points, 99) == late
    assert [row[4] for row in frontier_rows(points)] == ["yes", "", "yes", "", "yes"]  # from the fastest on


def test_equals_in_time_are_told_by_ap():
    assert front([Point("a", "x", 1, 0.1), Point("b", "x", 1, 0.2)]) == [Point("b", "x", 1, 0.2)]


def test_the_tool_writes_table_and_plot(tmp_path, monkeypatch, capsys):
    folder = write_project(tmp_path)
    settings = load_settings(folder / "tiny.py")
    model = settings.build_model()
    load_weights(model, folder / "tiny.pth")
    tool = runpy.run_path(str(TOOLS / "frontier.py"))
    known = {"tiny": "coco", "other": "skeleton.json"}
    scope = tool["find_networks"].__globals__
    monkeypatch.setitem(scope, "shipped", lambda name: type("Known", (), dict(skeleton=known[name])))
    monkeypatch.setitem(scope, "shipped_network", lambda name, data: Network(model.eval(), settings))
    monkeypatch.setitem(scope, "shipped_names", lambda: tuple(known))
    monkeypatch.setattr("pose.models.native.available", lambda: False)  # nothing is compiled for this
    options = f"--data {folder / 'data'} --persons 3 --sizes 64x64 --formats --rounds 2 --runs 1 --within 1e-6 1e6"
    written = ["--plot", str(tmp_path / "plot.svg"), "--write", str(tmp_path / "table.md")]
    monkeypatch.setattr("sys.argv", ["frontier.py", *options.split(), *written])
    with pytest.raises(SystemExit, match="0"):
        tool["main"]()
    text = (tmp_path / "table.md").read_text()
    assert "| tiny | PyTorch |" in text and "| tiny at 64 x 64 | PyTorch |" in text
    assert "Within 1e-06 ms here: nothing." in text and "Within 1e+06 ms here: tiny" in text
    assert "| other |" not in text and "other: left out" in capsys.readouterr().out
    assert "<svg" in (tmp_path / "plot.svg").read_text()


def test_native_files_that_round_are_points_of_their_own(tmp_path, native_layers):
    folder = write_project(tmp_path)
    settings = load_settings(folder / "tiny.py", {f"data.train.{key}": value for key, value in TRAINED.items()})
    model = settings.build_model()
    load_weights(model, folder / "tiny.pth")
    tested = settings.data.tested
    part = take_part(settings.data.path(tested.annotations), tested.images, 3, tmp_path / "part.json")
    told = []
    network = Network(model.eval(), settings)
    points = measure_points({"tiny": network}, (), part, tmp_path, 2, 1, told.append)
    forms = {point.form for point in points}
    assert {"PyTorch", "native layers", "native layers, 8 bits"} <= forms, told
    missing = replace(settings, data=replace(settings.data, root=str(tmp_path / "nowhere")))
    assert "native layers, 8 bits" not in _rounded(Network(model, missing), settings, part, tmp_path / "a", told.append)
    assert "a: 8 bits are left out" in told[-1]


def test_no_two_forms_look_alike(monkeypatch, tmp_path):
    from matplotlib.axes import Axes

    drawn, plot = [], Axes.plot

    def noting(axis, *values, **options):
        drawn.append((values[2:], options.get("color")))
        return plot(axis, *values, **options)

    monkeypatch.setattr(Axes, "plot", noting)
    points = [Point("a", f"form {number}", 1 + number, number / 40) for number in range(25)]
    draw_frontier(points, tmp_path / "plot.svg", "")
    assert len(drawn) == 26 and len(set(drawn)) == 26  # and the line through the front
