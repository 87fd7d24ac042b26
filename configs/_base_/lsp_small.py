# Leeds Sports Pose at 128 x 96 with a narrow head: what two CPU cores can train in an evening.
_base_ = "lsp.py"
data = dict(input_size=(96, 128), workers=0)
augmentation = dict(half_body_probability=0.0, scale_std=0.25, rotation_degrees=40.0)
train = dict(epochs=24, batch_size=16, learning_rate=2e-3, milestones=(18, 22), validate_every=2)
test = dict(decode="dark")  # a quarter of a pixel is coarse on heatmaps of 24 x 32
model = dict(
    backbone=dict(
        type="mobilenet_v2",
        width=0.5,
        out_stride=16,  # a 32nd of 128 x 96 would leave 4 x 3 places to look at
        last_channels=128,
    ),
    head=dict(type="bottleneck", stages=((192, 64, 1), (128, 48, 1)), kernel_size=3),
)
