# People in any picture, COCO's 17 keypoints: five sets whose labels are by hand, by networks, or by both; 160 x 192.
# tools/split_dataset.py CONFIG writes what is chosen by; docs/custom_dataset.md says how a set is described.
data = dict(
    root="data/people",
    train=[
        dict(annotations="coco_train2017_found.json", images="train2017", weight=3.0, hold_out=30),
        dict(annotations="stanford40.json", images="stanford40", hold_out=140),
        dict(annotations="fashion.json", images="fashion", hold_out=30),
        dict(annotations="ccp.json", images="ccp", hold_out=30),
        dict(
            annotations="../lsp/person_keypoints_train.json",
            images="../lsp/images",
            skeleton="../lsp/skeleton.json",
            extra_joints="lsp_network_joints.json",  # the face, which Leeds Sports Pose lacks
            least_confidence=0.4,
            hold_out=120,
        ),
    ],
    val=dict(annotations="held_out.json", images=".", boxes="annotated"),
    test=dict(annotations="coco_val2017_dev.json", images="val2017"),
    input_size=(160, 192),
    crop_cache="crops",
    workers=1,
)
augmentation = dict(
    half_body_probability=0.3,
    scale_std=0.3,
    rotation_degrees=40.0,
    color_probability=0.5,
    blur_probability=0.1,
    erase_probability=0.2,
)
train = dict(
    epochs=12,
    batch_size=16,
    learning_rate=1.5e-3,
    schedule="cosine",
    warm_up=0.2,
    validate_every=2,
    average_decay=0.999,
    native=True,
)
test = dict(decode="dark")  # a quarter of a pixel is coarse on heatmaps of 40 x 48
model = dict(
    backbone=dict(type="mobilenet_v2", width=1.0),
    head=dict(type="bottleneck", stages=((256, 128, 1), (256, 64, 1), (128, 48, 1)), kernel_size=5),
)
