# Dynamic where little of an image is left: from the backbone's layers at stride 16 on, and in the head. It starts from
# the static network's weights, of which the stem and the first seven blocks stay as they are.
_base_ = "../_base_/people.py"
augmentation = dict(blur_probability=0.25, blur_sigma=3.0)
train = dict(
    epochs=3,
    learning_rate=1e-3,
    warm_up=0.08,
    validate_every=3,
    initial_weights="base_static",
    initial_noise=0.05,
    frozen=("backbone.stem", "backbone.blocks.[0-6]"),
    temperature_start=30.0,
    temperature_end=1.0,
    temperature_epochs=3,
)
model = dict(
    backbone=dict(conv=dict(type="dynamic", input_strides=[16, 32])),
    head=dict(conv=dict(type="dynamic")),
)
