#!/usr/bin/env bash
# pycocotools 2.0.11: where a results file puts joints that were not found decides whether AP(M) or AP(L) pays.
# COCO.loadRes makes a detection's box and area from all its keypoints, those written as (0, 0) for 'not found', too.
# A false detection of 60 pixels then spans the way to the image's corner, counts as a large one, and lowers AP(L);
# with its absent joints inside the person it counts as a medium one and lowers AP(M). Seen here, all else equal:
# AP .667 both times, AP(M) 1.000 and AP(L) 0.500 with joints at (0, 0), AP(M) 0.500 and AP(L) 1.000 with joints inside.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check pycocotools==2.0.11 numpy==2.4.6
cat >"$folder/show.py" <<'PY'
import contextlib
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

SPREAD = np.random.default_rng(0).uniform(0, 1, (17, 2))
FOUND = np.arange(17) < 9


def person(x, size, absent=None):
    """17 keypoints in a square of ``size`` pixels; with ``absent`` eight of them were not found and are put there."""
    points = np.concatenate([np.array([x, 200]) + size * SPREAD, np.full((17, 1), 2.0)], axis=1)
    if absent is not None:
        points[~FOUND] = (*absent, 0)
    return points.ravel().tolist()


def figures(absent):
    """AP, AP(M), AP(L): a medium and a large person on each image, both found, and a better scored false detection."""
    truth, results = COCO(), []
    annotations = []
    for image in range(1, 21):
        for x, size in ((100, 60), (400, 180)):
            keypoints = person(x, size)
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image, "category_id": 1, "iscrowd": 0, "area": 0.6 * size**2,
                 "bbox": [x, 200, size, size], "num_keypoints": 17, "keypoints": keypoints}
            )
            results.append({"image_id": image, "category_id": 1, "keypoints": keypoints, "score": 0.5})
        results.append({"image_id": image, "category_id": 1, "keypoints": person(250, 60, absent), "score": 0.9})
    truth.dataset = {
        "info": {},
        "images": [{"id": image, "width": 640, "height": 480} for image in range(1, 21)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [round(float(evaluation.stats[row]), 3) for row in (0, 3, 4)]


corner, inside = figures((0, 0)), figures((280, 230))
print(f"absent joints at (0, 0): AP {corner[0]}, AP(M) {corner[1]}, AP(L) {corner[2]}")
print(f"absent joints inside:    AP {inside[0]}, AP(M) {inside[1]}, AP(L) {inside[2]}")
assert corner[0] == inside[0], "AP over all sizes differs now"
assert (corner[1] == 1 and corner[2] < 0.6) and (inside[1] < 0.6 and inside[2] == 1), "the behaviour changed"
PY
"$folder/env/bin/python" "$folder/show.py"
