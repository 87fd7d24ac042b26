"""Arguments of the tools that predict: which network, and where the boxes come from."""

from __future__ import annotations

import argparse

from pose.engine.command_line import add_config_arguments, parse_options
from pose.inference.detector import DEFAULT_THRESHOLD, load_detector
from pose.inference.predictor import Predictor


def add_predictor_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds CONFIG, CHECKPOINT (optional, for ``.onnx`` files need none), ``--detector`` and what belongs to them."""
    add_config_arguments(parser)
    parser.add_argument("checkpoint", nargs="?", help="trained weights (.pth); none where CONFIG is an .onnx file")
    parser.add_argument("--detector", help="a person detector: a name of torchvision's or an .onnx file")
    parser.add_argument("--detector-weights", help="a file for torchvision's (default: downloaded once)")
    parser.add_argument(
        "--box-threshold", type=float, default=DEFAULT_THRESHOLD, help="least score of a box (default: %(default)s)"
    )


def make_predictor(arguments: argparse.Namespace) -> Predictor:
    """What the arguments of :func:`add_predictor_arguments` name.

    Raises:
        PoseError: A file is missing, broken or does not fit, or an option is wrong.
    """
    if arguments.checkpoint is None:
        predictor = Predictor.from_onnx(arguments.config, arguments.device)
    else:
        options = parse_options(arguments.cfg_options)
        predictor = Predictor.from_config(arguments.config, arguments.checkpoint, options, arguments.device)
    if arguments.detector:
        weights, threshold = arguments.detector_weights, arguments.box_threshold
        predictor.detector = load_detector(arguments.detector, weights, threshold, arguments.device)
    return predictor
