"""Score a results file in COCO's keypoint format, of this or any other program.

    python tools/score_results.py results.json person_keypoints_val2017.json
    python tools/score_results.py results.json person_keypoints_val2017.json --report DIR --images val2017

The figures are pycocotools' own. A NAME.protocol.json beside the results, as tools/test.py writes it, is printed too.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
from pathlib import Path

from pose.command_line import CommandParser
from pose.errors import DataError, command
from pose.evaluation.analysis.report import PAGE, check_report_folder, make_report
from pose.evaluation.coco_backend import BACKENDS, check_backend
from pose.evaluation.coco_eval import annotation_notices, evaluate, format_figures, load_annotations
from pose.evaluation.protocol import TestProtocol
from pose.evaluation.results import Results, check_results, read_results, size_notice
from pose.files import check_folder, check_outputs, read_json
from pose.skeleton import choose_skeleton

UNKNOWN = "how these results were made is not known"


@command
def main() -> None:
    parser = CommandParser(__doc__)
    parser.add_argument("results", type=Path, help="results file")
    parser.add_argument("annotations", type=Path, help="annotation file")
    parser.add_argument("--skeleton", default="coco", help="built-in skeleton or skeleton file (default: coco)")
    parser.add_argument("--category", help="the persons' category, name or id (default: the one with keypoints)")
    parser.add_argument("--backend", choices=BACKENDS, default=BACKENDS[0], help="library for the figures")
    parser.add_argument("--report", type=Path, help="folder for a page that shows where the points are lost")
    parser.add_argument("--images", type=Path, help="folder of the pictures, for the report's crops")
    arguments = parser.parse_args()
    check_backend(arguments.backend)
    report = arguments.report and check_report_folder(arguments.report)
    check_folder(arguments.images, "--images")
    check_outputs([report and report / PAGE], [arguments.results, arguments.annotations, arguments.skeleton])
    skeleton = choose_skeleton(arguments.skeleton, "--skeleton")
    truth = load_annotations(arguments.annotations, skeleton, arguments.category, somebody=True)
    about = _about(arguments.results)
    for notice in annotation_notices(truth):
        if notice.removeprefix(f"{arguments.annotations}: ") not in about:  # where the stamp does not say it
            print(notice)
    number = truth.person_category
    records = read_results(arguments.results, skeleton.num_keypoints, truth.imgs.keys(), number)
    figures = evaluate(records, truth, skeleton, arguments.backend)
    if notice := size_notice(records):
        print(notice)
    print(about)
    print(format_figures(figures))
    if report:
        results = Results(*check_results(records, skeleton.num_keypoints, category_id=number))
        page = make_report(report, results, figures, about, truth, arguments.images, skeleton)
        print(f"report: {page}")


def _about(results: Path) -> str:
    """The protocol beside the results."""
    path = results.with_suffix(".protocol.json")
    if not path.is_file():
        return f"{results}: {UNKNOWN}"
    try:
        return TestProtocol.from_dict(read_json(path, "protocol file")["protocol"]).describe()
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not a protocol as tools/test.py writes it ({error})") from error


if __name__ == "__main__":
    main()
