"""Would more labels help? Trains one configuration on nested shares of its training images.

    python tools/learning_curve.py configs/lsp/small/mobilenet_v2_x0.5_type_b_dynamic.py
    python tools/learning_curve.py CONFIG --shares 25 50 100 --seeds 0 1 2 --cfg-options train.epochs=20

Every share's images are among the next one's. All shares take as many steps (a small share's persons are drawn more
often), or with `--equal epochs` as many epochs. Weights of the last epoch are tested on the validation split, data.val;
the test split is not read. The same command goes on after any stop, does nothing twice, and can be started several
times, once a core or GPU.

The work folder gets share_PERCENT/seed_N for each run, curve.md with a table and the answer, curve.json and curve.png.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
from pathlib import Path

from pose.command_line import CommandParser, add_device_argument, count, parse_options
from pose.config import load_settings
from pose.device import choose_device
from pose.engine.comparison.finish import finish_all
from pose.engine.comparison.learning_curve import EQUAL, draw_curve, format_curve, plan_curve, summarize_curve
from pose.engine.comparison.summary import plain
from pose.errors import command, require
from pose.files import check_outputs, make_folder, replacing, write_json
from pose.train_settings import MAX_SEED


@command
def main() -> int:
    parser = CommandParser(__doc__)
    parser.add_argument("config", type=Path, help="configuration")
    parser.add_argument(
        "--shares",
        nargs="+",
        type=float,
        default=[12.5, 25, 50, 100],
        metavar="PERCENT",
        help="default: 12.5 25 50 100",
    )
    parser.add_argument("--seeds", nargs="+", type=count(0, MAX_SEED), default=[0], help="default: 0")
    parser.add_argument("--equal", choices=EQUAL, default="steps", help="what all shares have alike (default: steps)")
    parser.add_argument("--work-dir", type=Path, help="default: work_dirs/learning_curve_NAME")
    parser.add_argument("--cfg-options", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    add_device_argument(parser)
    parser.add_argument("--report-only", action="store_true", help="say what is done, train nothing")
    arguments = parser.parse_args()
    for package in ("matplotlib", "scipy"):
        require(package, "a learning curve", extra="compare")
    settings = load_settings(arguments.config, parse_options(arguments.cfg_options))
    folder = make_folder(arguments.work_dir or Path("work_dirs", f"learning_curve_{arguments.config.stem}"))
    shares = [percent / 100 for percent in arguments.shares]
    runs = plan_curve(settings, shares, arguments.seeds, folder, arguments.equal)
    written = [folder / name for name in ("curve.json", "curve.md", "curve.png")]
    check_outputs(written, [arguments.config, *settings.data.files()])
    failed: list[str] = []
    if not arguments.report_only:
        stopped, failed = finish_all(runs, choose_device(arguments.device))
        if stopped:
            print(f"stopped by {stopped.name}, everything is saved; the same command goes on")
            return 128 + stopped
    summary = summarize_curve(runs)
    text = "\n\n".join([format_curve(summary), *(f"Failed: {line}" for line in failed)])
    write_json(written[0], plain(summary))
    with replacing(written[1]) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    print(text)
    if summary["shares"]:
        draw_curve(summary, written[2])
        print(f"curve: {written[2]}")
    return 2 if failed else 0


if __name__ == "__main__":
    main()
