#!/usr/bin/env bash
# fiftyone 1.22.1: the object keypoint similarity by which it evaluates keypoints is not COCO's, which it refers to.
# compute_ious, which evaluate_detections calls for keypoints, forgives every joint by the person's whole size (COCO by
# .05 to .21 of it) unless keypoint_sigmas are given; with COCO's sigmas it forgives by half of what COCO does, which
# doubles them; and it measures in parts of the image's width and height, so that in one of 640 x 480 a pixel down costs
# more than one to the side. Seen here, a person of 100 x 100 pixels with all 17 joints 50 pixels off: .91 where COCO
# has .01; with COCO's sigmas and all joints 10 pixels off .40 (to the side) and .26 (down) where COCO has .65.
# Only twice COCO's sigmas on a square image give its numbers. Score with pycocotools, or tools/score_results.py here.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check fiftyone==1.22.1 numpy==2.4.6
cat >"$folder/show.py" <<'PY'
import fiftyone
import numpy as np
from fiftyone.utils.iou import compute_ious

SIGMAS = np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000
TRUTH = np.random.default_rng(0).uniform(200, 300, (17, 2))
TRUTH[:2] = (200, 200), (300, 300)


def coco(moved):
    """COCO's similarity of all joints ``moved`` (x, y) pixels from a person of 100 x 100, by that area."""
    return np.exp(-np.sum(np.square(moved)) / (2 * 100**2 * (2 * SIGMAS) ** 2)).mean()


def fiftyones(moved, size, sigmas=None):
    """FiftyOne's, in an image of ``size`` (width, height)."""
    truth, found = (
        fiftyone.Keypoint(label="person", points=(points / size).tolist()) for points in (TRUTH, TRUTH + moved)
    )
    return compute_ious([found], [truth], keypoint_sigmas=sigmas)[0, 0]


wide, square = (640, 480), (640, 640)
far = coco((50, 0)), fiftyones((50, 0), wide)
print(f"fiftyone {fiftyone.__version__}")
print(f"all joints 50 pixels off: COCO {far[0]:.2f}, FiftyOne {far[1]:.2f}")
near = coco((10, 0)), fiftyones((10, 0), wide, SIGMAS.tolist()), fiftyones((0, 10), wide, SIGMAS.tolist())
print(f"10 pixels off, COCO's sigmas: COCO {near[0]:.2f}, FiftyOne {near[1]:.2f} to the side, {near[2]:.2f} down")
doubled = fiftyones((10, 0), square, (2 * SIGMAS).tolist())
print(f"the same, twice COCO's sigmas, a square image: FiftyOne {doubled:.2f}")
assert far[0] < 0.1 and far[1] > 0.9, "the default is near COCO's now"
assert near[1] < near[0] - 0.1, "COCO's sigmas are taken as COCO takes them now"
assert abs(near[1] - near[2]) > 0.05, "pixels are measured alike now"
assert abs(doubled - near[0]) < 0.01, "twice the sigmas on a square image do not give COCO's number"
PY
mkdir "$folder/home"
HOME="$folder/home" FIFTYONE_DO_NOT_TRACK=true "$folder/env/bin/python" "$folder/show.py"
