"""The person detector on COCO's train2017 alone, for whoever has its pictures, laid out as data/README.md says.

It goes on from the weights that come with the project, some twelve times over all pictures; it was tried on few of them
only. Decoded pictures: some 44 GB below data/coco/cache, by the sizes of 265 pictures of val2017. On a CPU with
bfloat16 products: --cfg-options train.native=true train.precision=bfloat16
"""

_base_ = "person.py"
data = dict(
    root="data/coco",
    sources=[dict(images="train2017", annotations="annotations/person_keypoints_train2017.json")],
    cache="data/coco/cache",
    held_out=200,
    test_annotations="annotations/person_keypoints_val2017.json",
    test_images="val2017",
    workers=4,
)
train = dict(
    epochs=48,
    canvases=16384,
    learning_rate=5e-4,
    initial_weights="data/weights/person.pth",
    native=False,
    precision="float32",
)
