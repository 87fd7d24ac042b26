_base_ = "../_base_/coco.py"
model = dict(
    backbone=dict(type="mobilenet_v3_small"),
    head=dict(type="deconv"),
)
