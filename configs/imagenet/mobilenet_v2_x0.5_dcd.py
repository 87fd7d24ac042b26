_base_ = "mobilenet_v2_x0.35_dcd.py"
model = dict(backbone=dict(width=0.5))
