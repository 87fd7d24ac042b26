_base_ = "mobilenet_v2_x0.35_static.py"
model = dict(backbone=dict(width=0.5))
