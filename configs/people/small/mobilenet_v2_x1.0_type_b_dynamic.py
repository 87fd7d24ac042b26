_base_ = "../../_base_/people_small.py"
model = dict(
    backbone=dict(conv=dict(type="dynamic", input_strides=[16, 32])),
    head=dict(conv=dict(type="dynamic")),
)
