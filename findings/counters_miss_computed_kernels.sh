#!/usr/bin/env bash
# thop 0.1.1.post2209072238, torchinfo 1.8.0, ptflops 0.7.5 (torch 2.14.1): computed kernels count as almost free.
# They count modules, and a convolution whose kernel depends on the picture is a call of F.conv2d inside one: its
# multiply-adds are left out without a word, and tables of 'a better network at fewer operations' are made that way.
# fvcore 0.1.5.post20221221, torch's own FlopCounterMode and ptflops with backend='aten' count calls, and have them.
# Seen here, one layer of 32 x 32 x 3 x 3 at 32 x 24 pixels: 7,077,888 multiply-adds with a constant kernel by all six;
# with a mixture of four kernels 128, 132 and 132 by the first three, 7,114,880 or a few more by the others.
# This project counts with tools/complexity.py. Needs torch: python3's where it is 2.14.1, else that is installed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder/libs" --no-deps \
    thop==0.1.1.post2209072238 torchinfo==1.8.0 ptflops==0.7.5 fvcore==0.1.5.post20221221 iopath==0.1.10 \
    tabulate==0.10.0 termcolor==3.3.0 portalocker==4.4.2 PyYAML==6.0.4 tqdm==4.70.1 yacs==0.1.8 pillow==13.0.0 \
    setuptools==84.2.1
python3 -c "import torch; assert torch.__version__.split('+')[0] == '2.14.1'" 2>/dev/null ||
    python3 -m pip install --quiet --disable-pip-version-check \
        --target "$folder/libs" torch==2.14.1 numpy==2.4.6
cat >"$folder/show.py" <<'PY'
import logging
import warnings

import ptflops
import thop
import torch
import torchinfo
from fvcore.nn import FlopCountAnalysis
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)


class Mixed(nn.Module):
    """A convolution whose kernel is a mixture of four by attention, as in CondConv, dynamic convolution and ODConv."""

    def __init__(self):
        super().__init__()
        self.attention = nn.Linear(32, 4)
        self.bank = nn.Parameter(torch.randn(4, 32 * 32 * 9))

    def forward(self, x):
        shares = self.attention(x.mean((2, 3))).softmax(1)
        return F.conv2d(x, (shares @ self.bank).view(32, 32, 3, 3), padding=1)


def counts(network):
    """Multiply-adds by each counter."""
    image = torch.randn(1, 32, 24, 32)
    size, options = tuple(image.shape[1:]), {"as_strings": False, "print_per_layer_stat": False}
    with FlopCounterMode(display=False) as called:
        network(image)
    return {
        "thop": thop.profile(network, (image,), verbose=False)[0],
        "torchinfo": torchinfo.summary(network, input_data=image, verbose=0).total_mult_adds,
        "ptflops": ptflops.get_model_complexity_info(network, size, **options)[0],
        "ptflops, aten": ptflops.get_model_complexity_info(network, size, backend="aten", **options)[0],
        "fvcore": FlopCountAnalysis(network, image).total(),
        "torch": called.get_total_flops() / 2,
    }


torch.manual_seed(0)
static, mixed = counts(nn.Conv2d(32, 32, 3, padding=1, bias=False).eval()), counts(Mixed().eval())
print(f"torch {torch.__version__}")
for name in static:
    print(f"{name:13} constant kernel {static[name]:9,.0f}, computed kernel {mixed[name]:9,.0f}")
convolution = 32 * 32 * 9 * 24 * 32
assert set(static.values()) == {convolution}, "a constant convolution is counted otherwise"
assert all(mixed[name] < 1000 for name in ("thop", "torchinfo", "ptflops")), "computed convolutions are counted now"
assert all(mixed[name] >= convolution for name in ("ptflops, aten", "fvcore", "torch")), "others miss them, too"
PY
PYTHONPATH="$folder/libs${PYTHONPATH:+:$PYTHONPATH}" PYTHONWARNINGS=ignore python3 "$folder/show.py"
