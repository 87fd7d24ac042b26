_base_ = "../_base_/imagenet.py"
model = dict(backbone=dict(type="resnet", depth=10, conv=dict(type="dynamic")))
train = dict(
    epochs=100,
    learning_rate=0.1,
    schedule="step",
    milestones=(30, 60, 90),
    gamma=0.1,
    weight_decay=1e-4,
    temperature_start=30.0,
    temperature_end=1.0,
    temperature_epochs=10,
)
