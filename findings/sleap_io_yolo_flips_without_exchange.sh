#!/usr/bin/env bash
# sleap-io 0.9.5, ultralytics 8.4.190: a skeleton written as YOLO-pose trains left and right to be the same.
# save_ultralytics writes flip_idx [0, 1, 2 ...] to data.yaml, whatever symmetries the skeleton has. Where flip_idx is
# missing Ultralytics leaves flips out and says so; with this list half of the training pictures are mirrored and no
# joint changes its name, so that each eye, wing or paw is learnt as either. It should write the skeleton's own
# get_flipped_node_inds(), or nothing. Seen here for nose, left_eye and right_eye with the eyes a pair: [0, 1, 2] where
# the skeleton itself says [0, 2, 1], and Ultralytics' RandomFlip leaves the name of each eye with the other one.
# convert_annotations.py here finds pairs by their names and writes them; else put flip_idx right before training.
# Needs torch 2.14.1 and torchvision 0.29.1: python3's where they are these versions, else they are installed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check sleap-io==0.9.5 PyYAML==6.0.4
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder/libs" --no-deps \
    ultralytics==8.4.190 polars==2.1.0 polars-runtime-32==2.1.0
pinned="
import torch, torchvision
for each, pin in (torch, '2.14.1'), (torchvision, '0.29.1'):
    assert each.__version__.split('+')[0] == pin
"
python3 -c "import cv2, matplotlib, psutil, requests, yaml$pinned" 2>/dev/null ||
    python3 -m pip install --quiet --disable-pip-version-check --target "$folder/libs" \
        ultralytics==8.4.190 torch==2.14.1 torchvision==0.29.1 numpy==2.4.6
cat >"$folder/convert.py" <<'PY'
import json
import sys
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import sleap_io
import yaml

folder = Path(sys.argv[1])
imageio.imwrite(folder / "a.png", np.zeros((80, 100, 3), np.uint8))
person = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 1200, "bbox": [5, 10, 40, 60],
          "num_keypoints": 3, "keypoints": [25, 20, 2, 30, 15, 2, 20, 15, 2]}
names = ["nose", "left_eye", "right_eye"]
truth = {
    "images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 80}],
    "annotations": [person],
    "categories": [{"id": 1, "name": "person", "keypoints": names, "skeleton": [[1, 2], [1, 3]]}],
}
(folder / "coco.json").write_text(json.dumps(truth))


labels = sleap_io.load_file(str(folder / "coco.json"), format="coco")
labels.skeleton.add_symmetry("left_eye", "right_eye")
sleap_io.save_ultralytics(labels, str(folder / "yolo"), split_ratios={"train": 1.0}, verbose=False)
written = yaml.safe_load((folder / "yolo" / "data.yaml").read_text())["flip_idx"]
own = [int(index) for index in labels.skeleton.get_flipped_node_inds()]
print(f"sleap-io {sleap_io.__version__}: {names}, pairs {labels.skeleton.symmetry_names}")
print(f"flip_idx by the skeleton {own}, in data.yaml {written}")
assert own == [0, 2, 1] and written == [0, 1, 2], "the skeleton's pairs are written now"
(folder / "flip_idx.json").write_text(json.dumps(written))
PY
cat >"$folder/flip.py" <<'PY'
import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from ultralytics.data.augment import RandomFlip
from ultralytics.utils.instance import Instances

flip_idx = json.loads(Path(sys.argv[1], "flip_idx.json").read_text())
points = np.float32([[[25, 20, 2], [30, 15, 2], [20, 15, 2]]])  # seen from the front: the left eye is on the right
instances = Instances(np.float32([[25, 40, 40, 60]]), keypoints=points.copy(), bbox_format="xywh", normalized=False)
labels = {"img": np.zeros((80, 100, 3), np.uint8), "cls": np.zeros((1, 1)), "instances": instances}
flipped = RandomFlip(p=1.0, direction="horizontal", flip_idx=flip_idx)(labels)["instances"].keypoints[0]
print(f"ultralytics {version('ultralytics')}: left and right eye at x = {points[0, 1:, 0]}, mirrored {flipped[1:, 0]}")
assert flipped[1, 0] < flipped[2, 0], "left and right are exchanged now"
PY
"$folder/env/bin/python" "$folder/convert.py" "$folder"
YOLO_OFFLINE=true YOLO_CONFIG_DIR="$folder" PYTHONPATH="$folder/libs${PYTHONPATH:+:$PYTHONPATH}" PYTHONWARNINGS=ignore \
    python3 "$folder/flip.py" "$folder"
