"""What a comparison says: a table with spread over seeds, differences with their intervals, curves."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pose.engine.compare import Run
from pose.evaluation.coco_eval import FIGURES
from pose.evaluation.differences import LEVEL, Interval, over_persons, over_seeds
from pose.files import replacing

SHOWN = ("AP", "AP50", "AP75", "AR")
"""COCO's figures in the table; all of them are in each run's own file."""


def summarise(runs: Sequence[Run]) -> dict[str, Any]:
    """Means, spreads and differences of the runs that are tested.

    Args:
        runs: Of :func:`pose.engine.compare.plan_runs`; the first one's network is the baseline.

    Returns:
        ``networks``: by name, ``seeds``, ``parameters``, ``hours`` of training and ``figures``: name to (mean,
        standard deviation over seeds or NaN, values). ``differences``: by name of the other networks, figure to
        ``seeds`` (the interval over the seeds that both have) and, for PCK, ``persons``. ``missing``: runs without a
        test. :func:`plain` makes it fit for JSON.
    """
    names = list(dict.fromkeys(run.name for run in runs))
    done = {name: {run.seed: run for run in runs if run.name == name and run.result is not None} for name in names}
    networks = {name: _network(list(done[name].values())) for name in names if done[name]}
    baseline = names[0]
    differences = {
        name: _difference(done[name], done[baseline]) for name in names[1:] if done[name].keys() & done[baseline].keys()
    }
    missing = [f"{run.name}, seed {run.seed}" for run in runs if run.result is None]
    return {"baseline": baseline, "networks": networks, "differences": differences, "missing": missing}


def _network(runs: Sequence[Run]) -> dict[str, Any]:
    results = [run.result for run in runs]
    names = [name for name in results[0]["figures"] if name not in FIGURES or name in SHOWN]
    values = {name: [result["figures"][name] for result in results] for name in names}
    return {
        "seeds": [run.seed for run in runs],
        "parameters": results[0]["parameters"],
        "hours": statistics.mean(result["hours"] for result in results),
        "epochs": [result["epoch"] for result in results],
        "figures": {
            name: (statistics.mean(each), statistics.stdev(each) if len(each) > 1 else float("nan"), each)
            for name, each in values.items()
        },
    }


def _difference(runs: dict[int, Run], baseline: dict[int, Run]) -> dict[str, dict[str, Interval]]:
    seeds = sorted(runs.keys() & baseline.keys())
    pairs = [(runs[seed].result["figures"], baseline[seed].result["figures"]) for seed in seeds]
    names = [name for name in pairs[0][0] if name not in FIGURES or name in SHOWN]
    found = {name: {"seeds": over_seeds([ours[name] - theirs[name] for ours, theirs in pairs])} for name in names}
    ours, theirs = ([side[seed].correct for seed in seeds] for side in (runs, baseline))
    for name in ours[0]:
        stacked = (np.stack([arrays[name] for arrays in side]) for side in (ours, theirs))
        found[name]["persons"] = over_persons(*stacked)
    return found


def plain(value: Any) -> Any:
    """A summary without NaN, which JSON does not know: None stands there."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def format_table(summary: dict[str, Any]) -> str:
    """The summary as Markdown; figures in hundredths, spread as standard deviation over seeds."""
    networks, differences = summary["networks"], summary["differences"]
    if not networks:
        return "nothing is tested yet"
    figures = list(next(iter(networks.values()))["figures"])
    lines = [f"| network | parameters | seeds | {' | '.join(figures)} | training, hours |"]
    lines.append("|---" * (len(figures) + 4) + "|")
    for name, network in networks.items():
        cells = [_spread(*network["figures"][figure][:2]) for figure in figures]
        size = f"{network['parameters'] / 1e6:.2f} M"
        seeds = " ".join(map(str, network["seeds"]))
        lines.append(f"| {name} | {size} | {seeds} | {' | '.join(cells)} | {network['hours']:.2f} |")
    if differences:
        lines += ["", f"Differences to {summary['baseline']}, {LEVEL:.0%} intervals over seeds, over test persons:", ""]
        lines += [f"| network | {' | '.join(figures)} |", "|---" * (len(figures) + 1) + "|"]
        for name, difference in differences.items():
            lines.append(f"| {name} | {' | '.join(_cell(difference[figure]) for figure in figures)} |")
    if summary["missing"]:
        lines += ["", f"Not done yet: {'; '.join(summary['missing'])}"]
    return "\n".join(lines)


def _spread(mean: float, deviation: float) -> str:
    return f"{100 * mean:.1f}" if math.isnan(deviation) else f"{100 * mean:.1f} ± {100 * deviation:.1f}"


def _cell(intervals: dict[str, Interval]) -> str:
    parts = [f"{100 * intervals['seeds'].mean:+.1f}"]
    for interval in intervals.values():
        known = not math.isnan(interval.low)
        parts.append(f"[{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]" if known else "[one seed]")
    return " ".join(parts)


def draw_curves(runs: Sequence[Run], path: Path) -> None:
    """Training loss, validation AP and, of dynamic networks, the attention's entropy by epoch; a PNG.

    Needs matplotlib.

    Raises:
        OutputError: The file cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = {"loss": "training loss", "AP": "validation AP", "attention_entropy": "attention entropy, 1 = uniform"}
    curves = [(run.name, run.curves()) for run in runs if run.result is not None]
    panels = {key: title for key, title in panels.items() if any(_known(columns, key) for _, columns in curves)}
    figure, axes = pyplot.subplots(1, len(panels), figsize=(5 * len(panels), 4), squeeze=False, layout="constrained")
    colors = {name: f"C{index}" for index, name in enumerate(dict.fromkeys(name for name, _ in curves))}
    for axis, (key, title) in zip(axes[0], panels.items(), strict=True):
        seen = set()
        for name, columns in curves:
            points = _known(columns, key)
            if points:
                label = None if name in seen else name
                axis.plot(*zip(*points, strict=True), color=colors[name], marker=".", alpha=0.8, label=label)
                seen.add(name)
        axis.set(title=title, xlabel="epoch")
        if key == "loss":
            axis.set_yscale("log")
        axis.legend(fontsize="small")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
    pyplot.close(figure)


def _known(columns: dict[str, list[float]], key: str) -> list[tuple[float, float]]:
    pairs = zip(columns.get("epoch", ()), columns.get(key, ()), strict=False)
    return [(epoch, value) for epoch, value in pairs if not math.isnan(value)]
