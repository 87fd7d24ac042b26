"""Numbers with their nouns, as messages say them."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """A count and what is counted: ``1 picture``, ``2,000 pictures``.

    Args:
        count: How many.
        noun: What, in the singular, with an ending that takes s or es.
    """
    ending = "" if count == 1 else "es" if noun.endswith(("s", "x", "ch", "sh")) else "s"
    return f"{count:,} {noun}{ending}"
