# What tools/compare.py trains alike: one epoch from base_static at 128 x 96, its stem and first seven blocks as they
# are. The dynamic layers lie from stride 16 on and in the head, as in the base that ships.
_base_ = "people.py"
data = dict(input_size=(96, 128), crop_cache="crops_128x96", workers=0)
train = dict(
    epochs=1,
    learning_rate=1e-3,
    warm_up=0.08,
    validate_every=1,
    initial_weights="base_static",
    initial_noise=0.05,
    frozen=("backbone.stem", "backbone.blocks.[0-6]"),
    temperature_start=30.0,
    temperature_end=1.0,
    temperature_epochs=1,
)
test = dict(native=True)
