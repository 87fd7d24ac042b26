"""What a comparison says: a table with spread over seeds, differences with their intervals, curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pose.engine.comparison.runs import Run
from pose.engine.work_dir import BEST
from pose.evaluation.bootstrap import ap_over_images
from pose.evaluation.coco_eval import FIGURES
from pose.evaluation.protocol import AREAS_FROM_BOXES, ESTIMATED_SIGMAS, NOT_COMPARABLE, TestProtocol
from pose.evaluation.significance import LEVEL, Interval, over_images, over_seeds
from pose.files import replacing
from pose.tables import table_lines

SHOWN = ("AP", "AP50", "AP75", "AR")
"""COCO's figures in the table; all of them are in each run's own file."""


def summarize(runs: Sequence[Run]) -> dict[str, Any]:
    """Means, spreads and differences of the runs that are tested.

    Args:
        runs: The runs of :func:`pose.engine.comparison.runs.plan_runs`; the first one's network is the baseline.

    Returns:
        ``networks``: by name, ``seeds``, ``parameters``, ``hours`` of training, ``epochs`` and ``checkpoint`` that were
        tested, ``protocol`` and ``figures``: name to (mean, standard deviation over seeds or NaN, values).
        ``differences``: by name of the other networks, figure to ``seeds`` (the interval over the seeds that both
        have) and, for AP and PCK, ``pictures``. ``missing``: runs without a test. :func:`plain` makes it fit for JSON.

    Raises:
        CompareError: A file of a test is gone.
    """
    names = list(dict.fromkeys(run.name for run in runs))
    done = {name: {run.seed: run for run in runs if run.name == name and run.result is not None} for name in names}
    networks = {name: _network(list(done[name].values())) for name in names if done[name]}
    baseline = names[0]
    differences = {
        name: difference(done[name], done[baseline]) for name in names[1:] if done[name].keys() & done[baseline].keys()
    }
    missing = [f"{run.name}, seed {run.seed}" for run in runs if run.result is None]
    return {"baseline": baseline, "networks": networks, "differences": differences, "missing": missing}


def _network(runs: Sequence[Run]) -> dict[str, Any]:
    results = [run.found for run in runs]
    values = {name: _known([result["figures"][name] for result in results]) for name in _shown(results[0])}
    return {
        "seeds": [run.seed for run in runs],
        "parameters": results[0]["parameters"],
        "hours": float(np.mean([result["hours"] for result in results])),
        "epochs": [result["epoch"] for result in results],
        "checkpoint": results[0]["checkpoint"],
        "protocol": results[0]["protocol"],
        "figures": {
            name: (float(np.mean(each)), float(np.std(each, ddof=1)) if len(each) > 1 else math.nan, each)
            for name, each in values.items()
        },
    }


def _shown(result: dict[str, Any]) -> list[str]:
    return [name for name in result["figures"] if name not in FIGURES or name in SHOWN]


def _known(values: Sequence[float]) -> list[float]:
    """COCO's -1 stands for a figure of nobody."""
    return [math.nan if value < 0 else value for value in values]


def difference(runs: dict[int, Run], baseline: dict[int, Run]) -> dict[str, dict[str, Interval]]:
    """Intervals of the differences in every figure, over the seeds that both have and, for AP and PCK, over pictures.

    Args:
        runs, baseline: Tested runs by seed.
    """
    seeds = sorted(runs.keys() & baseline.keys())
    pairs = [(runs[seed].found["figures"], baseline[seed].found["figures"]) for seed in seeds]
    found: dict[str, dict[str, Interval]] = {}
    for name in _shown(runs[seeds[0]].found):
        ours, theirs = (_known([side[name] for side in sides]) for sides in zip(*pairs, strict=True))
        found[name] = {"seeds": over_seeds(np.subtract(ours, theirs).tolist())}
    correct, others = ([side[seed].correct for seed in seeds] for side in (runs, baseline))
    for name, (_, image_ids) in correct[0].items():
        own, other = (np.stack([arrays[name][0] for arrays in side]) for side in (correct, others))
        found[name]["pictures"] = over_images(own, other, image_ids)
    matched, against = ([side[seed].matched for seed in seeds] for side in (runs, baseline))
    scores, base = ([each for each in side if each is not None] for side in (matched, against))
    if len(scores) == len(base) == len(seeds):  # else tested before it was kept
        found["AP"]["pictures"] = ap_over_images(scores, base)
    return found


