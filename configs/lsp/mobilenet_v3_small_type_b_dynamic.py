_base_ = "../_base_/lsp.py"
model = dict(
    backbone=dict(type="mobilenet_v3_small", conv=dict(type="dynamic")),
    head=dict(type="bottleneck", conv=dict(type="dynamic")),
)
