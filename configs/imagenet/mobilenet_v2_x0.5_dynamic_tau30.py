# DY-CNN, Table 6: the temperature stays.
_base_ = "mobilenet_v2_x0.5_dynamic.py"
train = dict(temperature_start=None)
