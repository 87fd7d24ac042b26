"""Image classification: the networks of both papers on ImageNet, or on any folder with a folder a class."""
