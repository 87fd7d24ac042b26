_base_ = "../_base_/lsp.py"
model = dict(
    backbone=dict(type="resnet", depth=18, conv=dict(type="dynamic")),
    head=dict(type="deconv"),
)
