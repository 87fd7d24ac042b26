"""Counts with their nouns."""

import pytest

from pose.wording import counted


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [(0, "picture", "0 pictures"), (1, "picture", "1 picture"), (2000, "box", "2,000 boxes"), (1, "box", "1 box")],
)
def test_one_is_singular(count: int, noun: str, text: str) -> None:
    assert counted(count, noun) == text
