# A small dynamic-convolution network on drawn people: minutes on two CPU cores, nothing to download.
data = dict(
    root="work_dirs/quickstart/data",
    val=dict(boxes="annotated"),
    input_size=(96, 128),
    workers=0,
)
augmentation = dict(half_body_probability=0.0, scale_std=0.15, rotation_degrees=20.0)
train = dict(epochs=12, batch_size=16, learning_rate=2e-3, milestones=(9, 11), validate_every=2)
test = dict(decode="dark")  # a quarter of a pixel is coarse on heatmaps of 24 x 32
model = dict(
    backbone=dict(
        type="mobilenet_v2",
        width=0.35,
        conv=dict(type="dynamic"),
        out_stride=16,  # a 32nd of 128 x 96 would leave 4 x 3 places to look at
        last_channels=128,
    ),
    head=dict(type="bottleneck", conv=dict(type="dynamic"), stages=((192, 64, 1), (128, 48, 1)), kernel_size=3),
)
