"""The person detector that comes with the project; data/weights/README.md#person says what the sets are, who found the
boxes in the files called found, and what it went on from."""

data = dict(
    root="data/people",
    sources=[
        dict(images="train2017", annotations="coco_train2017_found.json", weight=6.0),
        dict(images="coco_train", annotations="coco_people.json", boxes="found_coco_people.json", weight=6.0, sure=1.0),
        dict(images="coco_train", annotations="coco_others.json", weight=0.5),
        dict(
            images="everyday",
            annotations="everyday_coco.json",
            boxes="found_everyday_coco.json",
            weight=4.0,
            sure=1.0,
        ),
        dict(images="cap", annotations="cap_coco.json", boxes="found_cap_coco.json", sure=0.5, unsure=0.25),
        dict(
            images="everyday",
            annotations="everyday_photos.json",
            boxes="found_everyday_photos.json",
            sure=0.38,
            unsure=0.25,
            groups=True,
        ),
        dict(
            images="everyday",
            annotations="everyday_frames.json",
            boxes="found_everyday_frames.json",
            weight=0.2,
            sure=0.65,
            unsure=0.2,
        ),
        dict(
            images="voc07",
            annotations="voc07_people.json",
            boxes="found_voc07_people.json",
            weight=1.5,
            sure=0.38,
            unsure=0.25,
        ),
        dict(images="voc07", annotations="voc07_others.json", weight=0.4),
        dict(images="voc12", annotations="voc12.json"),
        dict(
            images="vocanimal",
            annotations="vocanimal_people.json",
            boxes="found_vocanimal_people.json",
            sure=0.38,
            unsure=0.25,
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
            annotations="stanford_half.json",
            boxes="found_stanford_half.json",
            weight=1.5,
            sure=0.38,
            unsure=0.25,
        ),
        dict(
            images="street",
            annotations="street_boxes.json",
            boxes="found_street_boxes.json",
            weight=0.2,
            sure=0.65,
            unsure=0.2,
        ),
        dict(images="fashion", boxes="boxes_fashion.json", weight=0.2),
        dict(images="ccp", boxes="boxes_ccp.json", weight=0.15),
        dict(images="lsp_images", boxes="boxes_lsp.json", weight=0.1),
    ],
    longest_side=416,
    held_out=40,
    workers=1,
)
model = dict(channels=(160, 128, 96), blocks=3, frozen=1)
canvas = dict(grids=(0.75, 0.25), scale=(0.6, 1.7))
train = dict(
    epochs=32,
    canvases=2048,
    canvas_size=(384, 320),
    batch_size=16,
    warm_up=0.5,
    average_decay=0.999,
    initial_weights="data/people/init/person_before.pth",  # git show 2c28045:data/weights/person.pth
    native=True,
    precision="bfloat16",
)
test = dict(input_area=416 * 320)
