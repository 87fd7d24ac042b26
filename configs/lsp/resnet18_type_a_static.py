_base_ = "../_base_/lsp.py"
model = dict(
    backbone=dict(type="resnet", depth=18),
    head=dict(type="deconv"),
)
