"""Write a trained network as an ONNX file that runs without PyTorch.

    python tools/export.py CONFIG CHECKPOINT                     # heatmaps; CHECKPOINT with .onnx instead of .pth
    python tools/export.py CONFIG CHECKPOINT --output keypoints  # flip averaging and decoding inside
    python tools/export.py CONFIG CHECKPOINT --runtime openvino  # dynamic layers as OpenVINO runs them fastest
    python tools/export.py CONFIG CHECKPOINT --int8              # a static network in 8 bits, about twice as fast

The batch size is free. The file is compared with PyTorch in ONNX Runtime before it takes its name; its metadata
holds the input size, mean and standard deviation, keypoint names, flip pairs, limbs and test settings. It stands
in for the checkpoint of tools/test.py and for the configuration of tools/demo.py.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pose.checkpoint import load_weights
from pose.command_line import add_config_arguments, files_read, settings_from
from pose.errors import command
from pose.export.forms import RUNTIMES
from pose.export.onnx_file import CHECKED_BATCHES, OUTPUTS, export_onnx
from pose.files import check_outputs
from pose.options import OptionError


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config_arguments(parser)
    parser.add_argument("checkpoint", help="trained weights (.pth)")
    parser.add_argument("--format", choices=["onnx"], default="onnx", help="what to write (default: onnx)")
    parser.add_argument("--output", choices=OUTPUTS, default="heatmaps", help="what it answers with")
    parser.add_argument(
        "--runtime",
        choices=RUNTIMES,
        default=RUNTIMES[0],
        help="what to make it fast in (default: %(default)s); onnxruntime-here is the fastest of a dynamic network in "
        "ONNX Runtime, on processors like this one only",
    )
    parser.add_argument(
        "--int8",
        type=int,
        nargs="?",
        const=64,
        metavar="PERSONS",
        help="a static network in 8 bits, set by so many training persons (default: 64); test it with tools/test.py",
    )
    parser.add_argument("--out", type=Path, help="the file (default: beside the checkpoint)")
    arguments = parser.parse_args()
    settings = settings_from(arguments)
    out = arguments.out or Path(arguments.checkpoint).with_suffix(".onnx")
    check_outputs([out], files_read(arguments, settings))
    model = settings.build_model()
    calibration = load_weights(model, arguments.checkpoint).get("calibration")
    crops = None
    if arguments.int8 is not None:
        if arguments.int8 < 1:
            raise OptionError(f"--int8 must be at least 1, got {arguments.int8}")
        from pose.export.int8 import training_crops

        crops = training_crops(settings, arguments.int8)
    difference = export_onnx(model, settings, out, arguments.output, arguments.runtime, crops, calibration)
    batches = ", ".join(map(str, CHECKED_BATCHES))
    print(f"largest difference to PyTorch at batch {batches}: {difference:.2e}")
    print(f"exported: {out} ({out.stat().st_size / 1e6:.1f} MB)")
