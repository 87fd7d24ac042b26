"""Train, test and compare networks that differ in nothing but the network.

    python tools/compare.py configs/lsp/mobilenet_v2_x0.5_type_b_{static,dynamic,dcd}.py --seeds 0 1 2
    python tools/compare.py CONFIG CONFIG --seeds 0 1 --cfg-options train.epochs=20

The first configuration is the baseline. All runs of a seed see the same persons in the same order with the same
augmentation and schedule. The same command goes on after any stop, does nothing twice, and can be started several
times, once a core or GPU (--device): a run that another process is at is left to it; one that fails is told and the
others go on. Figures are those of the test
split by the weights that were best on the validation split; where there is no test split, by the last ones.

The work folder gets NAME/seed_N for each run, comparison.md, comparison.json and curves.png.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
from pathlib import Path

from pose.command_line import CommandParser, add_device_argument, count, parse_options
from pose.config import load_settings
from pose.device import choose_device
from pose.engine.comparison.finish import finish_all
from pose.engine.comparison.runs import plan_runs
from pose.engine.comparison.summary import draw_curves, format_table, plain, summarize
from pose.errors import command, require
from pose.files import check_outputs, make_folder, replacing, write_json
from pose.options import OptionError
from pose.train_settings import MAX_SEED


@command
def main() -> int:
    parser = CommandParser(__doc__)
    parser.add_argument("configs", nargs="+", type=Path, help="configurations, the baseline first")
    parser.add_argument("--seeds", nargs="+", type=count(0, MAX_SEED), default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/compare"), help="default: work_dirs/compare")
    parser.add_argument("--cfg-options", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="for all")
    add_device_argument(parser)
    parser.add_argument(
        "--report-only", action="store_true", help="compare what is done, train nothing; with the same --cfg-options"
    )
    arguments = parser.parse_args()
    for package in ("matplotlib", "scipy"):
        require(package, "a comparison", extra="compare")
    if len({path.stem for path in arguments.configs}) < len(arguments.configs):
        raise OptionError("configurations need different file names")
    options = parse_options(arguments.cfg_options)
    networks = {path.stem: load_settings(path, options) for path in arguments.configs}
    runs = plan_runs(networks, arguments.seeds, make_folder(arguments.work_dir))
    written = [arguments.work_dir / name for name in ("comparison.json", "comparison.md", "curves.png")]
    check_outputs(written, arguments.configs)
    failed: list[str] = []
    if not arguments.report_only:
        stopped, failed = finish_all(runs, choose_device(arguments.device))
        if stopped:
            print(f"stopped by {stopped.name}, everything is saved; the same command goes on")
            return 128 + stopped
    summary = summarize(runs)
    table = "\n\n".join([format_table(summary), *(f"Failed: {line}" for line in failed)])
    write_json(arguments.work_dir / "comparison.json", plain(summary))
    with replacing(arguments.work_dir / "comparison.md") as temporary:
        temporary.write_text(table + "\n", encoding="utf-8")
    print(table)
    if summary["networks"]:
        draw_curves(runs, arguments.work_dir / "curves.png")
        print(f"curves: {arguments.work_dir / 'curves.png'}")
    return 2 if failed else 0


if __name__ == "__main__":
    main()
