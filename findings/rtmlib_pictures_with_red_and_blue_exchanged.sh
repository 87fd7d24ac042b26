#!/usr/bin/env bash
# rtmlib 0.0.16 (onnxruntime 1.23.2, mmpose 1.3.2): RTMPose is given blue where it was trained with red.
# Its README reads pictures by cv2.imread, so as BGR, and its class RTMPose normalizes the channels as they come, by the
# mean and deviation of RGB. mmpose trains RTMPose in RGB: all of its configurations say bgr_to_rgb=True. Other pose
# networks of rtmlib are not shown here. Nothing fails; its issue 48 tells of a lower AP. Pictures in RGB are no way out
# for Body and its kin, whose detector YOLOX was trained in BGR (not shown): call the detector with one and the pose
# network with the other.
# Seen here, a pure blue picture: the network's first channel, red, has (255 - 123.675) / 58.395 = 2.25, the third,
# blue, -1.80; by mmpose's configuration they should be -2.12 and 2.64.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
    rtmlib==0.0.16 onnxruntime==1.23.2 onnx==1.19.1 opencv-contrib-python==4.12.0.88 opencv-python==4.12.0.88
"$folder/env/bin/pip" install --quiet --disable-pip-version-check --no-deps --target "$folder/mmpose" mmpose==1.3.2
cat >"$folder/show.py" <<'PY'
import runpy
import sys
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from rtmlib import RTMPose

folder = Path(sys.argv[1])
SIZE = (256, 192)


def network_that_tells_its_input(path):
    """A network whose three 'joints' have the means of its input's channels as scores, for whatever is given to it."""
    bins = {axis: np.ones((1, 3, count), np.float32) for axis, count in (("x", 384), ("y", 512))}
    constants = {"places": np.int64([1, 3, 1]), **bins}
    nodes = [helper.make_node("ReduceMean", ["image"], ["means"], axes=[2, 3], keepdims=0),
             helper.make_node("Reshape", ["means", "places"], ["column"]),
             *(helper.make_node("Mul", ["column", axis], [f"simcc_{axis}"]) for axis in "xy")]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, *SIZE])
    outputs = [helper.make_tensor_value_info(f"simcc_{axis}", TensorProto.FLOAT, bins[axis].shape) for axis in "xy"]
    initial = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "means", [image], outputs, initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return str(path)


configurations = sorted(folder.glob("mmpose/mmpose/.mim/configs/**/rtmpose-*.py"))
trained = [runpy.run_path(str(path))["model"]["data_preprocessor"] for path in configurations]
in_rgb = [each for each in trained if each["bgr_to_rgb"] and each["mean"] == [123.675, 116.28, 103.53]]
blue = np.zeros((200, 150, 3), np.uint8)
blue[:, :, 0] = 255  # OpenCV's order: blue, green, red
cv2.imwrite(str(folder / "blue.png"), blue)
pose = RTMPose(network_that_tells_its_input(folder / "means.onnx"), model_input_size=SIZE[::-1], device="cpu")
_, scores = pose(cv2.imread(str(folder / "blue.png")), bboxes=[[50, 60, 100, 130]])
given = scores[0]
wanted = (np.array([0, 0, 255]) - trained[0]["mean"]) / trained[0]["std"]
print(f"rtmlib {version('rtmlib')}; {len(in_rgb)} of mmpose's {len(trained)} RTMPose configurations are trained in RGB")
print(f"a blue picture as the network gets it: {given.round(2)}; as it was trained: {wanted.round(2)}")
assert len(trained) > 30 and len(in_rgb) == len(trained), "not all were trained in RGB"
assert given[0] > 2 and given[2] < -1, "channels come in the trained order now"
PY
"$folder/env/bin/python" "$folder/show.py" "$folder"
