_base_ = "resnet50_static.py"
model = dict(
    backbone=dict(conv=dict(type="dcd", pool_size=1, roles=["reduce", "3x3", "restore"])),
    dropout=0.1,
)
