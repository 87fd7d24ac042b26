_base_ = "../_base_/lsp.py"
model = dict(
    backbone=dict(type="mobilenet_v3_small"),
    head=dict(type="bottleneck"),
)
