_base_ = "resnet18_static.py"
model = dict(backbone=dict(depth=50))
