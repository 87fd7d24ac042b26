"""Arguments of the tools that predict: which network, and where the boxes come from."""

from __future__ import annotations

import argparse
from pathlib import Path

from pose.command_line import add_run_arguments, parse_options, share
from pose.config_files import SUFFIXES
from pose.files import LISTED_SUFFIXES
from pose.inference.boxes import DEFAULT_THRESHOLD, PERSON_CLASS, whole_image
from pose.inference.detector import SHIPPED, default_detector, detector_file, load_detector
from pose.inference.predictor import Predictor
from pose.options import OptionError
from pose.runtimes.files import RUNTIMES
from pose.weights import shipped

WHOLE = "whole"
"""The value of ``--boxes`` where each image is one person."""

MANY_IMAGES = 500
"""So many pictures make native layers worth compiling, which take a tenth of a second less for each."""


def add_predictor_arguments(parser: argparse.ArgumentParser, reads_input: bool = False) -> None:
    """Adds what :func:`take_network` reads, ``--boxes``, ``--detector`` and what belongs to them.

    Args:
        parser: The parser that gets the arguments.
        reads_input: Whether an INPUT follows the network.
    """
    kinds = "CONFIG CHECKPOINT, an exported FILE (.onnx, .xml ...), or nothing for the weights that come with this"
    what = f"{kinds}{'; then INPUT' if reads_input else ''}"
    parser.add_argument("network", nargs="*", metavar="CONFIG CHECKPOINT" + " INPUT" * reads_input, help=what)
    add_detector_arguments(parser, reads_input)


def add_detector_arguments(parser: argparse.ArgumentParser, reads_boxes: bool = False) -> None:
    """Adds ``--weights`` and ``--device``, ``--boxes``, ``--detector`` and what belongs to them.

    Args:
        parser: The parser that gets the arguments.
        reads_boxes: Whether ``--boxes`` takes a file.
    """
    parser.add_argument("--weights", metavar="NAME", help="which of the weights in data/weights (default: its own)")
    add_run_arguments(parser)
    file = "a COCO-format file with person boxes, or " if reads_boxes else ""
    parser.add_argument("--boxes", help=f"{file}'{WHOLE}': each image is one person")
    parser.add_argument(
        "--detector",
        help=f"a person detector: '{SHIPPED}', a name of torchvision's or a file (.onnx, .pth); default: with the "
        f"repository's weights the detector that comes with them, else --boxes {WHOLE}",
    )
    add_foreign_detector_arguments(parser)
    parser.add_argument(
        "--box-threshold",
        type=share,
        help=f"least score of a box (default: the own one of a detector in a .pth file, else {DEFAULT_THRESHOLD:g})",
    )


def add_foreign_detector_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what :func:`pose.inference.detector.load_detector` is told of another's detector."""
    parser.add_argument("--detector-weights", help="a file for torchvision's (default: downloaded once)")
    parser.add_argument(
        "--detector-class",
        default=PERSON_CLASS,
        metavar="NAME",
        help="the class that the detector looks for, or its number (default: %(default)s)",
    )
    parser.add_argument(
        "--detector-pixels",
        metavar="KIND",
        help="what an ONNX detector's input holds, where docs/detector.md is wrong for it: rgb, bgr255 or rtmdet",
    )


def detector_choice(
    arguments: argparse.Namespace, threshold: float | None
) -> tuple[str, str | None, float | None, str, str, str | None]:
    """What :func:`pose.inference.detector.load_detector` takes first, of ``detector``, ``device`` and what
    :func:`add_foreign_detector_arguments` adds."""
    return (
        arguments.detector,
        arguments.detector_weights,
        threshold,
        arguments.device,
        arguments.detector_class,
        arguments.detector_pixels,
    )


def network_files(arguments: argparse.Namespace) -> list[str | Path | None]:
    """Files that the arguments of :func:`add_predictor_arguments` name, for :func:`pose.files.check_outputs`."""
    detector = detector_file(arguments.detector) if arguments.detector else None
    return [arguments.config, arguments.checkpoint, arguments.boxes, detector, arguments.detector_weights]


def take_network(parser: argparse.ArgumentParser, arguments: argparse.Namespace, reads_input: bool = False) -> None:
    """Sets ``config``, ``checkpoint`` and, where one is read, ``input``; ends the tool where that cannot be.

    Without a network both are None; an exported file is a ``config`` without a ``checkpoint``.
    """
    given = list(arguments.network)
    ending = Path(given[0]).suffix if given else ""
    arguments.config = given.pop(0) if ending in SUFFIXES or ending in RUNTIMES else None
    arguments.checkpoint = given.pop(0) if ending in SUFFIXES and given else None
    if ending in SUFFIXES and arguments.checkpoint is None or len(given) != int(reads_input):
        needed = "needs INPUT, CONFIG CHECKPOINT INPUT or FILE.onnx INPUT" if reads_input else ""
        unknown = f"; {given[0]} is no configuration and no exported file" if len(given) > int(reads_input) else ""
        if reads_input and len(given) > 1 and all(Path(name).suffix.lower() in LISTED_SUFFIXES for name in given):
            unknown = f"; got {len(given)} files: give their folder, or a pattern in quotes"
        parser.error((needed or "needs CONFIG CHECKPOINT, an exported FILE.onnx, or nothing") + unknown)
    if arguments.weights and arguments.config:
        parser.error("--weights and CONFIG: give one of them")
    if arguments.boxes and arguments.detector:
        parser.error("--boxes and --detector: give one of them")
    if not arguments.detector and (arguments.detector_class != PERSON_CLASS or arguments.detector_pixels):
        parser.error("--detector-class and --detector-pixels: only with --detector")
    if arguments.boxes not in (None, WHOLE) and not reads_input:
        parser.error(f"--boxes: can only be {WHOLE} here, got {arguments.boxes}")
    if reads_input:
        arguments.input = given[0]


def make_predictor(arguments: argparse.Namespace, may_compile: bool = False) -> Predictor:
    """What the arguments of :func:`take_network` name; says so where it is what comes with the repository.

    Args:
        arguments: The arguments.
        may_compile: There is so much to do that native layers are compiled first, unless the arguments or the
            configuration say otherwise.

    Raises:
        PoseError: A file is missing, broken or does not fit, or an option is wrong.
    """
    options, device, threshold = parse_options(arguments.cfg_options), arguments.device, arguments.box_threshold
    if options and arguments.config is not None and arguments.checkpoint is None:
        raise OptionError(
            f"{arguments.config}: an exported file keeps the choices that it was made with, {next(iter(options))} "
            "changes nothing; leave --cfg-options out, or export anew with it"
        )
    if arguments.config is None:
        ours = shipped(arguments.weights)
        print(f"network: {ours.name}, {ours.about} (see data/weights/README.md)")
        predictor = Predictor.from_weights(ours.name, options, device, whole_image, may_compile)
    elif arguments.checkpoint is None:
        predictor = Predictor.from_file(arguments.config, device)
    else:
        predictor = Predictor.from_config(arguments.config, arguments.checkpoint, options, device, may_compile)
    if arguments.detector:
        predictor.detector = load_detector(*detector_choice(arguments, threshold), predictor.native)
    elif arguments.config is None and not arguments.boxes:
        predictor.detector = default_detector(threshold, predictor.native, device)
    return predictor
