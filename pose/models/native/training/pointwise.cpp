// Pointwise convolution of a training step on a CPU, forward and backward: one kernel for all images or one for each.
// Images are channels_last float32.
//
// Results do not depend on the number of threads, but for the gradient of a kernel that is all images'.

#include <torch/library.h>

#include <optional>
#include <tuple>

#include "products.h"
#include "tensors.h"

namespace {

using namespace pose;
using at::Tensor;

constexpr int64_t kGrain = 256;  // pixels that are worth a thread

// Kernels (G, C_out, C_in, 1, 1), G 1 or N; with one for all, the images are as one.
struct Product {
  Tensor x, kernels;
  int64_t groups, pixels, ins, outs;

  Product(const Tensor& input, const Tensor& weight)
      : x(last(input)), kernels(weight.contiguous()), groups(weight.size(0)),
        pixels(x.size(0) * x.size(2) * x.size(3) / groups), ins(weight.size(2)), outs(weight.size(1)) {}

  const float* kernel(int64_t group) const { return kernels.const_data_ptr<float>() + group * outs * ins; }

  // Calls `run(group, first, some)` for parts of the pixels.
  template <typename Run>
  void each(const Run& run) const {
    at::parallel_for(0, groups, 1, [&](int64_t begin, int64_t end) {
      for (int64_t group = begin; group < end; ++group)
        at::parallel_for(0, pixels, kGrain, [&](int64_t first, int64_t stop) { run(group, first, stop - first); });
    });
  }
};

Tensor pointwise_forward(const Tensor& input, const Tensor& weight) {
  const Product sizes(input, weight);
  const int64_t ins = sizes.ins, outs = sizes.outs;
  Tensor y = at::empty({input.size(0), outs, input.size(2), input.size(3)}, sizes.x.options(), at::MemoryFormat::ChannelsLast);
  const float* from = sizes.x.const_data_ptr<float>();
  float* out = y.mutable_data_ptr<float>();
  sizes.each([&](int64_t group, int64_t first, int64_t some) {
    const float* kernel = sizes.kernel(group);
    std::vector<float> packed(panels_size(ins, outs));
    const Panels panels = pack(kernel, ins, outs, 1, ins, packed.data());
    const int64_t place = group * sizes.pixels + first;
    multiply(from + place * ins, ins, some, panels, out + place * outs, outs);
  });
  return y;
}

// The gradients of images, if wanted, and kernels.
std::tuple<Tensor, Tensor> pointwise_backward(const Tensor& grad, const Tensor& input, const Tensor& weight, bool wants_x) {
  const Product sizes(input, weight);
  const int64_t ins = sizes.ins, outs = sizes.outs, groups = sizes.groups, pixels = sizes.pixels;
  const Tensor above = last(grad);
  const float *from = sizes.x.const_data_ptr<float>(), *up = above.const_data_ptr<float>();
  Tensor grad_x = wants_x ? at::empty_like(sizes.x) : Tensor();
  float* out = wants_x ? grad_x.mutable_data_ptr<float>() : nullptr;
  const int64_t parts = groups > 1 ? 1 : std::max<int64_t>(std::min<int64_t>(at::get_num_threads(), pixels / kGrain), 1);
  Tensor sums = plain({groups, parts, panels_size(outs, ins)}, sizes.x).zero_();
  float* added = sums.mutable_data_ptr<float>();
  at::parallel_for(0, groups * parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t group = task / parts, part = task % parts;
      const int64_t first = part * pixels / parts, stop = (part + 1) * pixels / parts, place = group * pixels + first;
      std::vector<float> packed(panels_size(outs, ins));
      const Panels panels = pack(sizes.kernel(group), outs, ins, ins, 1, packed.data());
      // both read the same gradients: a block of pixels at a time
      const int64_t block = std::max<int64_t>(kCached / (ins + outs), 4 * kSums);
      for (int64_t p = 0; p < stop - first; p += block) {
        const int64_t some = std::min(block, stop - first - p);
        const float* gradients = up + (place + p) * outs;
        multiply_outer(gradients, outs, outs, from + (place + p) * ins, ins, ins, some, added + task * panels_size(outs, ins));
        if (wants_x) multiply(gradients, outs, some, panels, out + (place + p) * ins, ins);
      }
    }
  });
  const Tensor whole = sums.sum(1);
  Tensor grad_weight = plain(weight.sizes(), sizes.x);
  for (int64_t group = 0; group < groups; ++group)
    unpack({outs, ins, whole.const_data_ptr<float>() + group * panels_size(outs, ins)},
           grad_weight.mutable_data_ptr<float>() + group * outs * ins);
  return {grad_x, grad_weight};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(pose_training, library) {
  library.def("pointwise_forward(Tensor x, Tensor weight) -> Tensor");
  library.def("pointwise_backward(Tensor grad, Tensor x, Tensor weight, bool wants_x) -> (Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(pose_training, CPU, library) {
  library.impl("pointwise_forward", &pointwise_forward);
  library.impl("pointwise_backward", &pointwise_backward);
}
