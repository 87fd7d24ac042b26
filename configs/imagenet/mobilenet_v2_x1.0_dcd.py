_base_ = "mobilenet_v2_x0.35_dcd.py"
model = dict(backbone=dict(width=1.0, conv=dict(reduction=16)))
train = dict(label_smoothing=0.1, mixup=0.2, mixup_epochs=100)
