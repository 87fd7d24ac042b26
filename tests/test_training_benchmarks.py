"""The benchmarks of data and training run and print what they say they do."""

import runpy
from pathlib import Path

import pytest
from tiny import write_config, write_tiny_set

from pose.models.native.training.layers import has_pairs

TOOLS = Path(__file__).resolve().parents[1] / "tools"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return write_config(folder / "config.py", write_tiny_set(folder / "set", train=36))


def run(monkeypatch, capsys, name, *arguments):
    """What a tool printed, line by line."""
    monkeypatch.setattr("sys.argv", [name, *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(TOOLS / name), run_name="__main__")
    assert ended.value.code == 0
    return capsys.readouterr().out.splitlines()


def rows_of(lines):
    """The cells of all lines of tables but the rules."""
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")]
    return [row for row in cells if not set(row[0]) <= {"-"}]


def test_ways_to_load_are_compared_with_plain_decoding(monkeypatch, capsys, config, tmp_path):
    page = tmp_path / "data.md"
    run(monkeypatch, capsys, "benchmark_data.py", config, "--rounds", 2, "--write", page)
    head, *rows = rows_of(page.read_text().splitlines())
    assert head[0] == "way"
    assert [row[0] for row in rows] == [
        "decode and warp",
        "training way",
        "reduced decoding",
        "crop cache",
        "crop cache, reduced decoding",
    ]
    assert all(float(cell) > 0 for row in rows for cell in row[1:])


def test_training_steps_are_timed_with_and_without_data(monkeypatch, capsys, config):
    # not in bfloat16: a processor without instructions for it takes minutes
    options = ("--batch", 2, 4, "--steps", 2, "--device", "cpu", "--precision", "float32")
    head, *rows = rows_of(run(monkeypatch, capsys, "benchmark_training.py", config, *options))
    assert head[3:5] == ["persons/s", "persons/s with data"]
    assert [row[:3] for row in rows] == [["config", "float32", batch] for batch in ("2", "4")]
    assert all(float(row[3]) > 0 and float(row[4]) > 0 for row in rows)


def test_native_steps_are_compared_with_torchs_and_their_memory(monkeypatch, capsys, config):
    rows = rows_of(run(monkeypatch, capsys, "benchmark_training.py", config, "--native", "--batch", 2, "--steps", 2))
    kinds = ["torch", "native", *(["native, bfloat16"] if has_pairs() else [])]  # as this processor can
    steps, memory = rows[1 : 1 + len(kinds)], rows[2 + len(kinds) :]
    assert [row[:2] for row in steps] == [[kind, "config"] for kind in kinds]
    assert all(float(row[2]) > 0 for row in steps)
    assert [row[:2] for row in memory] == [[kind, "config"] for kind in kinds]
    assert all(cell.endswith(" MiB") for row in memory for cell in row[2:])
