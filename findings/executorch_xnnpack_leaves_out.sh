#!/usr/bin/env bash
# executorch 1.5.1 (torch 2.14.1): of two ways to write the same its XNNPACK delegate takes one and leaves one out.
# What it leaves goes to portable kernels, plain loops, and neither the export nor the run says so: one such convolution
# can take longer than the rest of a network. Seen here, parts of pose networks exported alone, and what was left out:
#   a convolution whose kernel is computed, or is a part of a constant (bank[0]), but not one with its own constant;
#   a mean over rows and columns, but not with keepdim=True, nor adaptive_avg_pool2d;
#   the product of two dimensions whose second matrix is computed, the first being computed or constant, but not
#   `computed @ constant`, nor bmm (of `@` in three dimensions, its expansion alone);
#   split and chunk, but not slices of the same channels;
#   interpolate by 'nearest' (HRNet's fusions), but not by 'bilinear'.
# This project writes its dynamic layers in the ways that are taken (pose/export/forms.py).
# Needs torch: python3's where it is 2.14.1, else that is installed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder/libs" --no-deps \
    executorch==1.5.1 torchao==0.18.0 flatbuffers==25.12.19 tabulate==0.10.0 ruamel.yaml==0.19.1 parameterized==0.9.0 \
    expecttest==0.3.0 PyYAML==6.0.4 packaging==26.4 typing_extensions==4.16.0 kgb==7.3
python3 -c "import torch; assert torch.__version__.split('+')[0] == '2.14.1'" 2>/dev/null ||
    python3 -m pip install --quiet --disable-pip-version-check \
        --target "$folder/libs" torch==2.14.1 numpy==2.4.6 pandas==3.1.1
cat >"$folder/show.py" <<'PY'
import logging
from importlib.metadata import version

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from torch import nn
from torch.nn import functional as F

logging.disable(logging.WARNING)
torch.manual_seed(0)


class Part(nn.Module):
    def __init__(self, function, **constants):
        super().__init__()
        self.function = function
        for name, value in constants.items():
            self.register_buffer(name, value)

    def forward(self, *inputs):
        return self.function(self, *inputs)


def left_out(function, *inputs, **constants):
    """The kernels that the written program calls outside the delegate, copies between memory layouts aside."""
    exported = torch.export.export(Part(function, **constants).eval(), inputs, strict=True)
    program = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
    names = {each.name.removeprefix("aten::") for each in program.executorch_program.execution_plan[0].operators}
    return sorted(name for name in names if "dim_order" not in name)


x, kernel, bank = torch.randn(1, 8, 6, 6), torch.randn(8, 8, 3, 3), torch.randn(4, 8, 8, 3, 3)
a, b = torch.randn(1, 8, 16), torch.randn(1, 16, 4)
seen = {
    "convolution, its own constant": left_out(lambda net, x: F.conv2d(x, net.kernel, padding=1), x, kernel=kernel),
    "convolution, a part of a constant": left_out(lambda net, x: F.conv2d(x, net.bank[0], padding=1), x, bank=bank),
    "convolution, computed kernel": left_out(lambda net, x, kernel: F.conv2d(x, kernel * 2, padding=1), x, kernel),
    "mean, keepdim": left_out(lambda net, x: x.mean((2, 3), keepdim=True), x),
    "adaptive_avg_pool2d": left_out(lambda net, x: F.adaptive_avg_pool2d(x, 1), x),
    "mean": left_out(lambda net, x: x.mean((2, 3)), x),
    "bmm": left_out(lambda net, a, b: torch.bmm(a, b), a, b),
    "@ of three dimensions": left_out(lambda net, a, b: a @ b, a, b),
    "@ of two, computed @ computed": left_out(lambda net, a, b: a @ b, a[0], b[0]),
    "@ of two, constant @ computed": left_out(lambda net, b: net.a @ b, b[0], a=a[0]),
    "@ of two, computed @ constant": left_out(lambda net, a: a @ net.b, a[0], b=b[0]),
    "slices": left_out(lambda net, x: torch.cat([x[:, :4] * 2, x[:, 4:] * 3], 1), x),
    "split": left_out(lambda net, x: torch.cat([part * 2 for part in x.split(4, 1)], 1), x),
    "chunk": left_out(lambda net, x: torch.cat([part * 2 for part in x.chunk(2, 1)], 1), x),
    "interpolate, bilinear": left_out(lambda net, x: F.interpolate(x * 2, scale_factor=2, mode="bilinear") + 1, x),
    "interpolate, nearest": left_out(lambda net, x: F.interpolate(x * 2, scale_factor=2, mode="nearest") + 1, x),
}
print(f"executorch {version('executorch')}, torch {torch.__version__}")
for name, kernels in seen.items():
    print(f"{name:34} left out: {', '.join(kernels) or 'nothing'}")
taken = ("convolution, its own constant", "mean, keepdim", "adaptive_avg_pool2d", "bmm", "slices")
taken += ("@ of two, computed @ constant", "interpolate, bilinear")
expected = {
    "convolution, a part of a constant": ["convolution", "select_copy"],
    "convolution, computed kernel": ["convolution"],
    "mean": ["mean"],
    "@ of three dimensions": ["expand_copy"],
    "@ of two, computed @ computed": ["mm"],
    "@ of two, constant @ computed": ["mm"],
    "split": ["split_with_sizes_copy"],
    "chunk": ["split_with_sizes_copy"],
    "interpolate, nearest": ["upsample_nearest2d"],
} | {name: [] for name in taken}
assert seen == expected, "the delegate takes other things now"
PY
PYTHONPATH="$folder/libs${PYTHONPATH:+:$PYTHONPATH}" PYTHONWARNINGS=ignore python3 "$folder/show.py"
