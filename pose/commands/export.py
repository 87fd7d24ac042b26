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

The batch size of onnx and torch is free, all others take one image. A file is compared with PyTorch in its own runtime
before it takes its name. Its metadata, inside ONNX files and in FILE.json beside others, holds the input size, mean
and standard deviation, keypoint names, flip pairs, limbs and test settings. It stands in for the checkpoint of
tools/test.py and for the configuration of tools/demo.py. docs/deployment.md says which to take.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pose.checkpoint import load_weights
from pose.command_line import add_run_arguments, count, files_read, settings_from
from pose.errors import DataError, OutputError, command
from pose.export.formats import BANKS, FORMATS, check_bank, export_file, find_format
from pose.export.forms import RUNTIMES
from pose.export.onnx_file import OUTPUTS, export_onnx
from pose.export.proof import CHECKED_BATCHES
from pose.export.web_page import export_web_page
from pose.files import check_outputs
from pose.options import OptionError
from pose.weights import shipped, shipped_detector


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", help="configuration file, see configs/")
    parser.add_argument("checkpoint", nargs="?", help="trained weights (.pth)")
    parser.add_argument("--weights", metavar="NAME", help="of the weights in data/weights, in place of both")
    add_run_arguments(parser)
    parser.add_argument("--format", default="onnx", help=f"what to write: {', '.join(FORMATS)} (default: onnx)")
    parser.add_argument("--output", choices=OUTPUTS, default="heatmaps", help="what it answers with")
    parser.add_argument(
        "--runtime",
        choices=RUNTIMES,
        default=RUNTIMES[0],
        help="what to make an ONNX file fast in (default: %(default)s); onnxruntime-here is the fastest of a dynamic "
        "network in ONNX Runtime, on processors like this one only",
    )
    parser.add_argument(
        "--int8",
        type=int,
        nargs="?",
        const=64,
        metavar="PERSONS",
        help="8 bits, set by so many training persons (default: 64): static networks in onnx, openvino and litert, any "
        "in native",
    )
    parser.add_argument(
        "--int8-test",
        type=count(0),
        default=500,
        metavar="PERSONS",
        help="of the test set, whose AP may fall by .5 in 8 bits; 0 for no test (default: 500)",
    )
    parser.add_argument(
        "--bfloat16", action="store_true", help="for --format native: compute in bfloat16, on processors that do"
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
    kind = find_format(arguments.format)
    out = arguments.out
    if arguments.weights:
        if arguments.config:
            raise OptionError("--weights: stands for CONFIG and CHECKPOINT; leave them out")
        known = shipped(arguments.weights)
        arguments.config, arguments.checkpoint = known.config, known.checkpoint
        out = out or Path(known.checkpoint.name).with_suffix(kind.suffix)
    if not arguments.checkpoint:
        raise OptionError("needs CONFIG and CHECKPOINT, or --weights NAME")
    settings = settings_from(arguments)
    out = out or Path(arguments.checkpoint).with_suffix(kind.suffix)
    if arguments.format == "onnx" and out.suffix != kind.suffix:
        raise OutputError(f"{out}: a file of {kind.runtime} ends in {kind.suffix}; choose such a name")
    if arguments.device not in ("auto", "cpu"):
        print(f"--device {arguments.device}: changes nothing, a network is exported on the CPU", file=sys.stderr)
    check_outputs(kind.paths(out) if kind.checked else [], [*files_read(arguments, settings), arguments.web_runtime])
    if arguments.int8 is not None and not kind.int8:
        able = ", ".join(name for name, other in FORMATS.items() if other.int8)
        raise OptionError(f"--format {arguments.format}: --int8 is for {able}")
    check_bank(arguments.format, arguments.bank, arguments.output, arguments.int8 is not None)
    if arguments.bfloat16 and (arguments.format != "native" or arguments.int8 is not None):
        raise OptionError(f"--format {arguments.format}: --bfloat16 is for native, and in place of --int8")
    if arguments.format == "web" and arguments.output != "heatmaps":
        raise OptionError("--format web: the page ends in skeletons; leave --output out")
    model = settings.build_model()
    calibration = load_weights(model, arguments.checkpoint).get("calibration")
    if arguments.format == "web":
        ours = shipped_detector()
        detector = arguments.web_detector or (ours and ours.checkpoint)
        detector = None if detector == "none" else detector
        difference = export_web_page(model, settings, out, arguments.web_runtime, detector, calibration)
        print(f"largest difference of a score to PyTorch in ONNX Runtime: {difference:.2e}")
        print(f"exported: {out} ({out.stat().st_size / 1e6:.1f} MB): open it in a browser")
        return
    crops, accept = None, None
    if arguments.int8 is not None:
        if arguments.int8 < 1:
            raise OptionError(f"--int8 must be at least 1, got {arguments.int8}")
        from pose.export.int8 import training_crops

        crops = training_crops(settings, arguments.int8)
    if arguments.int8 is not None or arguments.bank != BANKS[0] and arguments.format != "native":
        from pose.export.int8 import prove_ap

        def accept(path: Path) -> None:
            if not arguments.int8_test:
                return
            try:
                expected, found = prove_ap(model, settings, path, arguments.int8_test)
            except DataError as error:
                raise DataError(f"{error}; --int8-test 0 goes without a test") from error
            print(f"AP of up to {arguments.int8_test} test persons: {found:.4f} in 8 bits, {expected:.4f} before")

    batches = ", ".join(map(str, CHECKED_BATCHES))
    if kind.writer is not None:
        options = dict(output=arguments.output, bank=arguments.bank, int8=crops, bfloat16=arguments.bfloat16)
        checked = export_file(model, settings, out, arguments.format, calibration, accept=accept, **options)
        proved = f"at batch {batches if kind.any_batch else 1}"
        told = "not checked here: it runs elsewhere" if checked is None else f"{checked:.2e} {proved}"
        print(f"largest difference to PyTorch in {kind.runtime}: {told}")
        print(f"exported: {', '.join(map(str, reversed(kind.paths(out))))}")
        return
    made = (arguments.output, arguments.runtime, crops, calibration, accept, arguments.bank)
    difference = export_onnx(model, settings, out, *made)
    print(f"largest difference to PyTorch at batch {batches}: {difference:.2e}")
    print(f"exported: {out} ({out.stat().st_size / 1e6:.1f} MB)")
