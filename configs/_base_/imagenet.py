# ImageNet in torchvision's ImageFolder layout, and what both papers' trainings have in common: docs/models.md#imagenet.
data = dict(root="data/imagenet", train="train", val="val", input_size=224, resize=256, workers=8)
augmentation = dict(scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3), flip_probability=0.5)
train = dict(batch_size=256, base_batch_size=256, optimizer="sgd", momentum=0.9)
