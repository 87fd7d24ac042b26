#!/usr/bin/env bash
# pnnx 20261020: a linear layer without bias whose module has two names in its parent becomes another computation.
# In PyTorch a module under two names is ordinary (tied weights; a wrapper that keeps a shortcut to a part of what it
# wraps), and torch.jit.trace keeps it. pnnx gives the layer its own weight as the input and adds the input to what
# comes out, without a word; it should write the layer. Seen here: with one name 8 values that differ from PyTorch by
# 3e-8, with two names 64 values in place of 8; where shapes hide it, numbers that are wrong by their own size. This
# project names no module twice in what it gives to pnnx, and compares every file in ncnn before it gets its name.
# Needs torch: python3's where it is 2.14.1, else that is installed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder/libs" \
    --no-deps ncnn==1.0.20261020 pnnx==20261020
python3 -c "import torch; assert torch.__version__.split('+')[0] == '2.14.1'" 2>/dev/null ||
    python3 -m pip install --quiet --disable-pip-version-check \
        --target "$folder/libs" torch==2.14.1 numpy==2.4.6
cat >"$folder/show.py" <<'PY'
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import ncnn
import numpy as np
import pnnx
import torch
from torch import nn

folder = Path(sys.argv[1])


class Gate(nn.Module):
    def __init__(self, names):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1)
        self.inner = nn.Module()
        self.inner.linear = nn.Linear(8, 8, bias=False)
        if names == 2:
            self.linear = self.inner.linear

    def forward(self, x):
        return self.inner.linear(self.first(x).mean((2, 3)))


def in_ncnn(network, x, stem):
    torch.jit.trace(network, x).save(str(folder / f"{stem}.pt"))
    options = [f"{key}={folder / f'{stem}.{key}'}" for key in ("ncnnparam", "ncnnbin")]
    command = [pnnx.EXEC_PATH, str(folder / f"{stem}.pt"), "inputshape=[1,3,4,4]f32", "fp16=0", *options]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    net = ncnn.Net()
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = net.opt.use_bf16_storage = False
    net.load_param(str(folder / f"{stem}.ncnnparam"))
    net.load_model(str(folder / f"{stem}.ncnnbin"))
    extractor = net.create_extractor()
    extractor.input("in0", ncnn.Mat(np.ascontiguousarray(x[0].numpy())).clone())
    _, answer = extractor.extract("out0")
    return np.array(answer)


torch.manual_seed(0)
x = torch.randn(1, 3, 4, 4)
print(f"pnnx {version('pnnx')}, ncnn {version('ncnn')}, torch {torch.__version__}")
differences = {}
for names in (1, 2):
    network = Gate(names).eval()
    with torch.no_grad():
        wanted = network(x).numpy().ravel()
        found = in_ncnn(network, x, f"names{names}").ravel()
    same = found.shape == wanted.shape
    differences[names] = float(np.abs(found - wanted).max()) if same else float("inf")
    print(f"the module has {names} name(s): {found.size} of {wanted.size} values, differing by {differences[names]:.2g}")
    layers = (folder / f"names{names}.ncnnparam").read_text().splitlines()[2:]
    print("   ", *dict.fromkeys(line.split()[0] for line in layers))
assert differences[1] < 1e-3, "one name does not work either"
assert differences[2] > 1e-2, "two names are computed rightly now"
PY
PYTHONPATH="$folder/libs${PYTHONPATH:+:$PYTHONPATH}" python3 "$folder/show.py" "$folder"
