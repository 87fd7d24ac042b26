"""Write a person detector as a file that needs no PyTorch to run: ONNX, from pixels to boxes, or native layers.

    python tools/export_detector.py person.onnx                        # the detector that comes with the repository
    python tools/export_detector.py person.onnx work_dirs/d/best.pth   # one of tools/train_detector.py
    python tools/export_detector.py person.native                      # this project's native layers
    python tools/demo.py base.onnx street.jpg --detector person.onnx

An ONNX file's input `images` is (1, H, W, 3) uint8 RGB, H and W any multiples of 32; `boxes` answers (1, 200, 5): x1,
y1, x2, y2 in pixels of the input and the score, the best first, overlapping ones still among them. How a picture
becomes an input is in its metadata, under person_detector.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
from pathlib import Path

from pose.command_line import CommandParser
from pose.errors import command
from pose.export.detector_file import export_detector
from pose.files import check_outputs
from pose.options import OptionError
from pose.weights import shipped_detector


@command
def main() -> None:
    parser = CommandParser(__doc__)
    parser.add_argument("out", type=Path, help="the file to write (.onnx or .native)")
    parser.add_argument("checkpoint", type=Path, nargs="?", help="default: the detector that comes with the repository")
    arguments = parser.parse_args()
    ours = None if arguments.checkpoint else shipped_detector()
    checkpoint = arguments.checkpoint or (ours and ours.checkpoint)
    if checkpoint is None:
        raise OptionError("no detector comes with this repository; give a checkpoint of tools/train_detector.py")
    if arguments.out.suffix not in (".onnx", ".native"):
        raise OptionError(f"{arguments.out}: ends in neither .onnx nor .native; choose such a name")
    check_outputs([arguments.out], [checkpoint])
    difference = export_detector(checkpoint, arguments.out)
    print(f"largest difference to PyTorch, in pixels of a box or of a score: {difference:.2e}")
    print(f"exported: {arguments.out} ({arguments.out.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    main()
