# What goes on from base_static, whose stem and first seven blocks stay as they are; kernels that become dynamic are
# copies of the static ones, parted by noise.
_base_ = "people.py"
train = dict(
    learning_rate=1e-3,
    warm_up=0.08,
    initial_weights="base_static",
    initial_noise=0.05,
    frozen=("backbone.stem", "backbone.blocks.[0-6]"),
    temperature_start=30.0,
    temperature_end=1.0,
)
