_base_ = "../_base_/coco.py"
model = dict(
    backbone=dict(type="mobilenet_v2", width=0.5),
    head=dict(type="deconv"),
)
