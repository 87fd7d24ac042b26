"""Test a pose network with COCO's metric.

    python tools/test.py CONFIG CHECKPOINT                      # the configuration's detector boxes
    python tools/test.py CONFIG CHECKPOINT --boxes annotated    # about 2 AP higher, not comparable
    python tools/test.py CONFIG CHECKPOINT --cfg-options test.flip=False test.decode=dark

Flip averaging, decoding, rescoring and OKS-NMS follow the configuration's `test` section. What was
done is printed with the figures and written beside the results, as NAME.protocol.json. With
--save-predictions, tools/rescore.py tells later what every other choice would have given.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pose.command_line import CommandParser, add_config_arguments, files_read, settings_from
from pose.device import choose_device
from pose.engine import evaluate
from pose.errors import CheckpointError, command
from pose.evaluation.analysis.report import PAGE, check_report_folder, make_report
from pose.evaluation.coco_eval import format_figures
from pose.evaluation.pck import format_length_pck, pck
from pose.evaluation.protocol import ANNOTATED
from pose.evaluation.results import write_results
from pose.files import check_kind, check_outputs, write_json
from pose.prediction import load_network, ready_for_testing


@command
def main() -> None:
    parser = CommandParser(__doc__)
    add_config_arguments(parser)
    parser.add_argument("checkpoint", help="trained weights (.pth) or an exported network (.onnx)")
    parser.add_argument("--boxes", help=f"'{ANNOTATED}' or a detections file (default: those of the split)")
    parser.add_argument("--validation", action="store_true", help="the validation split, though there is a test split")
    parser.add_argument("--out", type=Path, help="results file in COCO's format (default: beside the checkpoint)")
    parser.add_argument("--report", type=Path, help="folder for a page that shows where the points are lost")
    parser.add_argument("--save-predictions", type=Path, help="file for tools/rescore.py, 2,504 bytes a person")
    arguments = parser.parse_args()
    settings = settings_from(arguments)
    data, boxes = settings.data, _boxes(arguments.boxes)
    split, name = (data.val, "validation") if arguments.validation else (data.tested, "test")
    separate = data.test is not None
    default = f"results_{name}.json" if separate else "results.json"
    out = arguments.out or Path(arguments.checkpoint).with_name(default)
    report = arguments.report and check_report_folder(arguments.report)
    keep = arguments.save_predictions
    written = [out, out.with_suffix(".protocol.json"), keep, report and report / PAGE]
    check_outputs(written, [*files_read(arguments, settings), *settings.data.image_folders()])
    check_kind(out, ".json")
    check_kind(keep, ".npz")
    skeleton = settings.skeleton()
    device = choose_device(arguments.device)
    model = load_network(settings, arguments.checkpoint)
    test_set = evaluate.open_test_set(settings, split, boxes)
    protocol = evaluate.stamp(settings, test_set, arguments.config, arguments.checkpoint)  # reads the annotations
    model = ready_for_testing(model, settings.test, device)
    try:
        run = evaluate.test(model, test_set, settings, device, protocol if keep else None)
    except CheckpointError as error:
        raise CheckpointError(f"{arguments.checkpoint}: {error}") from error
    protocol = replace(protocol, notices=(*protocol.notices, *test_set.image_notices))
    if run.saved is not None:
        replace(run.saved, protocol=protocol).save(keep)
    assert run.truth is not None  # there is one process
    write_results(out, run.results.records(run.truth.person_category))
    shares = pck(run.results, run.truth, skeleton) if skeleton.sigmas_estimated else {}
    measures = run.measures
    shares |= {measure.name: measure.mean for measure in measures}
    by_joint = {"PCK of keypoints": {measure.name: measure.shares for measure in measures}} if measures else {}
    write_json(
        out.with_suffix(".protocol.json"),
        {"figures": {**run.figures, **shares}, **by_joint, "protocol": protocol.to_dict()},
    )
    if separate:
        print(f"{name} split{': choose nothing by its figures' if name == 'test' else ''}")
    print(protocol.describe())
    print(format_figures(run.figures))
    if shares:
        print("  ".join(f"{name} {share:.3f}" for name, share in shares.items()))
    if measures:
        print(format_length_pck(measures, skeleton))
    print(f"results: {out}")
    if report:
        images = data.path(split.images)
        page = make_report(report, run.results, run.figures, protocol.describe(), run.truth, images, skeleton)
        print(f"report: {page}")
    if run.saved is not None:
        print(f"predictions: {keep} ({run.saved.bytes_per_person():,} bytes a person)")


def _boxes(given: str | None) -> str | None:
    """A detections file as given on the command line is relative to the current folder, not to the data's root."""
    return given if given in (None, ANNOTATED) else str(Path(given).absolute())
