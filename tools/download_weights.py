"""Fetch checkpoints that mmpose publishes of networks that this project has.

    python tools/download_weights.py                                                   # which there are
    python tools/download_weights.py mmpose:td-hm_mobilenetv2_8xb64-210e_coco-256x192

A file is checked by the digits of its SHA-256 that its name holds and put where torch and mmpose keep theirs; training,
test, demo and export take its name in place of a checkpoint's path then. docs/model_zoo.md says more.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split

from pose.command_line import CommandParser
from pose.errors import command
from pose.published_weights import MMPOSE, PUBLISHED, download, folder
from pose.tables import table_lines


@command
def main() -> None:
    parser = CommandParser(__doc__)
    parser.add_argument("names", nargs="*", metavar="mmpose:NAME", help="what to fetch; nothing lists what there is")
    arguments = parser.parse_args()
    for name in arguments.names:
        print(download(name.removeprefix(MMPOSE)))
    if not arguments.names:
        rows = [
            [f"{MMPOSE}{name}", entry.config, f"{entry.input_size[0]} x {entry.input_size[1]}", f"{entry.ap:.3f}",
             "there" if (folder() / entry.file).is_file() else ""]
            for name, entry in PUBLISHED.items()
        ]  # fmt: skip
        print("\n".join(table_lines(["name", "configuration", "input", "mmpose's AP", str(folder())], rows)))


if __name__ == "__main__":
    main()
