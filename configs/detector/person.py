"""The person detector that comes with the project, see data/weights/README.md for what it was trained on."""

data = dict(
    root="data/people",
    sources=[
        dict(images="train2017", annotations="coco_train2017_found.json", weight=8.0),
        dict(images="stanford40", annotations="stanford40.json", boxes="boxes_stanford40.json"),
        dict(images="fashion", boxes="boxes_fashion.json", weight=0.4),
        dict(images="ccp", boxes="boxes_ccp.json", weight=0.4),
        dict(images="lsp_images", boxes="boxes_lsp.json", weight=0.2),
    ],
)
model = dict(frozen=3)  # for twelve epochs; then on with model.frozen=1 train.repeats=2, see docs/detector.md
train = dict(
    epochs=68,
    canvases=1024,
    repeats=4,
    batch_size=8,
    warm_up=0.78,
    initial_backbone="data/people/init/mobilenetv2_movenet_lightning.pth",
    native=True,
)
