_base_ = "../_base_/coco.py"
model = dict(
    backbone=dict(type="mobilenet_v2", width=1.0),
    head=dict(type="deconv"),
)
