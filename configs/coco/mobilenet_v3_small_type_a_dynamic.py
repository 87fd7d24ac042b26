_base_ = "../_base_/coco.py"
model = dict(
    backbone=dict(type="mobilenet_v3_small", conv=dict(type="dynamic")),
    head=dict(type="deconv"),
)
