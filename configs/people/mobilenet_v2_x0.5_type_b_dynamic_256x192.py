# The same network at 256 x 192.
_base_ = "mobilenet_v2_x0.5_type_b_dynamic.py"
data = dict(input_size=(192, 256), crop_cache="crops_256x192")
