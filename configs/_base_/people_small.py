# What tools/compare.py trains alike, for one epoch at 128 x 96. The dynamic layers lie from stride 16 on and in the
# head, as in the base that ships.
_base_ = "people_from_static.py"
data = dict(input_size=(96, 128), crop_cache="crops_128x96", workers=0)
train = dict(epochs=1, validate_every=1, temperature_epochs=1)
test = dict(native=True)
