#!/usr/bin/env bash
# sleap-io 0.9.5: a COCO keypoint file that is read and written again has other persons, areas, boxes and visibilities.
# save_coco writes the extent of the points as the box, its product as the area, v = 2 for hidden joints, and a crowd
# region (iscrowd 1) as one more person without points and with an empty box, so that evaluations with the file differ
# (OKS goes by the area, and crowds are ignore regions). Seen here: area 321.5 becomes 35, v [2, 1] becomes [2, 2], and
# the crowd's iscrowd 1 becomes 0. This project reads and writes COCO itself.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check sleap-io==0.9.5
cat >"$folder/show.py" <<'PY'
import json
import sys
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import sleap_io

folder = Path(sys.argv[1])
imageio.imwrite(folder / "a.png", np.zeros((80, 100, 3), np.uint8))
person = {"id": 42, "image_id": 7, "category_id": 1, "iscrowd": 0, "area": 321.5, "bbox": [5, 10, 40, 60],
          "num_keypoints": 2, "keypoints": [10, 20, 2, 15, 27, 1, 0, 0, 0]}
crowd = {"id": 43, "image_id": 7, "category_id": 1, "iscrowd": 1, "area": 900, "bbox": [0, 0, 30, 30],
         "num_keypoints": 0, "keypoints": [0] * 9}
before = {
    "images": [{"id": 7, "file_name": "a.png", "width": 100, "height": 80}],
    "annotations": [person, crowd],
    "categories": [{"id": 1, "name": "person", "keypoints": ["nose", "left_eye", "right_eye"], "skeleton": [[1, 2]]}],
}
(folder / "before.json").write_text(json.dumps(before))
sleap_io.save_coco(sleap_io.load_file(str(folder / "before.json"), format="coco"), str(folder / "after.json"))
first, second = json.loads((folder / "after.json").read_text())["annotations"]
print(f"sleap-io {sleap_io.__version__}")
print(f"area {person['area']} -> {first['area']}; box {person['bbox']} -> {first['bbox']}")
print(f"visibilities {person['keypoints'][2::3]} -> {first['keypoints'][2::3]}")
print(f"crowd: iscrowd {crowd['iscrowd']} -> {second['iscrowd']}, box {crowd['bbox']} -> {second['bbox']}")
assert first["area"] == 35 and first["keypoints"][2::3] == [2, 2, 0], "areas or visibilities are kept now"
assert second["iscrowd"] == 0 and second["bbox"] == [0, 0, 0, 0], "crowd regions are kept now"
PY
"$folder/env/bin/python" "$folder/show.py" "$folder"
