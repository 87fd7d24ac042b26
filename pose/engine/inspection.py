"""Tests of a dynamic network of any kind with its attention watched, mixed in other ways and switched off."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from torch import nn

from pose.models.dynamic.inspection import AGGREGATIONS, KernelUse, aggregated, watched
from pose.options import OptionError
from pose.tables import table_lines

TABLES = ("use", "aggregations", "resolutions")
"""What can be asked for: the use of the kernels, DY-CNN's Table 3, and its Table 4."""

MIXED, SWITCHED = "kernels mixed by", "attention"
"""What the two tables of figures are called."""

Figures = dict[str, float]


def inspect(
    model: nn.Module, test: Callable[[], Figures], tables: Collection[str], seed: int, source: str
) -> tuple[list[KernelUse], dict[str, dict[str, Figures]]]:
    """Looks into a network; the use of its kernels takes one test, each row of the other tables another.

    Args:
        model: A network with dynamic convolution.
        test: Tests it as it is then.
        tables: Some of :data:`TABLES`.
        seed: The seed of the shuffling.
        source: What the network is of, for messages.

    Returns:
        How each layer uses its kernels; and by their titles tables of figures, each by what was done.

    Raises:
        OptionError: There is no dynamic convolution.
    """
    with watched(model) as uses:
        found = {MIXED: {"attention": test()}}
    layers = uses()
    if not layers:
        raise OptionError(f"{source}: has no dynamic convolution to look into; name a conv of type dynamic")

    def changed(how: str, strides: Sequence[int] | None = None) -> Figures:
        with aggregated(model, how, strides, seed):
            return test()

    if "aggregations" in tables:
        found[MIXED].update({how: changed(how) for how in AGGREGATIONS if how not in found[MIXED]})
    if "resolutions" in tables:
        strides = sorted({layer.input_stride for layer in layers})
        found[SWITCHED] = {}
        for stride in strides:
            found[SWITCHED][f"off at stride {stride}"] = changed("average", [stride])
            others = [other for other in strides if other != stride]
            found[SWITCHED][f"on at stride {stride} alone"] = changed("average", others)
    return layers, found


def use_table(layers: Sequence[KernelUse]) -> str:
    """A line for each layer: entropy (1 uniform, 0 one kernel), and each kernel's share of the attention."""
    lines = [f"{'layer':44} {'stride':>6} {'entropy':>8}  shares of the kernels (times chosen)"]
    for layer in layers:
        shares = "  ".join(
            f"{share:.2f} ({chosen:.2f})" for share, chosen in zip(layer.shares, layer.chosen, strict=True)
        )
        dead = f"  dead: {', '.join(map(str, layer.dead))}" if layer.dead else ""
        lines.append(f"{layer.name:44} {layer.input_stride:6} {layer.entropy:8.4f}  {shares}{dead}")
    mean = sum(layer.entropy for layer in layers) / len(layers)
    lines.append(f"{'mean':44} {'':6} {mean:8.4f}  {sum(len(layer.dead) for layer in layers)} dead kernels")
    return "\n".join(lines)


def figure_table(title: str, rows: Mapping[str, Figures]) -> str:
    """A Markdown table with a line for each way to use the attention and the figures in percent."""
    names = list(next(iter(rows.values())))
    cells = [[way, *(f"{100 * figures[name]:.1f}" for name in names)] for way, figures in rows.items()]
    return "\n".join(["", *table_lines([title, *names], cells, 1)])
