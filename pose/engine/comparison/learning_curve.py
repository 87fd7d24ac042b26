"""Would more labels help? One network trained on nested shares of its training images, tested on the validation split.

Runs are those of :mod:`pose.engine.comparison.finish`: resumed after any stop, done once, the test split left alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pose.config import Settings
from pose.datasets.train_sets import read_train_sets
from pose.engine.comparison.runs import Run, plan_runs
from pose.engine.comparison.summary import difference, interval_text, spread_text, summarize
from pose.evaluation.significance import LEVEL, Interval
from pose.files import replacing
from pose.options import OptionError
from pose.tables import table_lines

LEAST_SPAN = 10.0
"""AP x 100 that the plot's axis has at least."""

EQUAL = ("steps", "epochs")
"""What all shares have in common: steps, a small share's persons being drawn more often, or epochs."""


def with_share(settings: Settings, share: float, equal: str) -> Settings:
    """Settings that learn from a share of the images of every training set, and test on the validation split.

    Args:
        settings: The settings of the whole training set.
        share: Above 0 and at most 1; a smaller one's images are among a larger one's.
        equal: One of :data:`EQUAL`.
    """
    sets = tuple(
        replace(each, share=each.share * share, weight=each.weight / share if equal == "steps" else each.weight)
        for each in settings.data.train
    )
    return replace(settings, data=replace(settings.data, train=sets, test=None))


def plan_curve(
    settings: Settings, shares: Sequence[float], seeds: Sequence[int], folder: Path, equal: str
) -> list[Run]:
    """A run for each share and seed, see :func:`pose.engine.comparison.runs.plan_runs`.

    Args:
        settings: The settings of the whole training set; its test split is not read.
        shares: At least two, each above 0 and at most 1.
        seeds: Numbers from 0 on.
        folder: The folder, which gets ``share_PERCENT/seed_N`` for each.
        equal: One of :data:`EQUAL`.

    Raises:
        CompareError: A folder holds a run of other settings.
        OptionError: There are fewer than two shares, one is out of range, or a seed stands there twice.
    """
    if len(set(shares)) < 2 or not all(0 < share <= 1 for share in shares):
        raise OptionError("--shares: needs at least two different percentages above 0 and at most 100")
    plans = {f"share_{100 * share:g}": with_share(settings, share, equal) for share in sorted(set(shares))}
    return plan_runs(plans, seeds, folder, differ="data.train")


def count_persons(runs: Sequence[Run]) -> dict[str, tuple[int, int]]:
    """Images and persons that each share learns from, by the name of its runs."""
    counted: dict[str, tuple[int, int]] = {}
    for run in runs:
        if run.name not in counted:
            data = run.settings.data
            persons = read_train_sets(data.train, data.root, run.settings.skeleton(), data.category).persons
            counted[run.name] = (len(set(persons.image_index.tolist())), len(persons))
    return counted


def summarize_curve(runs: Sequence[Run]) -> dict[str, Any]:
    """What the runs that are tested say.

    Returns:
        ``shares``: by name, what :func:`~pose.engine.comparison.summary.summarize` says of a network, with ``images``
        and ``persons``; ``gains``: from each share to the next one that have a seed in common, ``from``, ``to`` and
        ``AP``'s intervals; ``answer``; ``missing``.

    Raises:
        CompareError: A file of a test is gone.
    """
    counted, summary = count_persons(runs), summarize(runs)
    names = [name for name in counted if name in summary["networks"]]
    done = {name: {run.seed: run for run in runs if run.name == name and run.result is not None} for name in names}
    shares = {
        name: {**summary["networks"][name], "images": counted[name][0], "persons": counted[name][1]} for name in names
    }
    gains = [
        {"from": one, "to": other, "AP": difference(done[other], done[one])["AP"], "rises": _rises(shares, one, other)}
        for one, other in zip(names, names[1:], strict=False)
        if done[one].keys() & done[other].keys()
    ]
    return {"shares": shares, "gains": gains, "answer": conclusion(gains, list(counted)), "missing": summary["missing"]}


def _rises(shares: Mapping[str, Any], one: str, other: str) -> bool:
    """Whether AP rose with every seed that both have."""
    values = [dict(zip(shares[name]["seeds"], shares[name]["figures"]["AP"][2], strict=True)) for name in (one, other)]
    return all(values[1][seed] > values[0][seed] for seed in values[0].keys() & values[1].keys())


