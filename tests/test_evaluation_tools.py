"""The smaller tools of the evaluation, each run as a person runs it."""

import pytest
from small_project import run_tool

__all__ = ["run_tool"]


def test_the_benchmark_compares_each_way_with_its_floor(run_tool):
    pytest.importorskip("faster_coco_eval")
    size = ("--images", 20, "--boxes", 300, "--persons", 30, "--repeats", 1)
    status, printed, error = run_tool("benchmark_evaluation.py", *size)
    assert (status, error) == (0, "")
    for name in ("argmax alone", "sign, flip average", "dark", "pycocotools evaluate and accumulate", "score()"):
        line = next(line for line in printed.splitlines() if line.startswith(f"| {name} |"))
        assert float(line.split("|")[2].replace(",", "")) > 0
