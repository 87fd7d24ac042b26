"""Make joint scores mean something: fit, on the validation split, what score is how often a right joint.

    python tools/calibrate.py CONFIG work_dirs/RUN/best.pth      # writes work_dirs/RUN/best.calibrated.pth
    python tools/calibrate.py CONFIG CHECKPOINT --share 0.9      # nine in ten drawn joints right

The checkpoint that is written has the same weights and, beside them, a monotone map for each joint from raw scores to
the probability that the joint is within a tenth of the box's longer side (PCK 0.1), and the probability from which
joints are drawn. The demo, the page, `Predictor` and exported files show these probabilities; person scores, OKS-NMS
and every figure of tools/test.py stay what they are. The persons must not be among those trained on.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
from pathlib import Path

from pose.checkpoint import load_weights, save_checkpoint
from pose.command_line import CommandParser, add_config_arguments, files_read, settings_from, share
from pose.device import choose_device
from pose.engine.evaluate import open_test_set
from pose.engine.predict import predict
from pose.errors import command
from pose.evaluation.calibration import FRACTION, SHARE, drawn_shares, fit_calibration, right_joints
from pose.evaluation.protocol import ANNOTATED
from pose.files import check_kind, check_outputs, make_folder
from pose.options import OptionError
from pose.prediction import ready_for_testing


@command
def main() -> None:
    parser = CommandParser(__doc__)
    add_config_arguments(parser)
    parser.add_argument("checkpoint", type=Path, help="trained weights (.pth)")
    parser.add_argument("--share", type=share, default=SHARE, help="of drawn joints, right (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="checkpoint to write (default: NAME.calibrated.pth beside it)")
    arguments = parser.parse_args()
    if not 0 < arguments.share < 1:
        raise OptionError(f"--share must be between 0 and 1, got {arguments.share:g}")
    settings = settings_from(arguments)
    device = choose_device(arguments.device)
    model = settings.build_model()
    contents = load_weights(model, arguments.checkpoint)
    out = arguments.out or arguments.checkpoint.with_suffix(".calibrated.pth")
    make_folder(out.parent)
    check_outputs([out], [*files_read(arguments, settings), *settings.data.image_folders()])
    check_kind(out, ".pth")
    split = settings.data.val
    test_set = open_test_set(settings, split, ANNOTATED)
    persons = test_set.persons
    predictions = predict(ready_for_testing(model, settings.test, device), test_set.loader, settings.test, device)
    scores = predictions.keypoints[..., 2]
    right = right_joints(predictions.keypoints, persons.keypoints, persons.boxes)
    calibration = fit_calibration(scores, right, settings.test.flip, arguments.share)
    print(f"{len(scores):,} persons of {settings.data.path(split.annotations)}")
    print(f"{'drawn from':>10} {'drawn':>7} {'right (PCK ' + format(FRACTION, 'g') + ')':>15}")
    for row in drawn_shares(calibration(scores), right):
        print(f"{row.threshold:>10.2f} {row.drawn:>7.1%} {row.right:>15.1%}")
    print(f"joints are drawn from {calibration.threshold:g} on")
    save_checkpoint(out, {**contents, "calibration": calibration.to_dict()})
    print(f"calibrated: {out}")


if __name__ == "__main__":
    main()
