_base_ = "mobilenet_v2_x0.35_static.py"
model = dict(
    backbone=dict(conv=dict(type="dcd", reduction=8, depthwise_reduction=6, roles=["expand", "project", "classifier"])),
    dropout=0.1,
)
train = dict(weight_decay=2e-5)
