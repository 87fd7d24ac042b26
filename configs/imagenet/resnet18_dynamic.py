_base_ = "resnet10_dynamic.py"
model = dict(backbone=dict(depth=18), dropout=0.1)
