#!/usr/bin/env bash
# rtmlib 0.0.16 (onnxruntime 1.23.2): an image in which its detector finds nobody gets a skeleton all the same.
# RTMPose and its siblings take an empty list of boxes as "no boxes were given" and use the whole image as a person, and
# Custom, Body and Wholebody pass the detector's empty list on. So every image without people has a person in a results
# file, with joint scores that no detector stands behind, and false positives that cost AP and cannot be told from finds.
# Seen here: a detector that answers no box above its threshold, and (1, 17, 2) keypoints of the pose network.
# This project's Predictor returns no person; compare with rtmlib by calling its detector first and leaving such images.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
    rtmlib==0.0.16 onnxruntime==1.23.2 onnx==1.19.1 opencv-contrib-python==4.12.0.88 opencv-python==4.12.0.88
cat >"$folder/show.py" <<'PY'
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from rtmlib import Custom

folder = Path(sys.argv[1])


def constant_network(path, size, answers):
    """A network that answers the same for every image (1, 3, H, W)."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, *size])
    nodes = [helper.make_node("ReduceMax", ["image"], ["top"], keepdims=0),
             helper.make_node("Constant", [], ["none"], value=numpy_helper.from_array(np.float32(0))),
             helper.make_node("Mul", ["top", "none"], ["zero"])]
    outputs = []
    for name, values in answers.items():
        nodes.append(helper.make_node("Constant", [], [f"{name}_0"], value=numpy_helper.from_array(values)))
        nodes.append(helper.make_node("Add", [f"{name}_0", "zero"], [name]))
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, values.shape))
    graph = helper.make_graph(nodes, "constant", [image], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return str(path)


unsure = np.float32([[[10, 10, 50, 90, 0.05]]])  # x1, y1, x2, y2, score: below every threshold
detector = constant_network(folder / "detector.onnx", (64, 64), {"dets": unsure})
bins = np.random.default_rng(0).random((2, 1, 17, 512), np.float32)
simcc = {"simcc_x": bins[0, :, :, :384], "simcc_y": bins[1]}
pose = constant_network(folder / "pose.onnx", (256, 192), simcc)
both = Custom(det_class="YOLOX", det=detector, det_input_size=(64, 64), pose_class="RTMPose", pose=pose,
              pose_input_size=(192, 256), device="cpu")
image = np.zeros((120, 160, 3), np.uint8)
boxes = both.det_model(image)
keypoints, scores = both(image)
print(f"rtmlib {version('rtmlib')}: {len(boxes)} boxes detected, keypoints {keypoints.shape}, least score {scores.min():.2f}")
assert len(boxes) == 0 and keypoints.shape == (1, 17, 2), "an image without persons has none now"
PY
"$folder/env/bin/python" "$folder/show.py" "$folder"
