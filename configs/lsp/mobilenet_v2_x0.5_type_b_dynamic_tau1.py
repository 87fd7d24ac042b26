# Temperature 1 instead of the paper's 30: an attention that may choose one kernel from the first step on.
_base_ = "mobilenet_v2_x0.5_type_b_dynamic.py"
model = dict(backbone=dict(conv=dict(temperature=1.0)), head=dict(conv=dict(temperature=1.0)))
