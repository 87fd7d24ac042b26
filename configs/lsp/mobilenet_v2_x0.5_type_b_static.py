_base_ = "../_base_/lsp.py"
model = dict(
    backbone=dict(type="mobilenet_v2", width=0.5),
    head=dict(type="bottleneck"),
)
