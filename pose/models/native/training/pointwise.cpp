// Pointwise convolution of a training step on a CPU, forward and backward: one kernel for all images or one for each.
// Images are channels_last; weights and their gradients are float32.
//
// Results do not depend on the number of threads, but for the gradient of a kernel that is all images'.

#include <torch/library.h>

#include <optional>
#include <tuple>

#include "written.h"
#include "pairs.h"

namespace {

using namespace pose;

// Kernels (G, C_out, C_in, 1, 1), G 1 or N, and how many pixels are taken at once: both passes read and write these twice
// while they lie in the cache.
struct Pointwise {
  Features x;
  Tensor kernels;
  int64_t ins, outs, block;

  Pointwise(const Features& x_, const Tensor& weight)
      : x(x_), kernels(weight.contiguous()), ins(weight.size(2)), outs(weight.size(1)),
        block(block_of(ins, outs, x.pixels)) {}

  bool shared() const { return kernels.size(0) == 1; }
  const float* kernel(int64_t n) const { return kernels.const_data_ptr<float>() + (shared() ? 0 : n * outs * ins); }
};

// y, in bfloat16 if `half`, and, if wanted, its moments.
std::tuple<Tensor, Tensor> pointwise_forward(const Tensor& input, const std::optional<Tensor>& norm, int64_t activation,
                                             const Tensor& weight, bool wants_moments, bool in_pairs, bool half) {
  const Pointwise sizes(Features(input, norm, activation), weight);
  const Features& x = sizes.x;
  const int64_t ins = sizes.ins, outs = sizes.outs;
  const Output y({x.images, outs, input.size(2), input.size(3)}, x.x, wants_moments, half);
  at::parallel_for(0, x.images, 1, [&](int64_t begin, int64_t end) {
    FloatLines packed(panels_size(ins, outs));
    WordLines words;
    Scratch scratch;
    Factor factor;
    for (int64_t n = begin; n < end; ++n) {
      if (n == begin || !sizes.shared())
        factor = factor_of(pack(sizes.kernel(n), ins, outs, 1, ins, packed.data()), in_pairs, words);
      Output::Image image(y, n);
      each_block(x.pixels, sizes.block, [&](int64_t first, int64_t some) {
        float* to = image.block(first, some);
        multiply(x.left(n, first, some, in_pairs, scratch), some, factor, to, outs);
        image.done(first, some, to);
      });
      image.end();
    }
  });
  return {y.y, y.moments};
}

// The gradients of images, if wanted, and kernels; and the sums of the images' normalisation.
std::tuple<Tensor, Tensor, Tensor> pointwise_backward(const Tensor& grad, const std::optional<Tensor>& shares,
                                                      const Tensor& y, const std::optional<Tensor>& y_norm,
                                                      const std::optional<Tensor>& y_slopes, int64_t y_activation,
                                                      const Tensor& input, const std::optional<Tensor>& norm,
                                                      int64_t activation, const Tensor& weight, bool wants_x, bool in_pairs) {
  const Pointwise sizes(Features(input, norm, activation), weight);
  const Gradient above(grad, shares, y, y_norm, y_slopes, y_activation);
  const Features& x = sizes.x;
  const int64_t ins = sizes.ins, outs = sizes.outs, size = panels_size(outs, ins);
  const InputGradient grad_x(x);
  const int64_t parts = sizes.shared() ? std::min<int64_t>(at::get_num_threads(), x.images) : x.images;
  Tensor added = plain({parts, size}, x.x).zero_();
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    FloatLines packed(size);
    WordLines words;
    Scratch gradients, values;
    Factor factor;
    InputGradient::Writer writer(grad_x);
    for (int64_t part = begin; part < end; ++part)
      for (int64_t n = part * x.images / parts; n < (part + 1) * x.images / parts; ++n) {
        writer.begin(n);
        if (n == begin * x.images / parts || !sizes.shared())
          factor = factor_of(pack(sizes.kernel(n), outs, ins, ins, 1, packed.data()), in_pairs, words);
        each_block(x.pixels, sizes.block, [&](int64_t first, int64_t some) {
          const Left up = above.left(n, first, some, in_pairs, gradients);
          multiply_outer(up, outs, x.left(n, first, some, in_pairs, values), ins, ins, some,
                         added.mutable_data_ptr<float>() + part * size);
          if (!wants_x) return;
          float* to = writer.block(n, first, some);
          multiply(up, some, factor, to, ins);
          writer.done(n, first, some, to);
        });
        writer.end();
      }
  });
  const Tensor whole = sizes.shared() ? added.sum(0, true) : added;
  Tensor grad_weight = plain(weight.sizes(), x.x);
  for (int64_t group = 0; group < whole.size(0); ++group)
    unpack({outs, ins, whole.const_data_ptr<float>() + group * size},
           grad_weight.mutable_data_ptr<float>() + group * outs * ins);
  return {wants_x ? grad_x.grad : Tensor(), grad_weight, grad_x.sums};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(pose_training, library) {
  library.def(
      "pointwise_forward(Tensor x, Tensor? norm, int activation, Tensor weight, bool wants_moments, "
      "bool in_pairs, bool half) -> (Tensor, Tensor)");
  library.def(
      "pointwise_backward(Tensor grad, Tensor? shares, Tensor y, Tensor? y_norm, Tensor? y_slopes, int y_activation, "
      "Tensor x, Tensor? norm, int activation, Tensor weight, bool wants_x, bool in_pairs) -> (Tensor, Tensor, Tensor)");
  library.def("has_pairs() -> bool");
}

TORCH_LIBRARY_IMPL(pose_training, CompositeExplicitAutograd, library) {
  library.impl("has_pairs", [] { return kHasPairs; });
}

TORCH_LIBRARY_IMPL(pose_training, CPU, library) {
  library.impl("pointwise_forward", &pointwise_forward);
  library.impl("pointwise_backward", &pointwise_backward);
}
