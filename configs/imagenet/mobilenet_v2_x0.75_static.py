_base_ = "mobilenet_v2_x0.35_static.py"
model = dict(backbone=dict(width=0.75), dropout=0.1)
train = dict(label_smoothing=0.1)
