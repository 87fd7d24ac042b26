_base_ = "../_base_/lsp.py"
model = dict(
    backbone=dict(type="mobilenet_v2", width=1.0),
    head=dict(type="bottleneck"),
)
