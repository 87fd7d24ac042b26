_base_ = "../_base_/coco.py"
model = dict(
    backbone=dict(type="resnet", depth=50),
    head=dict(type="deconv"),
)
