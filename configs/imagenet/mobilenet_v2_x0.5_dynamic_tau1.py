# DY-CNN, Table 6: near one-hot from the start.
_base_ = "mobilenet_v2_x0.5_dynamic.py"
train = dict(temperature_start=None)
model = dict(backbone=dict(conv=dict(temperature=1.0)))
