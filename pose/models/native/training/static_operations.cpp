// Convolutions whose kernels are the same for all images, and normalisations. One file for the compiler, which spends most
// of its time on torch's headers.

#include "norm.cpp"

#include "depthwise.cpp"
#include "pointwise.cpp"
