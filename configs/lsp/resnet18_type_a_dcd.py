_base_ = "../_base_/lsp.py"
model = dict(
    backbone=dict(type="resnet", depth=18, conv=dict(type="dcd", reduction=16)),
    head=dict(type="deconv"),
)
