_base_ = "../_base_/people.py"
model = dict(backbone=dict(conv=dict(type="dynamic")), head=dict(conv=dict(type="dynamic")))
