_base_ = "resnet50.py"
model = dict(channel_order="bgr")
