"""tools/predict.py: very many pictures become tables in parts, by several processes, after any stop."""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_project import run_tool, write_project

from pose import Predictor
from pose.errors import DataError
from pose.inference.bulk.finder import FindPoses
from pose.inference.bulk.run import open_run, part_name, run_parts, summarize
from pose.inference.bulk.sources import list_parts
from pose.inference.images import as_image
from pose.poses import rounded

__all__ = ["run_tool"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return write_project(tmp_path_factory.mktemp("project"))


def encoded(seed, size=(40, 60)):
    pixels = np.random.default_rng(seed).integers(0, 255, (4, 6, 3), np.uint8)
    return cv2.imencode(".png", cv2.resize(pixels, size))[1].tobytes()


@pytest.fixture
def photos(tmp_path):
    """Five pictures in two folders, one of them cut off, and an archive of two with their labels."""
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    for number, name in enumerate(("a.png", "b.png", "below/c.png", "below/d.png")):
        (folder / name).write_bytes(encoded(number))
    (folder / "below" / "bad.jpg").write_bytes(b"\xff\xd8 no end")
    with tarfile.open(folder / "shard-0.tar", "w") as archive:
        for name, content in (("e.png", encoded(5)), ("e.json", b"{}"), ("f.png", encoded(6))):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return folder


NAMES = ["a.png", "b.png", "below/bad.jpg", "below/c.png", "below/d.png", "shard-0.tar/e.png", "shard-0.tar/f.png"]


def rows_of(folder):
    return [json.loads(line) for part in sorted(folder.glob("*.jsonl")) for line in part.read_text().splitlines()]


@pytest.fixture
def tool(project, run_tool):
    def run(source, out, *options):
        network = ["--network", project / "tiny.py", project / "tiny.pth", "--boxes", "whole", "--device", "cpu"]
        return run_tool("predict.py", source, "--out", out, "--format", "jsonl", *network, *options)

    return run


def test_every_picture_has_a_row_that_says_what_the_predictor_says(project, photos, tool, tmp_path):
    status, printed, error = tool(photos, tmp_path / "out", "--part", 3, "--batch", 2)
    assert status == 0 and "below/bad.jpg: picture is cut off" in error
    assert "7 pictures, 6 persons, 1 bad picture" in printed and "decoding alone would allow" in printed
    rows = rows_of(tmp_path / "out")
    assert [row["image"] for row in rows] == NAMES
    assert [row["error"] is None for row in rows] == [name != "below/bad.jpg" for name in NAMES]
    predictor = Predictor.from_config(project / "tiny.py", project / "tiny.pth", device="cpu")
    for row in rows[:2]:
        poses = predictor(as_image(photos / row["image"]))
        keypoints, scores = rounded(poses.keypoints, poses.scores)
        np.testing.assert_allclose(np.reshape(row["keypoints"], (-1, 17, 3)), keypoints, atol=2e-3)
        np.testing.assert_allclose(row["scores"], scores, atol=1e-5)
        assert (row["boxes"], row["box_scores"]) == ([[0, 0, 40, 60]], [1])
        assert (row["width"], row["height"]) == (40, 60)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["pictures"], summary["persons"], [name for name, _ in summary["bad"]]) == (7, 6, ["below/bad.jpg"])
    assert json.loads((tmp_path / "out" / "run.json").read_text())["keypoints"][0] == "nose"


def test_a_list_and_a_pattern_are_the_same_pictures(photos, tool, tmp_path):
    (photos / "names.txt").write_text("\n".join([*NAMES[:5], "shard-0.tar", "", "gone.png"]) + "\n")
    assert tool(photos / "names.txt", tmp_path / "list")[0] == 0
    rows = {row["image"]: row for row in rows_of(tmp_path / "list")}
    assert sorted(rows) == sorted([*NAMES, "gone.png"]) and "not found" in rows["gone.png"]["error"]
    assert tool(f"{photos}/*.tar", tmp_path / "pattern")[0] == 0
    found = rows_of(tmp_path / "pattern")
    assert [Path(row["image"]).name for row in found] == ["e.png", "f.png"]
    assert found[0]["keypoints"] == rows["shard-0.tar/e.png"]["keypoints"]


