# The same network at 256 x 192 on seven sets: what the weights `base` are of. data/weights/README.md says what the last
# two sets are and how a network labelled them, and in which steps it was trained.
_base_ = "mobilenet_v2_x1.0_type_b_dynamic_from_16.py"
data = dict(
    train=[
        dict(annotations="coco_train2017_found.json", images="train2017", weight=8.0, hold_out=30),
        dict(annotations="stanford40.json", images="stanford40", weight=0.5, hold_out=140),
        dict(annotations="fashion.json", images="fashion", weight=0.3, hold_out=30),
        dict(annotations="ccp.json", images="ccp", weight=0.3, hold_out=30),
        dict(
            annotations="../lsp/person_keypoints_train.json",
            images="../lsp/images",
            skeleton="../lsp/skeleton.json",
            extra_joints="lsp_network_joints.json",
            least_confidence=0.4,
            weight=0.3,
            hold_out=120,
        ),
        dict(annotations="everyday.json", images="everyday", confidence_weight=True),
        dict(annotations="stanford40_others.json", images="stanford40", confidence_weight=True),
    ],
    input_size=(192, 256),
    crop_cache="crops_256x192_seven_sets",  # a cache is of one list of sets, and the others of this size have five
)
train = dict(
    learning_rate=6e-4,
    warm_up=0.03,
    initial_weights="base",
    precision="bfloat16",
    validate_every=1,
    temperature_start=2.5,
    temperature_end=2.0,
)
