_base_ = "resnet10_static.py"
model = dict(backbone=dict(conv=dict(type="dynamic")))
train = dict(temperature_start=30.0, temperature_end=1.0, temperature_epochs=10)
