"""The person detector that comes with the project; data/weights/README.md#person says what the sets are, who found the
boxes in the files called found, and how the training went: the first twelve epochs saw smaller canvases."""

data = dict(
    root="data/people",
    sources=[
        dict(images="train2017", annotations="coco_train2017_found.json", weight=8.0),
        dict(
            images="everyday",
            annotations="everyday_photos.json",
            boxes="found_everyday_photos.json",
            weight=1.5,
            sure=0.65,
            unsure=0.2,
            groups=True,
        ),
        dict(
            images="everyday",
            annotations="everyday_frames.json",
            boxes="found_everyday_frames.json",
            weight=0.3,
            sure=0.65,
            unsure=0.2,
        ),
        dict(
            images="voc07",
            annotations="voc07_people.json",
            boxes="found_voc07_people.json",
            weight=2.0,
            sure=0.7,
            unsure=0.2,
        ),
        dict(images="voc07", annotations="voc07_others.json", weight=0.4),
        dict(images="voc12", annotations="voc12.json", weight=1.5),
        dict(
            images="vocanimal",
            annotations="vocanimal_people.json",
            boxes="found_vocanimal_people.json",
            sure=0.65,
            unsure=0.2,
        ),
        dict(
            images="vocanimal",
            annotations="vocanimal_others.json",
            boxes="found_vocanimal_others.json",
            weight=0.3,
            sure=1.0,
            unsure=0.4,
        ),
        dict(
            images="stanford40",
            annotations="stanford40.json",
            boxes="boxes_stanford40.json",
            weight=0.4,
            unsure=0.2,
        ),
        dict(
            images="street",
            annotations="street_boxes.json",
            boxes="found_street_boxes.json",
            weight=0.3,
            sure=0.65,
            unsure=0.2,
        ),
        dict(images="fashion", boxes="boxes_fashion.json", weight=0.3),
        dict(images="ccp", boxes="boxes_ccp.json", weight=0.2),
        dict(images="lsp_images", boxes="boxes_lsp.json", weight=0.1),
    ],
    longest_side=416,
    held_out=40,
    workers=1,
)
model = dict(channels=(160, 128, 96), blocks=3, frozen=1)
canvas = dict(grids=(0.75, 0.25), scale=(0.6, 1.7))
train = dict(
    epochs=72,
    canvases=2048,
    canvas_size=(384, 320),
    batch_size=16,
    warm_up=0.5,
    average_decay=0.999,
    initial_backbone="data/people/init/person_before.pth",  # git show 432f6e8:data/weights/person.pth
    native=True,
    precision="bfloat16",
)
test = dict(input_area=416 * 320)
