_base_ = "../_base_/imagenet.py"
model = dict(backbone=dict(type="mobilenet_v2", width=0.35, conv=dict(type="dynamic")))
train = dict(
    epochs=300,
    learning_rate=0.05,
    schedule="cosine",
    weight_decay=4e-5,
    temperature_start=30.0,
    temperature_end=1.0,
    temperature_epochs=10,
)
