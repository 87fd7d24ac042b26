_base_ = "mobilenet_v2_x0.35_static.py"
model = dict(backbone=dict(width=1.0), dropout=0.2)
train = dict(label_smoothing=0.1, mixup=0.2)
