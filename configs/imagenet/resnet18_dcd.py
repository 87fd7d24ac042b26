_base_ = "resnet18_static.py"
model = dict(backbone=dict(conv=dict(type="dcd", roles=["3x3"])))
