"""Search training options on the validation split, with optuna.

    python tools/tune.py CONFIG --search train.learning_rate=log:1e-4:5e-3 train.weight_decay=log:1e-6:1e-2
    python tools/tune.py CONFIG --trials 40 --search train.optimizer=adam,adamw augmentation.rotation_degrees=20:60

A range is LOW:HIGH (whole numbers where both are), log:LOW:HIGH, or values with commas. A trial trains the
configuration with --cfg-options and its own values, and counts by the best AP on data.val; one that is worse than the
median of the others at a validation is pruned there (--no-pruning: none is). data.test is not read at all: test the
best one on it, once, in the end. The same command goes on after any stop, a killed trial from its last checkpoint, and
can be started several times, once a core or GPU.

The work folder gets trial_NUMBER for each trial, study.log, which is optuna's journal, and tune.md with the table.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
from pathlib import Path
from typing import Any

from pose.command_line import CommandParser, add_device_argument, count, parse_options
from pose.config import Settings, load_settings
from pose.device import choose_device
from pose.engine.search_ranges import parse_ranges
from pose.engine.tuning import Search, format_search
from pose.errors import command
from pose.files import check_outputs, replacing


@command
def main() -> int:
    parser = CommandParser(__doc__)
    parser.add_argument("config", type=Path, help="configuration")
    parser.add_argument("--search", nargs="+", action="extend", required=True, metavar="KEY=RANGE", help="see above")
    parser.add_argument("--trials", type=count(1), default=20, help="in all, those of before too (default: 20)")
    parser.add_argument("--work-dir", type=Path, help="default: work_dirs/tune_NAME")
    parser.add_argument("--cfg-options", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    add_device_argument(parser)
    parser.add_argument("--no-pruning", action="store_true", help="train every trial to its end")
    parser.add_argument("--report-only", action="store_true", help="say what is done, train nothing")
    arguments = parser.parse_args()
    given, ranges = parse_options(arguments.cfg_options), parse_ranges(arguments.search)

    def settings_of(options: dict[str, Any]) -> Settings:
        return load_settings(arguments.config, {**given, **options})

    settings = settings_of({})
    for each in ranges:
        for value in each.ends:
            settings_of({each.key: value})
    folder = arguments.work_dir or Path("work_dirs", f"tune_{arguments.config.stem}")
    check_outputs([folder / "tune.md"], [arguments.config, *settings.data.files()])
    search = Search(settings, ranges, folder, not arguments.no_pruning)
    stopped = (
        None if arguments.report_only else search.run(arguments.trials, choose_device(arguments.device), settings_of)
    )
    text = format_search(search, str(arguments.config), arguments.cfg_options)
    with replacing(folder / "tune.md") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    print(text)
    if stopped:
        print(f"stopped by {stopped.name}, everything is saved; the same command goes on")
        return 128 + stopped
    return 0


if __name__ == "__main__":
    main()
