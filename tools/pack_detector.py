"""Make of a training's checkpoint the file that ships: weights in half precision, and a threshold chosen on data.

    python tools/pack_detector.py work_dirs/detector_person/best.pth person_detector.pth
    python tools/pack_detector.py work_dirs/detector_person/best.pth person_detector.pth --threshold 0.3

The threshold is the score at which precision and recall have the greatest harmonic mean on the pictures that the
training held out; they and its cache must be there for that, not with --threshold.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
from dataclasses import replace
from pathlib import Path

from pose.checkpoint import in_half_precision, save_checkpoint
from pose.command_line import CommandParser, parse_options, share
from pose.detection.data import open_training_data
from pose.detection.detector import PersonDetector
from pose.detection.results import detect_arrays
from pose.detection.score import best_threshold, precision_recall
from pose.detection.settings import load_network
from pose.errors import command
from pose.files import check_kind, check_outputs
from pose.models.deploy.folding import deploy


@command
def main() -> int:
    parser = CommandParser(__doc__)
    parser.add_argument("checkpoint", type=Path, help="of tools/train_detector.py")
    parser.add_argument("out", type=Path, help="the file to write")
    parser.add_argument("--threshold", type=share, help="do not choose it, take this")
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="e.g. data.root=/data/people")
    arguments = parser.parse_args()
    check_outputs([arguments.out], [arguments.checkpoint])
    check_kind(arguments.out, ".pth")
    network, settings = load_network(arguments.checkpoint, parse_options(arguments.cfg_options))
    threshold = arguments.threshold
    if threshold is None:
        data = open_training_data(settings.data)
        rows = data.held_out_rows
        detector = PersonDetector(deploy(network), settings.test.for_figures())
        results = detect_arrays(detector, ((row, data.cache[row][0]) for row in rows.tolist()))
        truth = data.truth(rows)
        threshold = best_threshold(truth, results)
        _, precision, recall = precision_recall(truth, results, [threshold])[0]
        print(f"{len(rows)} pictures held out: from {threshold:.2f} on precision {precision:.3f}, recall {recall:.3f}")
    settings = replace(settings, test=replace(settings.test, threshold=threshold))
    half = in_half_precision(network.state_dict(), arguments.checkpoint)
    save_checkpoint(arguments.out, {"model": half, "settings": settings.to_dict()})
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    main()
