"""What dynamic convolution costs on this machine's CPU beside the static network.

    MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=8000000000 OMP_WAIT_POLICY=PASSIVE python tools/benchmark.py
    ... python tools/benchmark.py --rounds 40 --write docs/benchmarks.md
    ... python tools/benchmark.py --cases imagenet --batch 8 32 --write docs/benchmarks.md

Every ratio compares networks of one architecture, input, batch, number of threads and memory format in one
process, all deployed, so that normalisation is folded in all of them. "ratio" is to the static network of the same
form, native to native and torch to torch; beside it stands the time over that of the static network in torch. They
run in turns, forwards in even rounds and backwards in odd ones. A time is the median of its runs; the spread is that
of the rounds' ratios, from the lower to the upper quartile. With one thread the times are processor time; with more
they are wall time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from pose.engine.benchmark import CASES, compare, machine, table, write_section
from pose.errors import command


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="what to time (default: all)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1], help="images at a time (default: 1)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: 1)")
    parser.add_argument("--rounds", type=int, default=20, help="turns (default: 20)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each network in a turn (default: 5)")
    parser.add_argument("--write", type=Path, help="a Markdown file whose section of images or batches is replaced")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    head = f"{machine()}, {arguments.threads} thread{'s' if arguments.threads > 1 else ''}"
    print(head, flush=True)
    sections: dict[str, list[str]] = {}
    for batch in arguments.batch:
        lines = sections.setdefault("inference" if batch == 1 else "batches", [])
        for name in arguments.cases:
            for case in CASES[name](batch):
                rows = table(case, compare(case, arguments.rounds, arguments.runs))
                lines += rows
                print("\n".join(rows), flush=True)
    if arguments.write:
        for section, lines in sections.items():
            write_section(arguments.write, head, lines, section)
        print(f"written: {arguments.write}")


if __name__ == "__main__":
    main()
