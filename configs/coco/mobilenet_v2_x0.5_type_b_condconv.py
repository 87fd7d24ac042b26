_base_ = "../_base_/coco.py"
model = dict(
    backbone=dict(type="mobilenet_v2", width=0.5, conv=dict(type="condconv")),
    head=dict(type="bottleneck", conv=dict(type="condconv")),
)
