"""Write a trained network as a file of another runtime: ONNX Runtime, OpenVINO, ncnn, LiteRT, ExecuTorch, MNN ...

    python tools/export.py CONFIG CHECKPOINT                     # heatmaps; CHECKPOINT with .onnx instead of .pth
    python tools/export.py --weights base --format ncnn          # one image at a time; names beside it, in .param.json
    python tools/export.py CONFIG CHECKPOINT --output keypoints  # uint8 crops in, keypoints in their pixels out
    python tools/export.py CONFIG CHECKPOINT --format web        # a page for any browser, network and runtime inside
    python tools/export.py CONFIG CHECKPOINT --runtime openvino  # dynamic layers as OpenVINO runs them fastest
    python tools/export.py CONFIG CHECKPOINT --int8              # 8 bits; refused if AP falls by half a point
    python tools/export.py CONFIG CHECKPOINT --format native --bank int8   # a dynamic network's kernels in 8 bits
    python tools/export.py CONFIG CHECKPOINT --format openvino --bank int8 # the same; refused if AP falls likewise
    python tools/export.py CONFIG CHECKPOINT --format native --int8 --bank int8   # and what is computed with them
    python tools/export.py CONFIG CHECKPOINT --format native --int8 --bfloat16    # what 8 bits would spoil, in bfloat16

The batch size of onnx and torch is free, all others take one image. A file is compared with PyTorch in its own runtime
before it takes its name. Its metadata, inside ONNX files and in FILE.json beside others, holds the input size, mean
and standard deviation, keypoint names, flip pairs, limbs and test settings. It stands in for the checkpoint of
tools/test.py and for the configuration of tools/demo.py. docs/deployment.md says which to take.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pose.command_line import CommandParser, add_run_arguments, count, files_read, settings_from
from pose.errors import DataError, OutputError, command
from pose.export.registry import (
    BANKS,
    CALIBRATION_PERSONS,
    FORMATS,
    OUTPUTS,
    RUNTIMES,
    TEST_PERSONS,
    Format,
    check_request,
    is_dynamic,
)
from pose.files import check_outputs
from pose.options import OptionError
from pose.weights import shipped, shipped_detector

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pose.config import Settings


@command
def main() -> None:
    parser = CommandParser(__doc__)
    parser.add_argument("config", nargs="?", help="configuration file, see configs/")
    parser.add_argument("checkpoint", nargs="?", help="trained weights (.pth)")
    parser.add_argument("--weights", metavar="NAME", help="of the weights in data/weights, in place of both")
    add_run_arguments(parser)
    parser.add_argument("--format", default="onnx", help=f"what to write: {', '.join(FORMATS)} (default: onnx)")
    parser.add_argument("--output", choices=OUTPUTS, default="heatmaps", help="what it answers with")
    parser.add_argument(
        "--runtime",
        choices=RUNTIMES,
        help=f"for --format onnx: what to make it fast in (default: {RUNTIMES[0]}); onnxruntime-here is the fastest of "
        "a dynamic network in ONNX Runtime, on processors like this one only",
    )
    parser.add_argument(
        "--int8",
        type=count(1),
        nargs="?",
        const=CALIBRATION_PERSONS,
        metavar="PERSONS",
        help="8 bits, set by so many training persons (default: %(const)s): static networks in onnx, openvino and "
        "litert, any in native",
    )
    parser.add_argument(
        "--int8-test",
        type=count(0),
        metavar="PERSONS",
        help=f"for --int8 and --bank: how many of the test set AP is taken of, which may fall by .5; 0 for no test "
        f"(default: {TEST_PERSONS}; of native's --bank alone 0)",
    )
    parser.add_argument(
        "--bfloat16",
        action="store_true",
        help="for --format native: compute in bfloat16, on processors that do; with --int8 what stays out of 8 bits",
    )
    parser.add_argument(
        "--bank",
        choices=BANKS,
        default=BANKS[0],
        help="the precision of dynamic layers' kernels: int8 in "
        f"{', '.join(name for name, kind in FORMATS.items() if 'int8' in kind.banks)}, bfloat16 in native "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--web-runtime",
        type=Path,
        help="for --format web: the .tgz of npm pack onnxruntime-web (default: npm fetches it)",
    )
    parser.add_argument(
        "--web-detector",
        help="for --format web: a person detector's checkpoint, or none (default: the one that comes with the project)",
    )
    parser.add_argument("--out", type=Path, help="the file (default: beside the checkpoint, or here)")
    arguments = parser.parse_args()
    int8, bfloat16 = arguments.int8 is not None, arguments.bfloat16
    kind = check_request(arguments.format, arguments.output, arguments.bank, int8, bfloat16)
    _refuse_idle_options(arguments)
    out = arguments.out
    if arguments.weights:
        if arguments.config:
            raise OptionError("--weights: stands for CONFIG and CHECKPOINT; leave them out")
        known = shipped(arguments.weights)
        arguments.config, arguments.checkpoint = known.config, known.checkpoint
        out = out or Path(known.checkpoint.name).with_suffix(kind.default_suffix)
    if not arguments.checkpoint:
        raise OptionError("needs CONFIG and CHECKPOINT, or --weights NAME")
    settings = settings_from(arguments)
    out = out or Path(arguments.checkpoint).with_suffix(kind.default_suffix)
    if arguments.format == "onnx" and out.suffix != kind.suffix:
        raise OutputError(f"{out}: a file of {kind.runtime} ends in {kind.suffix}; choose such a name")
    if arguments.device not in ("auto", "cpu"):
        print(f"--device {arguments.device}: changes nothing, a network is exported on the CPU", file=sys.stderr)
    kind.check_parts(out)
    check_outputs(kind.paths(out) if kind.checked else [], [*files_read(arguments, settings), arguments.web_runtime])
    from pose.checkpoint import load_weights  # PyTorch, once all is known that can be without
    from pose.export.installed import check_installed
    from pose.export.int8 import training_crops

    rounded = {"--int8": int8, "--bank": arguments.bank != BANKS[0]}
    check_installed(arguments.format, [option for option, asked in rounded.items() if asked])

    model = settings.build_model()
    dynamic = is_dynamic(model)
    check_request(arguments.format, arguments.output, arguments.bank, int8, bfloat16, dynamic)
    if arguments.bank != BANKS[0] and not dynamic:
        print(f"--bank {arguments.bank}: changes nothing, a static network has no bank", file=sys.stderr)
    calibration = load_weights(model, arguments.checkpoint).get("calibration")
    if arguments.format == "web":
        from pose.export.web_page import export_web_page

        ours = shipped_detector()
        detector = arguments.web_detector or (ours and ours.checkpoint)
        detector = None if detector == "none" else detector
        difference = export_web_page(model, settings, out, arguments.web_runtime, detector, calibration)
        print(f"largest difference of a score to PyTorch in ONNX Runtime: {difference:.2e}")
        print(f"exported: {out} ({out.stat().st_size / 1e6:.1f} MB): open it in a browser")
        return
    with contextlib.ExitStack() as stack:
        crops = training_crops(settings, arguments.int8) if int8 else None
        persons = TEST_PERSONS if arguments.int8_test is None else arguments.int8_test
        banked = dynamic and arguments.bank != BANKS[0] and (kind.forms or arguments.int8_test is not None)
        tested = persons and (int8 or banked)
        accept = stack.enter_context(_test(model, settings, persons)) if tested else None
        _write(arguments, kind, model, settings, out, calibration, crops, accept)


def _refuse_idle_options(arguments: argparse.Namespace) -> None:
    """Raises an OptionError for an option that changes nothing."""
    name = arguments.format
    idle = {
        "--int8-test": arguments.int8_test is not None
        and arguments.int8 is None
        and arguments.bank == BANKS[0]
        and "--int8 and --bank",
        "--runtime": arguments.runtime is not None and name != "onnx" and "--format onnx",
        "--web-runtime": arguments.web_runtime is not None and name != "web" and "--format web",
        "--web-detector": arguments.web_detector is not None and name != "web" and "--format web",
    }
    for option, needed in idle.items():
        if needed:
            raise OptionError(f"{option}: is for {needed}; leave it out")


@contextlib.contextmanager
def _test(model: nn.Module, settings: Settings, persons: int) -> Iterator[Callable[[Path], None]]:
    """What tests a file's AP and tells it."""
    from pose.export.int8 import ap_test

    try:
        with ap_test(model, settings, persons) as test:

            def accept(path: Path) -> None:
                expected, found = test(path)
                print(f"AP of up to {persons} test persons: {found:.4f} in 8 bits, {expected:.4f} before")

            yield accept
    except DataError as error:
        raise DataError(f"{error}; --int8-test 0 goes without a test") from error


