"""Readers and the page are given files that are almost right: they read them or say in a line what is wrong.

`pytest -m slow tests/slow/test_fuzz.py` takes half a minute for each reader. Longer, with a table
of counts, and faults on standard error:

    python tests/slow/test_fuzz.py --seconds 1800 --seed 0
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

sys.path.append(str(Path(__file__).parents[1]))  # as pytest has it, where this runs as a script
from fuzz_changes import CHANGES
from fuzz_targets import Targets

from pose.errors import PoseError

READERS = [name for name in dir(Targets) if name.startswith("read_")]


def fuzz(read: Callable[[list, list], None], seconds: float, first_seed: int) -> tuple[Counter, dict[str, str]]:
    """Gives a reader changed files for so long.

    Returns:
        How many were ``read``, ``refused`` with a line and a ``fault``; and of each kind of fault, by exception and
        place, a traceback and its input.
    """
    counts: Counter[str] = Counter()
    faults: dict[str, str] = {}
    end = time.monotonic() + seconds

    def once(changes: tuple[list, list]) -> None:
        try:
            read(*changes)
            counts["read"] += 1
        except PoseError as error:
            counts["refused"] += 1
            if not str(error).strip():
                faults["an empty message"] = repr(changes)
        except Exception as error:
            counts["fault"] += 1
            last = traceback.extract_tb(error.__traceback__)
            ours = [line for line in last if "/pose/" in line.filename] or last
            key = f"{type(error).__name__} in {Path(ours[-1].filename).name}: {ours[-1].name}"
            faults.setdefault(key, f"{traceback.format_exc()}\n{changes!r}")

    rounds = 0
    while time.monotonic() < end:
        limits = settings(max_examples=100, deadline=None, database=None, phases=[Phase.generate],
                          suppress_health_check=list(HealthCheck))  # fmt: skip
        seed(first_seed * 1_000_000 + rounds)(limits(given(CHANGES)(once)))()
        rounds += 1
    return counts, faults


@contextmanager
def targets() -> Iterator[Targets]:
    """Readers with files in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        yield Targets(Path(folder))


@pytest.fixture(scope="module")
def made() -> Iterator[Targets]:
    with targets() as found:
        yield found


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_what_is_almost_right_is_read_or_refused_in_a_line(made: Targets, name: str) -> None:
    counts, faults = fuzz(getattr(made, name), 30, 0)
    assert counts["read"] and counts["refused"]
    assert faults == {}, next(iter(faults.values()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1800, help="for all readers together (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--only", nargs="+", choices=READERS, default=READERS, help="these readers alone")
    arguments = parser.parse_args()
    every: dict[str, str] = {}
    print("| reader | files | read | refused | faults | kinds of faults |\n| --- | ---: | ---: | ---: | ---: | ---: |")
    with targets() as made:
        for name in arguments.only:
            counts, faults = fuzz(getattr(made, name), arguments.seconds / len(arguments.only), arguments.seed)
            cells = [counts.total(), counts["read"], counts["refused"], counts["fault"], len(faults)]
            print(f"| {name.removeprefix('read_')} | {' | '.join(map(str, cells))} |", flush=True)
            every |= {f"{name}: {key}": text for key, text in faults.items()}
            for key, text in faults.items():
                print(f"\n=== {name}: {key}\n{text[-3000:]}", file=sys.stderr, flush=True)
    return int(bool(every))


if __name__ == "__main__":
    raise SystemExit(main())
