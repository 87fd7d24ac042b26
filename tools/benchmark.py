"""What dynamic convolution costs on this machine's CPU beside the static network.

    MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=8000000000 OMP_WAIT_POLICY=PASSIVE python tools/benchmark.py
    ... python tools/benchmark.py --rounds 40 --write docs/tables/inference.md
    ... python tools/benchmark.py --cases imagenet --batch 8 32 --write docs/tables/batches.md
    ... python tools/benchmark.py --layers --cases pose --write docs/tables/layers.md

Every ratio compares networks of one architecture, input, batch, number of threads and memory format in one
process, all deployed, so that normalization is folded in all of them. "ratio" is to the static network of the same
form, native to native and torch to torch; beside it stands the time over that of the static network in torch. They
run in turns, forwards in even rounds and backwards in odd ones. A time is the median of its runs; the spread is that
of the rounds' ratios, from the lower to the upper quartile. With one thread the times are processor time; with more
they are wall time. With --layers the native networks are taken apart instead: what each layer takes, and how near that
is to what the processor does at most.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pose.benchmark import Case, Entry, compare, machine, table
from pose.command_line import CommandParser, count
from pose.config import Settings, load_settings
from pose.errors import command
from pose.models.classifier import build_classifier
from pose.models.deploy.folding import deploy
from pose.models.native.inference.times import LayerTime, layer_times
from pose.models.pose_net import build_pose_net
from pose.native.program import peak
from pose.options import OptionError
from pose.tables import Page, check_page, table_lines
from pose.weights import shipped
from pose.wording import counted

TORCH, NATIVE = "static, torch", "static, native"


def _entries(
    build: Callable[[str], nn.Module], architecture: str, shape: tuple[int, int, int, int], **limits: tuple
) -> dict[str, Entry]:
    """The static and the dynamic networks in each form, each with the static one of its form as base.

    The ratios of the static networks are to the first one, in PyTorch's operations. ``static, TorchScript`` is the
    fastest that PyTorch makes of the static network.

    Args:
        build: Makes the network of a type of convolution: ``static``, ``dynamic`` or ``dcd``.
        architecture: The name that all entries share.
        shape: The input's shape, (N, 3, H, W).
        limits: (target, published ratio) by form.
    """
    static, dynamic, decomposed = (build(kind) for kind in ("static", "dynamic", "dcd"))

    def entry(network: nn.Module, base: str | None, key: str = "", **options: Any) -> Entry:
        target, published = limits.get(key, (None, None))
        return Entry(deploy(network, **options), architecture, torch.channels_last, target, published, base)

    half, quarter = (dict(fused=True, bank_dtype=dtype) for dtype in (torch.bfloat16, torch.int8))
    torch_static = entry(static, None, fused=False)
    return {
        TORCH: torch_static,
        "static, TorchScript": Entry(_scripted(torch_static.network, shape), architecture),
        "dynamic, torch": entry(dynamic, TORCH, "lean", fused=False),
        NATIVE: entry(static, None, fused=True),
        "dynamic, native": entry(dynamic, NATIVE, "native", fused=True),
        "dynamic, native, bfloat16": entry(dynamic, NATIVE, "bfloat16", **half),
        "dynamic, native, int8 bank": entry(dynamic, NATIVE, "int8", **quarter),
        "decomposed, native": entry(decomposed, NATIVE, "dcd", fused=True),
        "decomposed, native, bfloat16": entry(decomposed, NATIVE, "dcd", **half),
    }


def _scripted(network: nn.Module, shape: tuple[int, int, int, int]) -> nn.Module:
    """The network that ``torch.jit.optimize_for_inference`` makes of a deployed one."""
    x = torch.zeros(shape).contiguous(memory_format=torch.channels_last)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # that TorchScript is deprecated
        return torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(network, x)))


def _limit(batch: int, single: float) -> float:
    """The target of a batch size: ``single`` for one picture, looser for batches, which are of less use on a CPU."""
    return single if batch == 1 else 1.15 if batch <= 8 else 1.20


def imagenet(batch: int) -> Iterator[Case]:
    """MobileNetV2 at every width, 224 x 224 (DY-CNN, Table 12; DCD's own figures)."""
    published = {1.0: (1.104, 1.116), 0.75: (1.111, None), 0.5: (1.112, 1.143), 0.35: (1.103, None)}
    for width, (dynamic, decomposed) in published.items():

        def build(kind: str, width: float = width) -> nn.Module:
            conv = dict(type=kind, **({"reduction": 16 if width == 1 else 8} if kind == "dcd" else {}))
            return build_classifier(dict(type="mobilenet_v2", width=width, conv=conv))

        if batch > 1:  # the papers' figures, and the targets of torch's form and of decomposed networks, are for one
            dynamic, decomposed = None, None
        limits = dict(
            lean=(1.30 if batch == 1 else None, dynamic),
            native=(_limit(batch, 1.10), dynamic),
            bfloat16=(_limit(batch, 1.08), dynamic),
            int8=(_limit(batch, 1.08), dynamic),
            dcd=({1.0: 1.12, 0.5: 1.14}.get(width) if batch == 1 else None, decomposed),
        )
        name, shape = f"MobileNetV2 x{width}", (batch, 3, 224, 224)
        yield Case(name, shape, _entries(build, name, shape, **limits))


def pose(batch: int) -> Iterator[Case]:
    """The Type-B pose network on MobileNetV2 x1.0, 256 x 192."""

    def build(kind: str) -> nn.Module:
        conv = dict(type=kind)
        return build_pose_net(dict(type="mobilenet_v2", width=1.0, conv=conv), dict(type="bottleneck", conv=conv))

    name = "Type-B pose network, MobileNetV2 x1.0"
    limit = (_limit(batch, 1.08), None)
    shape = (batch, 3, 256, 192)
    yield Case(name, shape, _entries(build, name, shape, native=limit, bfloat16=limit, int8=limit))


def resnet(batch: int) -> Iterator[Case]:
    """ResNet-18, 224 x 224."""

    def build(kind: str) -> nn.Module:
        return build_classifier(dict(type="resnet", depth=18, conv=dict(type=kind)))

    limit, shape = (1.20, None), (batch, 3, 224, 224)
    yield Case("ResNet-18", shape, _entries(build, "ResNet-18", shape, native=limit, bfloat16=limit, int8=limit))


def small(batch: int) -> Iterator[Case]:
    """The network of the smallest weights that come with the repository, built from its configurations."""
    ours = shipped("lsp_small")

    def settings(kind: str) -> Settings:
        config = ours.config.with_name(f"mobilenet_v2_x0.5_type_b_{kind}.py")
        return load_settings(config, {"data.skeleton": ours.skeleton})

    width, height = settings("static").data.input_size
    name, shape = "MobileNetV2 x0.5, narrow Type-B, 14 keypoints", (batch, 3, height, width)
    yield Case(name, shape, _entries(lambda kind: settings(kind).build_model(), name, shape))


CASES: dict[str, Callable[[int], Iterator[Case]]] = {
    "imagenet": imagenet,
    "pose": pose,
    "small": small,
    "resnet": resnet,
}
"""The cases that can be timed, each a function of the batch size."""


def layer_table(title: str, layers: Sequence[LayerTime], most: float) -> list[str]:
    """A Markdown table with a row for each layer and one for all of them.

    Args:
        title: What was timed.
        layers: In the order in which they run.
        most: Multiply-adds a second that the processor does at most.
    """
    total = sum(layer.seconds for layer in layers)
    products, weights = (sum(getattr(layer, name) for layer in layers) for name in ("multiply_adds", "weight_bytes"))
    all_layers = LayerTime("all layers", "", (0, 0), total, products, weights, 0)
    rows = []
    for layer in (*layers, all_layers):
        rate = layer.multiply_adds / layer.seconds
        rows.append(
            [
                *(layer.name, layer.what, " x ".join(map(str, layer.size)) if layer.what else ""),
                *(f"{1e3 * layer.seconds:.3f}", f"{100 * layer.seconds / total:.1f}"),
                *(f"{1e-9 * rate:.1f}", f"{100 * rate / most:.0f}"),
                *(f"{1e-6 * layer.weight_bytes:.2f}", f"{1e-6 * layer.image_bytes:.2f}" if layer.what else ""),
            ]
        )
    columns = [
        "layer",
        "",
        "answer",
        "ms",
        "% of time",
        "G multiply-adds / s",
        "% of peak",
        "weights, MB",
        "images, MB",
    ]
    return [f"**{title}; peak {1e-9 * most:.1f} G multiply-adds / s**", "", *table_lines(columns, rows, 3), ""]


def take_apart(case: Case, runs: int) -> Iterator[list[str]]:
    """The tables of :func:`layer_table` of a case's native float32 networks."""
    x = torch.randn((1, *case.shape[1:]), generator=torch.Generator().manual_seed(0))
    for name in (NATIVE, "dynamic, native", "decomposed, native"):
        layers = layer_times(case.entries[name].network, x, runs)
        yield layer_table(f"{case.title}, {case.shape[2]} x {case.shape[3]}: {name}", layers, peak())


@command
def main() -> None:
    parser = CommandParser(__doc__)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="what to time (default: all)")
    parser.add_argument("--batch", type=count(), nargs="+", default=[1], help="images at a time (default: 1)")
    parser.add_argument("--threads", type=count(most=1024), default=1, help="threads of torch (default: 1)")
    parser.add_argument("--rounds", type=count(2), default=20, help="turns (default: 20)")
    parser.add_argument("--runs", type=count(), default=5, help="runs of each network in a turn (default: 5)")
    parser.add_argument("--layers", action="store_true", help="what each layer of the native networks takes")
    parser.add_argument("--write", type=Path, help="a Markdown file for the tables; it is replaced")
    arguments = parser.parse_args()
    if arguments.layers and (arguments.threads > 1 or arguments.batch != [1]):
        raise OptionError("--layers times one picture on one thread; leave --threads and --batch out")
    check_page(arguments.write)
    torch.set_num_threads(arguments.threads)
    threads = counted(arguments.threads, "thread")
    page = Page("Dynamic and static networks on a CPU", f"{machine()}, {threads}")
    for batch in arguments.batch:
        for name in arguments.cases:
            for case in CASES[name](batch):
                if arguments.layers:
                    for lines in take_apart(case, arguments.rounds * arguments.runs):
                        page.add(*lines)
                else:
                    page.add(*table(case, compare(case, arguments.rounds, arguments.runs)))
    page.write(arguments.write)


if __name__ == "__main__":
    main()
