// Convolutions whose kernels depend on the image. One file for the compiler, which spends most of its time on torch's
// headers.

#include "branch.cpp"
#include "decomposed.cpp"
#include "decomposed_backward.cpp"
#include "mixing.cpp"
