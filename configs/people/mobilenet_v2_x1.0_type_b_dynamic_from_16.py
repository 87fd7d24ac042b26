# Dynamic where little of an image is left: from the backbone's layers at stride 16 on, and in the head.
_base_ = "../_base_/people_from_static.py"
augmentation = dict(blur_probability=0.25, blur_sigma=3.0)
train = dict(epochs=3, validate_every=3, temperature_epochs=3)
model = dict(
    backbone=dict(conv=dict(type="dynamic", input_strides=[16, 32])),
    head=dict(conv=dict(type="dynamic")),
)
