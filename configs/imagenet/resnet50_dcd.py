_base_ = "../_base_/imagenet.py"
model = dict(
    backbone=dict(type="resnet", depth=50, conv=dict(type="dcd", pool_size=1, roles=["reduce", "3x3", "restore"])),
    dropout=0.1,
)
train = dict(
    epochs=100,
    learning_rate=0.1,
    schedule="step",
    milestones=(30, 60, 90),
    gamma=0.1,
    weight_decay=1e-4,
)
