_base_ = "../_base_/people.py"
model = dict(backbone=dict(width=0.5))
