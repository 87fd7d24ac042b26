"""Parameters and multiply-adds of a network, beside the cells that its paper prints.

    python tools/complexity.py configs/coco/mobilenet_v2_x0.5_type_b_dynamic.py
    python tools/complexity.py --all                                    # every configuration, all tables of the papers
    python tools/complexity.py --all --write docs/tables/complexity.md  # the page of the documentation

A multiply-add is one product with its sum. Counted are convolutions and fully connected layers, and all that a
dynamic layer does beyond its static counterpart. `same` means equal to the printed cell's last digit.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pose.command_line import CommandParser
from pose.config import load_settings
from pose.errors import command
from pose.models.classifier import build_classifier
from pose.models.complexity import Complexity, measure, measure_pose_net
from pose.models.published import IMAGENET, NOTES, POSE_BACKBONES, POSE_HEADS, Published, find
from pose.tables import Page, check_page, table_lines

HEADER = ("network", "parameters, M", "printed", "", "convolution, M", "attention", "aggregation", "all", "printed", "")
ABOUT = (
    "Parameters and multiply-adds, in millions, beside the cells that the papers print; docs/models.md says what is "
    "counted."
)


@command
def main() -> None:
    parser = CommandParser(__doc__)
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("config", nargs="?", help="configuration file, see configs/")
    chosen.add_argument("--all", action="store_true", help="every file of configs/coco, and the ImageNet networks")
    parser.add_argument("--write", type=Path, help="a Markdown file for the tables; it is replaced")
    arguments = parser.parse_args()
    check_page(arguments.write, arguments.config)
    if arguments.all:
        paths = sorted(Path(__file__).parents[1].glob("configs/coco/*.py"))
        tables = [
            (
                "Pose networks at the input size of their configuration",
                [row for path in paths for row in pose_rows(path)],
            ),
            ("ImageNet networks at 224 x 224, 1000 classes", imagenet_rows()),
        ]
    else:
        tables = [(arguments.config, pose_rows(Path(arguments.config)))]
    page = Page("Parameters and multiply-adds", ABOUT)
    for title, rows in tables:
        page.add(f"## {title}", "", *table_lines(HEADER, rows, 1), "")
    page.add(*notes(tables))
    page.write(arguments.write)


def pose_rows(path: Path) -> list[list[str]]:
    """Backbone and head of a configuration, each beside its printed cells."""
    settings = load_settings(path)
    model = settings.build_model()
    backbone, head = measure_pose_net(model, tuple(settings.data.input_size))
    rows = POSE_HEADS.get(model.backbone.out_channels, ())
    return [
        row(f"{path.stem}: backbone", backbone, printed(POSE_BACKBONES, settings.model["backbone"])),
        row(f"{path.stem}: head", head, printed(rows, settings.model["head"])),
    ]


def printed(rows: tuple, section: Mapping[str, Any]) -> Published:
    """The printed cells of a section of a configuration, or empty ones."""
    found = find(rows, section)
    return Published() if found is None else found.published


def imagenet_rows() -> list[list[str]]:
    """Every network of both papers' ImageNet tables."""
    image = torch.zeros(1, 3, 224, 224)
    return [row(entry.name, measure(build_classifier(entry.section), image)[0], entry.published) for entry in IMAGENET]


def row(name: str, cost: Complexity, published: Published) -> list[str]:
    """One line of a table; a cell that differs points at its note."""
    of_parameters, of_madds = published.explain(cost.parameters, cost.madds)
    counts = (cost.convolution, cost.attention, cost.aggregation, cost.madds)
    return [
        name,
        f"{cost.parameters / 1e6:.3f}",
        published.params or "",
        of_parameters,
        *(f"{count / 1e6:.2f}" for count in counts),
        published.madds or "",
        of_madds,
    ]


def notes(tables: list[tuple[str, list[list[str]]]]) -> list[str]:
    """The notes that the tables point at, a line each."""
    cells = {cell for _, rows in tables for cells in rows for cell in cells}
    used = [name for name in NOTES if any(f"[{name}]" in cell for cell in cells)]
    return [f"* [{name}] {NOTES[name]}" for name in used]


if __name__ == "__main__":
    main()
