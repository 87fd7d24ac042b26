"""How files that are right become files that are almost right: as documents, and in their bytes."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

ODD = (
    None, True, False, 0, -1, 1.5, 2**31, 2**63, 10**30, 1e308, -1e-320, float("nan"), float("inf"), "", "x", "0",
    "../../x", "\ud800", "é" * 300, b"".decode(), [], {}, [[]], [None], {"a": {}}, [1, 2, 3], "1e3", "coco",
)  # fmt: skip
"""Values in place of others."""

EDITS = st.lists(
    st.tuples(st.integers(0, 2**32), st.sampled_from(("replace", "remove", "repeat", "rename")), st.sampled_from(ODD)),
    min_size=1,
    max_size=4,
)
"""Where, what and with which value a document is changed."""

BREAKS = st.lists(
    st.tuples(st.integers(0, 2**32), st.sampled_from(("cut", "flip", "insert", "deep")), st.binary(max_size=8)),
    min_size=1,
    max_size=3,
)
"""Where and how the bytes of a file are changed."""

CHANGES = st.tuples(EDITS, st.one_of(st.just([]), st.just([]), st.just([]), BREAKS))
"""Three of four files are changed as documents alone, the fourth in its bytes, too."""


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container and key of a nested document; at most a hundred of a long list."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:100]) if isinstance(value, list) else ()
    for key, below in items:
        yield value, key
        yield from places(below)


def edited(document: Any, edits: list[tuple[int, str, Any]]) -> Any:
    """A copy of a document with some of its values odd, gone, twice there or under another name."""
    document = copy.deepcopy(document)
    for where, kind, odd in edits:
        found = list(places(document))
        if not found:
            return copy.deepcopy(odd)
        owner, key = found[where % len(found)]
        if kind == "repeat" and isinstance(owner, list):
            owner.append(copy.deepcopy(owner[key]))
        elif kind == "rename" and isinstance(owner, dict):
            owner[f"{key}x"] = owner.pop(key)
        elif kind == "remove":
            owner.pop(key)
        else:
            owner[key] = copy.deepcopy(odd)  # a later change would else change the value of all later documents
    return document


def broken(content: bytes, breaks: list[tuple[int, str, bytes]]) -> bytes:
    """A file's bytes cut off, flipped, with others among them, or deeper than any reader goes."""
    for where, kind, other in breaks:
        place = where % (len(content) + 1)
        if kind == "cut":
            content = content[:place]
        elif kind == "insert":
            content = content[:place] + other + content[place:]
        elif kind == "deep":
            content = content[:place] + b"[" * 100_000
        elif place < len(content):
            content = content[:place] + bytes([content[place] ^ (1 + where % 255)]) + content[place + 1 :]
    return content


def as_json(document: Any) -> bytes:
    """JSON, with NaN and infinity as Python writes them."""
    return json.dumps(document).encode("utf-8", "surrogatepass")
