#!/usr/bin/env bash
# torch 2.14.1 (onnxscript 0.7.2, onnxruntime 1.32.0): asked for a free batch, torch.onnx.export writes a batch of one.
# A layer whose kernel is computed from the picture often has code for one image at a time. Given a sample of one image
# and a batch declared free, the export with dynamo=True succeeds and shows green ticks. With {0: "batch"} the file
# says that its batch is free and fails in the runtime at three images, inside the graph; with {0: Dim("batch")} it says
# 1, as if nothing had been asked for. With a sample of two images the same call is refused, as it should be each time.
# So export with a sample of two images or more, and run the file at several sizes: this project proves 1, 3 and 8.
# Needs torch: python3's where it is 2.14.1, else that is installed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder/libs" --no-deps \
    onnxscript==0.7.2 onnx_ir==1.1.0 onnx==1.23.2 onnxruntime==1.32.0 ml_dtypes==0.6.0 protobuf==7.36.2 \
    flatbuffers==25.12.19 packaging==26.4 typing_extensions==4.16.0
python3 -c "import torch; assert torch.__version__.split('+')[0] == '2.14.1'" 2>/dev/null ||
    python3 -m pip install --quiet --disable-pip-version-check \
        --target "$folder/libs" torch==2.14.1 numpy==2.4.6
cat >"$folder/show.py" <<'PY'
import logging
import sys
from pathlib import Path

import onnx
import onnxruntime
import torch
from torch import nn
from torch.nn import functional as F

folder = Path(sys.argv[1])
onnxruntime.set_default_logger_severity(4)
logging.disable(logging.ERROR)


class Mixed(nn.Module):
    """A convolution whose kernel is a mixture of four, of one image."""

    def __init__(self):
        super().__init__()
        self.attention = nn.Linear(8, 4)
        self.bank = nn.Parameter(torch.randn(4, 8 * 8 * 9) / 8)

    def forward(self, x):
        shares = self.attention(x.mean((2, 3))).softmax(1)
        return F.conv2d(x, (shares @ self.bank).view(8, 8, 3, 3), padding=1)


def outcome(images, batch):
    """What an export with a sample of so many ``images`` gives: the batch that the file says, and what runs."""
    network, path = Mixed().eval(), folder / "mixed.onnx"
    sample = torch.randn(images, 8, 6, 6)
    options = {"dynamo": True, "input_names": ["x"], "dynamic_shapes": {"x": {0: batch}}, "verbose": False}
    try:
        torch.onnx.export(network, (sample,), path, **options)
    except torch.onnx.OnnxExporterError as error:
        return type(error).__name__, None
    said = onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0]
    session, runs = onnxruntime.InferenceSession(path), []
    for count in (1, 3):
        try:
            session.run(None, {"x": torch.randn(count, 8, 6, 6).numpy()})
            runs.append(count)
        except Exception as error:
            print(f"   {count} images: {str(error).splitlines()[0][:110]} ...")
    return said.dim_param or said.dim_value, runs


torch.manual_seed(0)
print(f"torch {torch.__version__}")
seen = {}
for images in (1, 2):
    for name, batch in (('"batch"', "batch"), ('Dim("batch")', torch.export.Dim("batch"))):
        seen[images, name] = outcome(images, batch)
        said, runs = seen[images, name]
        what = f"refused, {said}" if runs is None else f"batch {said}, runs with {runs}"
        print(f"sample of {images}, {name}: {what}")
assert seen[1, '"batch"'] == ("batch", [1]), "a free batch of one image is refused, or right, now"
assert seen[1, 'Dim("batch")'] == (1, [1]), "Dim is refused, or right, now"
assert all(seen[2, name][1] is None for name in ('"batch"', 'Dim("batch")')), "a sample of two is not refused now"
PY
PYTHONPATH="$folder/libs${PYTHONPATH:+:$PYTHONPATH}" PYTHONWARNINGS=ignore python3 "$folder/show.py" "$folder"