def test_processes_share_the_parts_and_a_killed_one_is_gone_on_with(project, photos, tmp_path, monkeypatch):
    parts = list_parts(photos, 2)
    predictor = Predictor.from_config(project / "tiny.py", project / "tiny.pth", device="cpu")
    out, seen = tmp_path / "out", []
    open_run(out, {"network": "tiny"}, parts)

    class Counted(FindPoses):
        def begin(self, files):
            seen.extend(name for name, _ in files)
            return super().begin(files)

    def process(rank, of=2):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", str(of))
        return run_parts(Counted(predictor), parts, out, ".jsonl", 2, print)

    killed = FindPoses.finish
    monkeypatch.setattr(FindPoses, "finish", lambda self, begun: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        process(0)
    monkeypatch.setattr(FindPoses, "finish", killed)
    half = out / f".{part_name(parts[0])}.123.jsonl"  # what SIGKILL leaves
    half.write_text("half a li")
    seen.clear()
    assert process(1).images == 2 + 2 and summarize(out, parts) is None
    assert process(0).images == 2 + 1
    assert sorted(seen) == sorted(NAMES) and not half.exists()
    assert process(0, of=1).images == process(0, of=3).images == 0
    assert summarize(out, parts)["pictures"] == len(rows_of(out)) == 7


def test_nobody_on_a_picture_is_a_row_without_persons(project, photos):
    predictor = Predictor.from_config(project / "tiny.py", project / "tiny.pth", device="cpu")
    empty = as_image(photos / "b.png")
    predictor.detector = lambda image: np.array([[0, 0, 9, 9, 0.5]])[: int((image != empty).any())]
    finder = FindPoses(predictor)
    rows = finder.finish(finder.begin([(name, photos / name) for name in NAMES[:5]]))
    counts = [len(row["scores"]) for row in rows]
    assert sorted(set(counts)) == [0, 1]
    assert [len(row["keypoints"]) for row in rows] == [len(row["boxes"]) for row in rows] == counts
    assert any(not row["scores"] and row["error"] is None for row in rows)


def test_another_run_in_the_folder_is_refused(photos, tool, tmp_path):
    out = tmp_path / "out"
    assert tool(photos, out)[0] == 0
    before = sorted((path.name, path.stat().st_mtime_ns) for path in out.iterdir() if path.name != "summary.json")
    status, printed, _ = tool(photos, out)
    assert status == 0 and "0 pictures, 0 persons" in printed and "2 parts, 7 pictures" in printed
    after = sorted((path.name, path.stat().st_mtime_ns) for path in out.iterdir() if path.name != "summary.json")
    assert [each for each in after if ".lock" not in each[0]] == [each for each in before if ".lock" not in each[0]]
    status, _, error = tool(photos, out, "--cfg-options", "test.flip=False")
    assert status == 2 and "holds another run (options differ)" in error
    (photos / "new.png").write_bytes(encoded(9))
    status, _, error = tool(photos, out)
    assert status == 2 and "input_sha256 differ" in error


def test_an_archive_that_is_cut_off_is_a_bad_row(photos, tool, tmp_path):
    whole = (photos / "shard-0.tar").read_bytes()
    (photos / "shard-0.tar").write_bytes(whole[: whole.index(b"f.png") + 600])
    assert tool(photos / "shard-0.tar", tmp_path / "out")[0] == 0
    rows = rows_of(tmp_path / "out")
    assert [row["image"] for row in rows] == ["shard-0.tar/e.png", "shard-0.tar"]
    assert "archive cannot be read to its end" in rows[1]["error"]


def test_every_kind_of_picture_in_a_folder_is_read_or_a_bad_row(tool, tmp_path):
    (tmp_path / "in").mkdir()
    coded = cv2.imencode(".png", np.zeros((40, 60, 3), np.uint8))[1].tobytes()
    for name in ("a.gif", "b.HEIC", "c.avif"):
        (tmp_path / "in" / name).write_bytes(b"no picture" if "HEIC" in name else coded)
    with tarfile.open(tmp_path / "in/d.tar", "w") as archive:
        archive.add(tmp_path / "in/a.gif", "e.gif")
    assert tool(tmp_path / "in", tmp_path / "out")[0] == 0
    bad = {row["image"]: bool(row["error"]) for row in rows_of(tmp_path / "out")}
    assert bad == {"a.gif": False, "b.HEIC": True, "c.avif": False, "d.tar/e.gif": False}


@pytest.mark.parametrize("source", ["absent", "empty", "list.bin"])
def test_an_input_without_pictures_is_told(tmp_path, source):
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.bin").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(DataError, match=source):
        list_parts(tmp_path / source, 10)


def test_parquet_has_the_same_rows(photos, project, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    parts = list_parts(photos, 1000)
    predictor = Predictor.from_config(project / "tiny.py", project / "tiny.pth", device="cpu")
    for suffix in (".parquet", ".jsonl"):
        open_run(tmp_path / suffix, {}, parts)
        run_parts(FindPoses(predictor), parts, tmp_path / suffix, suffix, 3, print)
    tables = [parquet.read_table(path) for path in sorted((tmp_path / ".parquet").glob("*.parquet"))]
    rows = [row for table in tables for row in table.to_pylist()]
    for row, wanted in zip(rows, rows_of(tmp_path / ".jsonl"), strict=True):
        assert row.keys() == wanted.keys() and row["image"] == wanted["image"] and row["error"] == wanted["error"]
        np.testing.assert_allclose(row["keypoints"], wanted["keypoints"], rtol=1e-5)
    assert json.loads(tables[0].schema.metadata[b"keypoints"])[0] == "nose"
    contents = np.empty(2, object)  # as Ray Data gives it
    contents[:] = [(photos / "a.png").read_bytes(), b"no picture"]
    table = FindPoses(lambda: predictor)({"path": np.array(["x/a.png", "x/b.png"], object), "bytes": contents})
    assert table.schema == tables[0].schema and table.column("image").to_pylist() == ["x/a.png", "x/b.png"]
    np.testing.assert_allclose(table.column("keypoints")[0].as_py(), rows[0]["keypoints"], atol=2e-3)
    assert "not a picture" in table.column("error")[1].as_py()


def test_parquet_without_pyarrow_names_the_extra(photos, project, run_tool, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    status, _, error = run_tool("predict.py", photos, "--out", tmp_path / "out", "--boxes", "whole")
    assert status == 2 and ".[large]" in error


@pytest.mark.slow
def test_torchrun_starts_several(photos, project, tmp_path):
    tool = Path(__file__).parents[1] / "tools" / "predict.py"
    network = ["--network", project / "tiny.py", project / "tiny.pth", "--boxes", "whole", "--device", "cpu"]
    options = [photos, "--out", tmp_path / "out", "--format", "jsonl", "--part", 2, *network]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, tool, *options]
    environment = {**os.environ, "PYTHONPATH": str(tool.parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "process 0 of 2: 3 pictures" in done.stdout and "process 1 of 2: 4 pictures" in done.stdout
    assert [row["image"] for row in rows_of(tmp_path / "out")] == NAMES
