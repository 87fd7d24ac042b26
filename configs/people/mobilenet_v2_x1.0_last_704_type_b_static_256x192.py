# Static, with 704 instead of 1280 channels in the backbone's last layer: what the weights `small` are of, which are
# smaller than MoveNet Lightning. data/weights/README.md says what they went on from.
_base_ = "../_base_/people_everyday.py"
train = dict(epochs=1, learning_rate=5e-4, initial_weights="small")
model = dict(backbone=dict(last_channels=704))
