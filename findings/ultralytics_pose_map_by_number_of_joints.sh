#!/usr/bin/env bash
# ultralytics 8.4.190 (torch 2.14.1): mAP of poses goes by the number of joints, and persons without labels count.
# Unless a data file has kpt_oks_sigmas, every joint's sigma is 1 / number of joints; COCO's are taken for any 17 joints
# in three columns, whatever they are. So few joints are forgiven almost everything and many nothing, and neither
# figure can be held beside COCO's, or beside another skeleton's. And a person with a box whose joints are all
# unlabelled, which COCO's scoring ignores, counts as missed, and the pose found there as false.
# Seen here, persons of 100 x 100 pixels, every joint 10 pixels off: Pose mAP50-95 .995 with 4 joints, .796 with 8, .100
# with 16, 0 with 32; perfect answers .995, and .559 where 5 of 20 persons have no joint labelled. score_results.py here
# scores any program's results by COCO's rules. Needs torch and torchvision 0.29.1: python3's where they are these
# versions, else they are installed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
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
cat >"$folder/show.py" <<'PY'
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import torch
from ultralytics.models.yolo.pose.val import PoseValidator

SIDE, LOW, SIZE = 640, 200, 100


def pose_map(joints, off, unlabelled=0):
    """Pose mAP50-95 of 20 images with a person each: the box is right, every joint ``off`` pixels to the right."""
    validator = PoseValidator(save_dir=Path(sys.argv[1]), args={"plots": False, "save_json": False})
    validator.training, validator.device = True, torch.device("cpu")
    validator.data = {"kpt_shape": [joints, 3], "val": ""}
    validator.init_metrics(SimpleNamespace(names={0: "person"}))
    draw = torch.Generator().manual_seed(0)
    box = torch.tensor([[LOW, LOW, LOW + SIZE, LOW + SIZE]], dtype=torch.float32)
    for image in range(20):
        points = torch.cat([LOW + SIZE * torch.rand(joints, 2, generator=draw), torch.full((joints, 1), 2.0)], 1)
        label = points / torch.tensor([SIDE, SIDE, 1]) if image >= unlabelled else torch.zeros(joints, 3)
        middle = torch.tensor([[LOW + SIZE / 2, LOW + SIZE / 2, SIZE, SIZE]]) / SIDE
        batch = {
            "batch_idx": torch.zeros(1), "cls": torch.zeros(1, 1), "bboxes": middle, "keypoints": label[None],
            "ori_shape": [(SIDE, SIDE)], "img": torch.zeros(1, 3, SIDE, SIDE), "ratio_pad": [((1, 1), (0, 0))],
            "im_file": [f"{image}.jpg"],
        }
        found = points + torch.tensor([off, 0, 0])
        person = {"bboxes": box, "conf": torch.tensor([0.9]), "cls": torch.zeros(1), "keypoints": found[None]}
        validator.update_metrics([person], batch)
    return float(validator.get_stats()["metrics/mAP50-95(P)"])


print(f"ultralytics {version('ultralytics')}")
by_joints = {joints: pose_map(joints, off=10) for joints in (4, 8, 16, 32)}
print("every joint a tenth of the person off:", {f"{joints} joints": round(ap, 3) for joints, ap in by_joints.items()})
all_labelled, some = pose_map(17, off=0), pose_map(17, off=0, unlabelled=5)
print(f"perfect answers: {all_labelled:.3f}; where 5 of 20 persons have no labelled joint: {some:.3f}")
assert by_joints[4] > 0.9 and by_joints[32] < 0.1, "the number of joints does not decide now"
assert all_labelled > 0.99 and some < 0.8, "persons without labelled joints are ignored now"
PY
YOLO_OFFLINE=true YOLO_CONFIG_DIR="$folder" PYTHONPATH="$folder/libs${PYTHONPATH:+:$PYTHONPATH}" PYTHONWARNINGS=ignore \
    python3 "$folder/show.py" "$folder"
