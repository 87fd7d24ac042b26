# The same network at 256 x 192 on eleven sets: what the weights `base` are of. data/weights/README.md says more.
_base_ = "../_base_/people_everyday.py"
train = dict(epochs=1, learning_rate=5e-4, initial_weights="base", temperature_start=2.0, temperature_end=2.0)
model = dict(
    backbone=dict(conv=dict(type="dynamic", input_strides=[16, 32])),
    head=dict(conv=dict(type="dynamic")),
)
