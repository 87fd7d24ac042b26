#!/usr/bin/env bash
# pycocotools 2.0.11: a correctly found person counts as missed where its annotation's id is 0.
# COCOeval marks an unmatched detection by the id 0, so a match with the annotation 0 reads as none. Files numbered
# from 0 are valid COCO (ids are any integers) and several converters write them. Seen here: the same two persons and
# the same perfect answers give AP 1.000 with ids from 1, and AP 0.252 with ids from 0.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check pycocotools==2.0.11 numpy==2.4.6
cat >"$folder/show.py" <<'PY'
import contextlib
import io

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def ap(first_id):
    """AP of perfect answers for two persons on two images, their annotations numbered from ``first_id`` on."""
    keypoints = [value for k in range(17) for value in (10 + 5 * k, 20 + 3 * k, 2)]
    truth = COCO()
    truth.dataset = {
        "images": [{"id": image, "width": 200, "height": 200} for image in (1, 2)],
        "annotations": [
            {"id": first_id + number, "image_id": image, "category_id": 1, "iscrowd": 0, "area": 10_000.0,
             "bbox": [0, 0, 100, 100], "num_keypoints": 17, "keypoints": keypoints}
            for number, image in enumerate((1, 2))
        ],
        "categories": [{"id": 1, "name": "person"}],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        answers = [{"image_id": image, "category_id": 1, "keypoints": keypoints, "score": 0.9} for image in (1, 2)]
        evaluation = COCOeval(truth, truth.loadRes(answers), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[0]


from_one, from_zero = ap(1), ap(0)
print(f"AP with ids from 1: {from_one:.3f}; with ids from 0: {from_zero:.3f}")
assert from_one > 0.999, "perfect answers no longer score 1 with ids from 1"
assert from_zero < 0.9, "annotation 0 is matched now: the behaviour changed"
PY
"$folder/env/bin/python" "$folder/show.py"