def _write(
    arguments: argparse.Namespace,
    kind: Format,
    model: nn.Module,
    settings: Settings,
    out: Path,
    calibration: Mapping[str, Any] | None,
    crops: Tensor | None,
    accept: Callable[[Path], None] | None,
) -> None:
    """Writes the file and tells what it is."""
    from pose.export.formats import export_file
    from pose.export.onnx_file import export_onnx
    from pose.export.proof import CHECKED_BATCHES

    batches = ", ".join(map(str, CHECKED_BATCHES))
    options = dict(output=arguments.output, bank=arguments.bank, calibration_crops=crops, calibration=calibration)
    options |= dict(accept=accept)
    if kind.writer is not None:
        options |= dict(bfloat16=arguments.bfloat16)
        checked = export_file(model, settings, out, arguments.format, **options)
        proved = f"at batch {batches if kind.any_batch else 1}"
        told = "not checked here: it runs elsewhere" if checked is None else f"{checked:.2e} {proved}"
        print(f"largest difference to PyTorch in {kind.runtime}: {told}")
        paths = kind.paths(out)
        size = sum(path.stat().st_size for path in paths if path.is_file()) / 1e6
        print(f"exported: {', '.join(map(str, reversed(paths)))} ({size:.1f} MB)")
        return
    difference = export_onnx(model, settings, out, runtime=arguments.runtime or RUNTIMES[0], **options)
    print(f"largest difference to PyTorch at batch {batches}: {difference:.2e}")
    print(f"exported: {out} ({out.stat().st_size / 1e6:.1f} MB)")
