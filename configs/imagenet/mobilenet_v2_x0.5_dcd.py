_base_ = "../_base_/imagenet.py"
model = dict(
    backbone=dict(
        type="mobilenet_v2",
        width=0.5,
        conv=dict(type="dcd", reduction=8, depthwise_reduction=6, roles=["expand", "project", "classifier"]),
    ),
    dropout=0.1,
)
train = dict(
    epochs=300,
    learning_rate=0.05,
    schedule="cosine",
    weight_decay=2e-5,
)