def conclusion(gains: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """The last step in a sentence.

    Args:
        gains: The gains as :func:`summarize_curve` has them.
        names: The names of all shares, ascending.
    """
    if not gains or gains[-1]["to"] != names[-1]:
        return f"No answer yet: {_percent(names[-1])} and the share before it are not both tested."
    last = gains[-1]
    gain: Interval = last["AP"].get("pictures", last["AP"]["seeds"])
    step = f"from {_percent(last['from'])} to {_percent(last['to'])} of the training images AP changed by"
    figures = f"{100 * gain.mean:+.1f} ({interval_text(gain)})"
    if math.isnan(gain.low):
        return f"No answer: {step} {100 * gain.mean:+.1f}, with one seed and nothing to say how sure that is."
    if gain.low > 0 and last["rises"]:
        return (
            f"More labels would help: {step} {figures}, with every seed. Curves flatten: expect less of the next step "
            "as large."
        )
    if gain.high < 0:
        return f"More labels like these would not help: {step} {figures}."
    return (
        f"No clear gain: {step} {figures}, no more than chance can give. More seeds, or more validation images, would "
        "tell; labels of other situations may help where more of the same do not."
    )


def _percent(name: str) -> str:
    return f"{name.removeprefix('share_')} %"


def format_curve(summary: Mapping[str, Any]) -> str:
    """The summary as Markdown; figures in hundredths."""
    shares = summary["shares"]
    if not shares:
        return "nothing is tested yet"
    figures = list(next(iter(shares.values()))["figures"])
    rows = [
        [_percent(name), f"{each['images']:,}", f"{each['persons']:,}", " ".join(map(str, each["seeds"])),
         *(spread_text(*each["figures"][figure][:2]) for figure in figures), f"{each['hours']:.2f}"]
        for name, each in shares.items()
    ]  # fmt: skip
    lines = table_lines(["share", "images", "persons", "seeds", *figures, "hours"], rows)
    spread = ", mean ± deviation over seeds" if any(len(each["seeds"]) > 1 for each in shares.values()) else ""
    lines += ["", f"Figures x 100 on the validation split, weights of the last epoch{spread}."]
    if summary["gains"]:
        rows = [
            [f"{_percent(gain['from'])} to {_percent(gain['to'])}", f"{100 * gain['AP']['seeds'].mean:+.1f}",
             interval_text(gain["AP"]["seeds"]), interval_text(gain["AP"].get("pictures"))]
            for gain in summary["gains"]
        ]  # fmt: skip
        lines += ["", f"Gains in AP, with {LEVEL:.0%} intervals:", ""]
        lines += table_lines(["step", "gain", "over seeds", "over validation images"], rows)
    lines += ["", summary["answer"]]
    if summary["missing"]:
        lines += ["", f"Not done yet: {'; '.join(summary['missing'])}"]
    return "\n".join(lines)


def draw_curve(summary: Mapping[str, Any], path: Path) -> None:
    """AP by labelled persons, a point a seed and a line through their means; a PNG. Needs matplotlib.

    A bar is where a share's mean may be, seen from the one before: the interval of the step over validation images.

    Raises:
        OutputError: The file cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6, 4), layout="constrained")
    shares = list(summary["shares"].values())
    persons = [each["persons"] for each in shares]
    for count, each in zip(persons, shares, strict=True):
        values = [100 * value for value in each["figures"]["AP"][2]]
        axis.plot([count] * len(values), values, "o", color="C0", alpha=0.4)
    axis.plot(persons, [100 * each["figures"]["AP"][0] for each in shares], "-", color="C0")
    means = dict(zip(summary["shares"], (100 * each["figures"]["AP"][0] for each in shares), strict=True))
    for number, gain in enumerate(each for each in summary["gains"] if "pictures" in each["AP"]):
        step, before = gain["AP"]["pictures"], means[gain["from"]]
        axis.vlines(
            summary["shares"][gain["to"]]["persons"],
            *(before + 100 * step.low, before + 100 * step.high),
            colors="C7",
            linewidth=6,
            alpha=0.3,
            label="" if number else f"{LEVEL:.0%} interval of the step to it, over validation images",
        )
    if axis.get_legend_handles_labels()[1]:
        figure.legend(loc="outside lower center", frameon=False)
    low, high = axis.get_ylim()
    room = max(0.0, LEAST_SPAN - (high - low)) / 2  # a change by chance is not to look like a fall
    axis.set_ylim(low - room, high + room)
    axis.set_xscale("log", base=2)
    axis.set_xticks(persons, [f"{count:,}" for count in persons])
    axis.minorticks_off()
    axis.set(xlabel="persons in training", ylabel="AP x 100, validation split", title="would more labels help?")
    axis.grid(alpha=0.3)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
    pyplot.close(figure)
