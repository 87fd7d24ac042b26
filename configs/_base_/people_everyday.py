# Eleven sets at 256 x 192: what `base` and `small` last learned from. data/weights/README.md says what those beside the
# first are, and which a network labelled. Goes on from weights whose stem and first seven blocks stay as they are.
_base_ = "people.py"
data = dict(
    train=[
        dict(annotations="coco_train2017_found.json", images="train2017", weight=8.0, hold_out=30),
        dict(annotations="coco_people_keypoints.json", images="coco_train", weight=6.0),
        dict(annotations="everyday_coco_keypoints.json", images="everyday", weight=4.0),
        dict(annotations="stanford40.json", images="stanford40", weight=0.4, hold_out=140),
        dict(annotations="fashion.json", images="fashion", weight=0.3, hold_out=30),
        dict(annotations="ccp.json", images="ccp", weight=0.2, hold_out=30),
        dict(
            annotations="../lsp/person_keypoints_train.json",
            images="../lsp/images",
            skeleton="../lsp/skeleton.json",
            extra_joints="lsp_network_joints.json",
            least_confidence=0.4,
            weight=0.25,
            hold_out=120,
        ),
        dict(annotations="everyday_others.json", images="everyday", weight=0.5, confidence_weight=True),
        dict(annotations="stanford40_others.json", images="stanford40", weight=0.5, confidence_weight=True),
        dict(annotations="street.json", images="street", weight=0.3, confidence_weight=True),
        dict(annotations="vietnam.json", images="vietnam", weight=0.5, confidence_weight=True),
    ],
    input_size=(192, 256),
    crop_cache="crops_256x192_eleven_sets",  # a cache is of one list of sets, and the others of this size have five
)
augmentation = dict(blur_probability=0.25, blur_sigma=3.0)
train = dict(
    batch_size=32,
    warm_up=0.03,
    frozen=("backbone.stem", "backbone.blocks.[0-6]"),
    precision="bfloat16",
    validate_every=1,
)
