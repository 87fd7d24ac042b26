# The same network at 256 x 192.
_base_ = "mobilenet_v2_x1.0_type_b_static.py"
data = dict(input_size=(192, 256), crop_cache="crops_256x192")
