"""Markdown tables, and the pages of docs/tables that hold nothing but what a tool measured or counted."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from pose.files import check_kind, check_outputs, replacing

GENERATED = "<!-- Written by the command below; a later run replaces the whole page. -->"
"""The first line of a page that :meth:`Page.write` wrote."""


def table_head(columns: Sequence[str], numbers_from: int | None = None) -> list[str]:
    """The two lines that a table begins with.

    Args:
        columns: The titles of the columns.
        numbers_from: The first column that is aligned to the right; None aligns all to the left.
    """
    first = len(columns) if numbers_from is None else numbers_from
    return [table_row(columns), table_row(["---"] * first + ["---:"] * (len(columns) - first))]


def table_row(cells: Iterable[object]) -> str:
    """One line of a table; a bar inside a cell is escaped."""
    return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def table_lines(columns: Sequence[str], rows: Iterable[Iterable[object]], numbers_from: int | None = None) -> list[str]:
    """A whole table, line by line; see :func:`table_head`."""
    return [*table_head(columns, numbers_from), *map(table_row, rows)]


def check_page(path: str | Path | None, *inputs: str | Path | None) -> None:
    """Refuses a page that cannot be written, or would replace one of the inputs or a file that is no page.

    Args:
        path: As for :meth:`Page.write`.
        inputs: Files that the tool reads.

    Raises:
        OutputError: It would.
    """
    check_outputs([path], inputs)
    check_kind(path, ".md")


class Page:
    """A page of results: each line is printed as soon as it is there, and all can be written in the end.

    Args:
        title: The heading.
        about: Where the results are from: the machine, the versions, the way of counting.
    """

    def __init__(self, title: str, about: str) -> None:
        self.title = title
        self.about = about
        self.lines: list[str] = []
        print(about, end="\n\n", flush=True)

    def add(self, *lines: str) -> None:
        """Adds and prints lines."""
        self.lines += lines
        print("\n".join(lines), flush=True)

    def write(self, path: str | Path | None) -> None:
        """Writes the page beside and renames; what was there is replaced. None leaves it at what was printed.

        Raises:
            OutputError: The page cannot be written.
        """
        if path is None:
            return
        command = shlex.join(["python", f"tools/{Path(sys.argv[0]).name}", *sys.argv[1:]])
        body = "\n".join(self.lines).strip("\n")
        text = f"{GENERATED}\n\n# {self.title}\n\n    {command}\n\n{self.about}\n\n{body}\n"
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        print(f"written: {path}")
