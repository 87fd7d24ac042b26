"""The benchmarks of data and training run and print what they say they do."""

import runpy
from pathlib import Path

import pytest
from tiny import write_config, write_tiny_set

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


def test_ways_to_load_are_compared_with_plain_decoding(monkeypatch, capsys, config):
    ceiling, *ways = run(monkeypatch, capsys, "benchmark_data.py", config, "--rounds", 2)[-5:]
    assert ceiling.startswith("decode and warp")
    assert [line[:30].strip() for line in ways] == [
        "training way",
        "reduced decoding",
        "crop cache",
        "crop cache, reduced decoding",
    ]
    assert all(float(line.split()[-3]) > 0 for line in ways)


def test_training_steps_are_timed_with_and_without_data(monkeypatch, capsys, config):
    # not in bfloat16: a processor without instructions for it takes minutes
    options = ("--batch", 2, 4, "--steps", 2, "--device", "cpu", "--precision", "float32")
    lines = run(monkeypatch, capsys, "benchmark_training.py", config, *options)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[4:]]
    assert [row[:3] for row in rows] == [["config", "float32", batch] for batch in ("2", "4")]
    assert all(float(row[3]) > 0 and float(row[4]) > 0 for row in rows)


def test_native_steps_are_compared_with_torchs_and_their_memory(monkeypatch, capsys, config):
    lines = run(monkeypatch, capsys, "benchmark_training.py", config, "--native", "--batch", 2, "--steps", 2)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")]
    assert [row[:2] for row in rows if row[1] == "config"] == 2 * [["torch", "config"], ["native", "config"]]
    assert all(float(row[2]) > 0 for row in rows[1:3])
    assert all(cell.endswith(" MiB") for row in rows[4:] for cell in row[2:])
