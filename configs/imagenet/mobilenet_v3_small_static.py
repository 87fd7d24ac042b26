_base_ = "../_base_/imagenet.py"
model = dict(backbone=dict(type="mobilenet_v3_small"), dropout=0.2)
train = dict(
    epochs=300,
    learning_rate=0.1,
    schedule="cosine",
    weight_decay=3e-5,
)
