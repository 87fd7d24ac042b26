"""Look inside a trained dynamic network: is its attention used, where, and which kernels are dead?

    python tools/inspect_attention.py CONFIG CHECKPOINT
    python tools/inspect_attention.py CONFIG CHECKPOINT --boxes annotated --tables use --out work_dirs/attention

Prints and writes as attention.json: `use`, for each layer the entropy of its attention and the use of its kernels,
with matplotlib also as attention.png; `aggregations`, the figures with the same kernels mixed in other ways (DY-CNN,
Table 3); `resolutions`, the figures with the attention off at each resolution or on at that one alone (Table 4).
`use` takes one test; each line of the other two takes another.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pose.checkpoint import load_weights
from pose.command_line import CommandParser, add_config_arguments, count, files_read, settings_from
from pose.device import choose_device
from pose.engine import evaluate
from pose.engine.inspection import MIXED, SWITCHED, TABLES, figure_table, inspect, use_table
from pose.errors import command, missing
from pose.evaluation.protocol import ANNOTATED
from pose.files import check_outputs, make_folder, replacing, write_json
from pose.models.dynamic.inspection import KernelUse


@command
def main() -> None:
    parser = CommandParser(__doc__)
    add_config_arguments(parser)
    parser.add_argument("checkpoint", help="trained weights (.pth) of a network with dynamic convolution")
    parser.add_argument("--boxes", help=f"'{ANNOTATED}' or a detections file (default: data.val.boxes)")
    parser.add_argument("--out", type=Path, help="folder (default: the checkpoint's)")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES, help="default: all three")
    parser.add_argument("--seed", type=count(0), default=0, help="of the shuffling")
    arguments = parser.parse_args()
    boxes = arguments.boxes if arguments.boxes in (None, ANNOTATED) else str(Path(arguments.boxes).absolute())
    settings = settings_from(arguments)
    out = make_folder(arguments.out or Path(arguments.checkpoint).parent)
    check_outputs([out / "attention.json", out / "attention.png"], files_read(arguments, settings))
    device = choose_device(arguments.device)
    model = settings.build_model()
    load_weights(model, arguments.checkpoint)
    model.to(device)
    test_set = evaluate.open_test_set(settings, settings.data.val, boxes)

    def test() -> dict[str, float]:
        return evaluate.test(model, test_set, settings, device).figures

    layers, tables = inspect(model, test, arguments.tables, arguments.seed, arguments.config)
    print(use_table(layers))
    contents: dict[str, object] = {"layers": [asdict(layer) for layer in layers]}
    names = {MIXED: "aggregations", SWITCHED: "resolutions"}
    for title, rows in tables.items():
        contents[names[title]] = rows
        if names[title] in arguments.tables:
            print(figure_table(title, rows))
    write_json(out / "attention.json", contents)
    print(f"written: {out / 'attention.json'}")
    plot(layers, out / "attention.png")


def plot(layers: Sequence[KernelUse], path: Path) -> None:
    """Entropy and shares of the kernels by layer, in the order of the network; needs matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print(f"no plot: {missing('matplotlib')}", file=sys.stderr)
        return
    figure = Figure(figsize=(max(6.0, 0.22 * len(layers)), 6), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True)
    top.plot([layer.entropy for layer in layers], "o-")
    top.set(ylabel="entropy of the attention", ylim=(0, 1.02))
    for kernel in range(max(len(layer.shares) for layer in layers)):
        shares = [layer.shares[kernel] if kernel < len(layer.shares) else float("nan") for layer in layers]
        bottom.plot(shares, ".-", label=f"kernel {kernel}")
    bottom.set(ylabel="share of the attention", ylim=(0, None))
    bottom.legend(ncols=4, fontsize="small")
    names = [layer.name.removesuffix(".conv") for layer in layers]
    bottom.set_xticks(range(len(layers)), names, rotation=90, fontsize="x-small")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
    print(f"written: {path}")


if __name__ == "__main__":
    main()