def plain(value: Any) -> Any:
    """A summary without NaN, which JSON does not know: None stands there."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def format_table(summary: dict[str, Any]) -> str:
    """The summary as Markdown, with what its figures mean and what they were made by; figures in hundredths."""
    networks, differences = summary["networks"], summary["differences"]
    lines = []
    if networks:
        figures = list(next(iter(networks.values()))["figures"])
        rows = []
        for name, network in networks.items():
            cells = [spread_text(*network["figures"][figure][:2]) for figure in figures]
            seeds, epochs = (" ".join(map(str, network[key])) for key in ("seeds", "epochs"))
            rows.append(
                [name, f"{network['parameters'] / 1e6:.2f} M", seeds, epochs, *cells, f"{network['hours']:.2f}"]
            )
        lines += table_lines(["network", "parameters", "seeds", "epoch tested", *figures, "hours"], rows)
        lines += ["", *_legend(next(iter(networks.values())))]
    if differences:
        rows = [
            [name, figure, f"{100 * intervals['seeds'].mean:+.1f}", interval_text(intervals["seeds"]),
             interval_text(intervals.get("pictures"))]
            for name, difference in differences.items()
            for figure, intervals in difference.items()
        ]  # fmt: skip
        lines += ["", f"Differences to {summary['baseline']}, with {LEVEL:.0%} intervals:", ""]
        lines += table_lines(["network", "figure", "difference", "over seeds", "over test pictures"], rows)
        lines += [
            "",
            "Over seeds: Student's t of the paired differences; other initialisations and orders, the same pictures. "
            "Over test pictures: bootstrap of whole pictures; other pictures, the same trained networks. Neither holds "
            "the other's variation, and nothing is corrected for looking at several figures and networks.",
        ]
    if summary["missing"]:
        lines += ["", f"Not done yet: {'; '.join(summary['missing'])}"]
    return "\n".join(lines) if networks else "nothing is tested yet"


def _legend(network: dict[str, Any]) -> list[str]:
    """What the figures are and how they were made."""
    protocol = TestProtocol.from_dict(network["protocol"])
    boxes, chosen = protocol.boxes, "the last epoch, since there is no separate test split"
    if network["checkpoint"] == BEST:
        chosen = "the epoch with the best OKS AP on the validation split"
    notes = [
        f"Figures x 100, mean ± standard deviation over seeds. Tested: {chosen}, on {protocol.annotations}, "
        f"{protocol.boxes_count:,} boxes ({boxes}), decode {protocol.decode}, flip {'on' if protocol.flip else 'off'}. "
        "Hours are as they happened, whatever else the machine did: no comparison of speed."
    ]
    warnings = [NOT_COMPARABLE] if protocol.annotated_boxes else []
    warnings += [ESTIMATED_SIGMAS] if protocol.sigmas_estimated else []
    warnings += [AREAS_FROM_BOXES] if protocol.areas_from_boxes else []
    return [*notes, *(f"{warning[0].upper()}{warning[1:]}." for warning in warnings)]


def spread_text(mean: float, deviation: float) -> str:
    """A mean with its deviation, in hundredths."""
    if math.isnan(mean):
        return "n/a"
    return f"{100 * mean:.1f}" if math.isnan(deviation) else f"{100 * mean:.1f} ± {100 * deviation:.1f}"


def interval_text(interval: Interval | None) -> str:
    """An interval in hundredths; nothing where there is none."""
    if interval is None:
        return ""
    return "one seed" if math.isnan(interval.low) else f"{100 * interval.low:+.1f} to {100 * interval.high:+.1f}"


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
    panels = {key: title for key, title in panels.items() if any(_points(columns, key) for _, columns in curves)}
    figure, axes = pyplot.subplots(1, len(panels), figsize=(5 * len(panels), 4), squeeze=False, layout="constrained")
    colors = {name: f"C{index}" for index, name in enumerate(dict.fromkeys(name for name, _ in curves))}
    for axis, (key, title) in zip(axes[0], panels.items(), strict=True):
        seen = set()
        for name, columns in curves:
            points = _points(columns, key)
            if points:
                label = None if name in seen else name
                axis.plot(*zip(*points, strict=True), color=colors[name], marker=".", alpha=0.8, label=label)
                seen.add(name)
        axis.set(title=title, xlabel="epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        if key == "loss":
            axis.set_yscale("log")
        axis.legend(fontsize="small")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
    pyplot.close(figure)


def _points(columns: dict[str, list[float]], key: str) -> list[tuple[float, float]]:
    pairs = zip(columns.get("epoch", ()), columns.get(key, ()), strict=False)
    return [(epoch, value) for epoch, value in pairs if not math.isnan(value)]
