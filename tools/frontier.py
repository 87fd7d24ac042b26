"""Which network for 10 ms here? AP against milliseconds of every network that comes with COCO's keypoints.

    MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=8000000000 OMP_WAIT_POLICY=PASSIVE \\
        python tools/frontier.py --data data/people --within 5 10 --plot frontier.svg
    ... python tools/frontier.py --data data/people --sizes 160x128 192x160 --formats native openvino

Each network runs in PyTorch, by native layers, with banks of float32, bfloat16 and 8 bits, in 8 bits (set by training
persons) and, where the processor has it, in bfloat16, and in every runtime that is installed: one crop at a time, one
thread, all in turns in one process, processor time. AP is that of annotated boxes of a fixed part of the networks' test
set, by one forward pass without the flip average, which would take as long again. --sizes has the networks run, as they
are, on crops of other sizes (height x width) than they were trained on as well; their AP is measured like any other.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
import argparse
import re
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from pose.benchmark import machine
from pose.command_line import CommandParser, count, positive
from pose.errors import command, require
from pose.export.frontier import best_within, draw_frontier, frontier_rows, measure_points
from pose.export.installed import MODULES, installed
from pose.export.measured_networks import Network, shipped_network, take_part
from pose.files import check_outputs
from pose.tables import Page, check_page, table_lines
from pose.weights import shipped, shipped_names

DIVISOR = 32
"""What heights and widths of crops are multiples of: the backbones' stride."""


def size(text: str) -> tuple[int, int]:
    """Height x width, as (width, height)."""
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    sides = [int(side) for side in found.groups()] if found else []
    if not sides or any(side % DIVISOR or not side for side in sides):
        raise argparse.ArgumentTypeError(f"needs HEIGHTxWIDTH, multiples of {DIVISOR} as in 192x160, got {text!r}")
    return sides[1], sides[0]


def find_networks(names: Sequence[str], sizes: Sequence[tuple[int, int]], data: Path) -> dict[str, Network]:
    """The networks with COCO's keypoints at each size, by name; says which are left out."""
    networks = {}
    for name in names:
        if shipped(name).skeleton != "coco":
            print(f"{name}: left out, its keypoints are not COCO's and its data is its own")
            continue
        own = shipped_network(name, data)
        for each in dict.fromkeys([own.settings.data.input_size, *sizes]):
            settings = replace(own.settings, data=replace(own.settings.data, input_size=each))
            other = "" if each == own.settings.data.input_size else f" at {each[1]} x {each[0]}"
            networks[name + other] = replace(own, settings=settings)
    return networks


@command
def main() -> None:
    parser = CommandParser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the networks' test set")
    parser.add_argument("--persons", type=count(), default=500, help="the part's persons (default: 500)")
    parser.add_argument("--networks", nargs="+", choices=shipped_names(), default=shipped_names(), help="default: all")
    parser.add_argument("--sizes", nargs="+", type=size, default=[], metavar="HxW", help="other sizes of crops")
    parser.add_argument("--formats", nargs="*", choices=MODULES, default=list(MODULES), help="default: all installed")
    parser.add_argument("--rounds", type=count(2), default=10, help="turns (default: 10)")
    parser.add_argument("--runs", type=count(), default=5, help="runs of each in a turn (default: 5)")
    parser.add_argument("--within", nargs="+", type=positive, default=[10.0], metavar="MS", help="(default: 10)")
    parser.add_argument("--plot", type=Path, help="an .svg or .png for the plot; it is replaced")
    parser.add_argument("--write", type=Path, help="a Markdown file for the table; it is replaced")
    arguments = parser.parse_args()
    check_outputs([arguments.plot])
    check_page(arguments.write)
    if arguments.plot:
        require("matplotlib", "a plot")
    torch.set_num_threads(1)
    networks = find_networks(arguments.networks, arguments.sizes, arguments.data)
    if not networks:
        return
    settings = next(iter(networks.values())).settings
    tested = settings.data.tested
    page = Page(
        "The frontier: AP against milliseconds",
        f"{machine()}, one thread, one crop at a time, all in turns in one process. Processor time, the median of "
        f"{arguments.rounds} turns of {arguments.runs} runs; programs that ran beside it (the load is that before the "
        f"first turn) lengthen all times. AP of annotated boxes of {tested.annotations}'s first {arguments.persons} "
        "persons, one pass without the flip average; what gives PyTorch's heatmaps to 1e-4 shares its AP.",
    )
    with tempfile.TemporaryDirectory() as folder:
        part = take_part(
            settings.data.path(tested.annotations), tested.images, arguments.persons, Path(folder, "part.json")
        )
        formats = installed(arguments.formats)
        points = measure_points(networks, formats, part, Path(folder), arguments.rounds, arguments.runs, print)
    page.add(*table_lines(["network", "by", "ms", "AP", "front"], frontier_rows(points), 2), "")
    for milliseconds in arguments.within:
        best = best_within(points, milliseconds)
        said = f"{best.network} by {best.form}, {best.milliseconds:.1f} ms, AP {best.ap:.4f}" if best else "nothing"
        page.add(f"Within {milliseconds:g} ms here: {said}.", "")
    if arguments.plot:
        draw_frontier(points, arguments.plot, f"AP of {arguments.persons} persons, {machine().partition(',')[0]}")
        print(f"plot: {arguments.plot}")
    page.write(arguments.write)


if __name__ == "__main__":
    main()
