"""Rows of pictures as files: Apache Parquet or JSON lines, with the same columns (docs/predict.md#schema)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pose.files import replacing
from pose.skeleton import Skeleton

if TYPE_CHECKING:
    import pyarrow

FORMATS = {"parquet": ".parquet", "jsonl": ".jsonl"}
"""Names to the suffixes of their files."""

GROUP = 1000
"""Rows of a row group of Parquet, which wait in memory together."""

Add = Callable[[Sequence[dict[str, Any]]], None]


@contextmanager
def writing(path: Path, skeleton: Skeleton) -> Iterator[Add]:
    """A file in the format of its suffix, which appears when the block ends without an error; gives what adds rows.

    Raises:
        OutputError: The place cannot be written.
        ModuleNotFoundError: It is Parquet and pyarrow is not installed.
    """
    with replacing(path) as temporary, (_parquet if path.suffix == ".parquet" else _lines)(temporary, skeleton) as add:
        yield add


@contextmanager
def _lines(path: Path, skeleton: Skeleton) -> Iterator[Add]:
    with open(path, "w", encoding="utf-8") as file:
        yield lambda rows: file.writelines(f"{json.dumps(row)}\n" for row in rows)


@contextmanager
def _parquet(path: Path, skeleton: Skeleton) -> Iterator[Add]:
    from pyarrow.parquet import ParquetWriter

    waiting: list[dict[str, Any]] = []
    with ParquetWriter(path, schema(skeleton), compression="zstd") as writer:

        def add(rows: Sequence[dict[str, Any]]) -> None:
            waiting.extend(rows)
            while len(waiting) >= GROUP:
                writer.write_table(table_of(waiting[:GROUP], skeleton))
                del waiting[:GROUP]

        yield add
        if waiting:
            writer.write_table(table_of(waiting, skeleton))


def schema(skeleton: Skeleton) -> pyarrow.Schema:
    """The columns; their file names the keypoints in its metadata."""
    import pyarrow as pa

    number = pa.float32()
    columns = {
        "image": pa.string(),
        "width": pa.int32(),
        "height": pa.int32(),
        "error": pa.string(),
        "boxes": pa.list_(pa.list_(number)),
        "box_scores": pa.list_(number),
        "keypoints": pa.list_(pa.list_(number)),
        "scores": pa.list_(number),
    }
    about = {"skeleton": skeleton.name, "keypoints": json.dumps(skeleton.keypoints)}
    return pa.schema(columns.items(), metadata=about)


def table_of(rows: Sequence[dict[str, Any]], skeleton: Skeleton) -> pyarrow.Table:
    """Rows as an Arrow table."""
    import pyarrow as pa

    return pa.Table.from_pylist(list(rows), schema=schema(skeleton))
