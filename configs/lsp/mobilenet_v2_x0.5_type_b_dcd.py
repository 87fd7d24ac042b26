_base_ = "../_base_/lsp.py"
model = dict(
    backbone=dict(type="mobilenet_v2", width=0.5, conv=dict(type="dcd", reduction=8)),
    head=dict(type="bottleneck", conv=dict(type="dcd", reduction=8)),
)
