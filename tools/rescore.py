"""Score saved predictions again under other choices, without the network: what is each choice worth?

    python tools/test.py CONFIG CHECKPOINT --save-predictions FILE    # once
    python tools/rescore.py FILE                                      # each alternative to each choice, one at a time
    python tools/rescore.py FILE --flip on off --decode sign dark     # every combination of what is named
    python tools/rescore.py FILE --decode dark --report DIR           # where the points are lost

A choice that is not named stays as in the test that saved the predictions.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
import argparse
from collections.abc import Mapping
from itertools import product
from pathlib import Path

from tqdm import tqdm

from pose.command_line import CommandParser, share
from pose.errors import command
from pose.evaluation.analysis.report import PAGE, check_report_folder, make_report
from pose.evaluation.coco_backend import check_backend
from pose.evaluation.coco_eval import format_figures, load_annotations, score
from pose.evaluation.protocol import CHOICES, TestProtocol, scoring_options
from pose.evaluation.saved_predictions import load_predictions
from pose.files import check_kind, check_outputs, sha256, write_json
from pose.options import OptionError

SWITCHES = ("off", "on")
LABELS = {
    "flip": "flip",
    "flip_shift": "shift",
    "decode": "decode",
    "rescore": "rescoring",
    "rescore_threshold": "joints above",
    "nms": "NMS",
    "nms_threshold": "NMS above",
    "box_threshold": "boxes from",
}
"""The choices, in the order of the protocol, and what the table calls them."""


@command
def main() -> None:
    arguments = _parser().parse_args()
    saved = load_predictions(arguments.predictions)
    backend = arguments.backend or saved.protocol.backend
    check_backend(backend)
    annotations = arguments.annotations or Path(saved.annotations)
    truth = load_annotations(annotations, saved.skeleton, arguments.category, somebody=True)
    changes: dict[str, object] = {"backend": backend}
    if sha256(annotations) != saved.protocol.annotations_sha256:
        print(f"{annotations} is not the file that the test was run on: the figures are against this one")
        changes.update(annotations=annotations.name, annotations_sha256=sha256(annotations))
        changes.update(areas_from_boxes=truth.areas_from_boxes, notices=truth.notices)
    chosen = {name: values for name in LABELS if (values := getattr(arguments, name))}
    alone = {"as tested": {}} if arguments.report else alternatives(saved.protocol)
    rows = {label: saved.varied(**changes, **row) for label, row in (combinations(chosen) if chosen else alone).items()}
    report = arguments.report and check_report_folder(arguments.report)
    read = [arguments.predictions, annotations, arguments.images or saved.images]
    check_outputs([arguments.out, report and report / PAGE], read)
    check_kind(arguments.out, ".json")
    if report and len(rows) > 1:
        raise OptionError(f"--report is about one set of choices, these are {len(rows)}; name one value of each")
    figures = {}
    for label, protocol in tqdm(rows.items(), desc="scoring", disable=None, leave=False):
        predictions = saved.predictions(protocol)
        figures[label], results = score(predictions, truth, saved.skeleton, **scoring_options(protocol))
        if report:
            images = arguments.images or saved.images
            about = protocol.describe()
            make_report(report, results, figures[label], about, truth, images, saved.skeleton)
    print(saved.varied(**changes).describe())
    print(format_figures(figures))
    if arguments.out:
        write_json(arguments.out, {label: _row(rows[label], figures[label]) for label in rows})
        print(f"table: {arguments.out}")
    if report:
        print(f"report: {report / PAGE}")


def alternatives(tested: TestProtocol) -> dict[str, dict[str, object]]:
    """Labels of rows to the choices that they change: none, then one at a time."""
    rows: dict[str, dict[str, object]] = {"as tested": {}}
    for name, values in {"flip": (True, False), "rescore": (True, False), **CHOICES}.items():
        if name == "backend" or (name == "flip_shift" and not tested.flip):
            continue
        rows.update({_label({name: value}): {name: value} for value in values if value != getattr(tested, name)})
    return rows


def combinations(chosen: Mapping[str, list]) -> dict[str, dict[str, object]]:
    """Labels of rows to choices: every combination of the named values; without flip there is no shift."""
    rows = {}
    for values in product(*chosen.values()):
        changes = dict(zip(chosen, values, strict=True))
        if changes.get("flip") is False:
            changes.pop("flip_shift", None)
        rows[_label(changes)] = changes
    return rows


def _label(changes: Mapping[str, object]) -> str:
    def text(value: object) -> str:
        return SWITCHES[value] if isinstance(value, bool) else str(value)

    return ", ".join(f"{LABELS[name]} {text(value)}" for name, value in changes.items())


def _row(protocol: TestProtocol, figures: Mapping[str, float]) -> dict[str, object]:
    return {"figures": dict(figures), "protocol": protocol.to_dict()}


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(__doc__)
    parser.add_argument("predictions", type=Path, help="file that tools/test.py --save-predictions wrote")
    for name in ("flip", "rescore"):
        parser.add_argument(f"--{name}", nargs="+", type=_switch, metavar="on|off")
    parser.add_argument("--shift", dest="flip_shift", nargs="+", type=int, choices=CHOICES["flip_shift"])
    for name in ("decode", "nms"):
        parser.add_argument(f"--{name}", nargs="+", choices=CHOICES[name])
    for name in ("nms", "rescore", "box"):
        parser.add_argument(f"--{name}-threshold", nargs="+", type=share)
    parser.add_argument("--backend", choices=CHOICES["backend"], help="library for the figures (default: the test's)")
    parser.add_argument("--annotations", type=Path, help="annotation file (default: the test's)")
    parser.add_argument("--category", help="the persons' category, name or id (default: the one with keypoints)")
    parser.add_argument("--images", type=Path, help="folder of the pictures (default: the test's)")
    parser.add_argument("--report", type=Path, help="folder for a page on the test, or on one set of choices")
    parser.add_argument("--out", type=Path, help="JSON file for the figures with their protocols")
    return parser


def _switch(text: str) -> bool:
    if text not in SWITCHES:
        raise argparse.ArgumentTypeError(f"needs on or off, got {text!r}")
    return text == "on"


if __name__ == "__main__":
    main()
