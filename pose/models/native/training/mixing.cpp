// Attention and pointwise convolution with mixed kernels in a training step on a CPU, forward and backward.
//
// Images are channels_last float32. Every image is a thread's, and sums over images are added up in their order: the
// results do not depend on the number of threads, but for the bank's gradient.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <optional>
#include <tuple>
#include <vector>

#include "lanes.h"
#include "tensors.h"

extern "C" void sgemm_(const char*, const char*, const int*, const int*, const int*, const float*, const float*, const int*,
                       const float*, const int*, const float*, float*, const int*) __attribute__((weak));

namespace {

using namespace pose;
using at::Tensor;

// The attention of dynamic convolution from averages (N, C): softmax((relu(a W1 + b1) W2 + b2) / tau), or a sigmoid of
// a W2 + b2; with it the hidden values, or the averages where there is no hidden layer.
std::tuple<Tensor, Tensor> attend_forward(const Tensor& averages, const std::optional<Tensor>& w1,
                                          const std::optional<Tensor>& b1, const Tensor& w2, const Tensor& b2,
                                          double temperature, bool softmax) {
  const Tensor hidden = w1 ? at::addmm(*b1, averages, w1->t()).relu_() : averages;
  const Tensor logits = at::addmm(b2, hidden, w2.t());
  return {softmax ? logits.div_(temperature).softmax(1) : logits.sigmoid_(), hidden};
}

// The gradients of averages, W1, b1, W2 and b2.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> attend_backward(const Tensor& grad, const Tensor& attention,
                                                                   const Tensor& hidden, const Tensor& averages,
                                                                   const std::optional<Tensor>& w1, const Tensor& w2,
                                                                   double temperature, bool softmax) {
  const Tensor along = grad * attention;
  const Tensor logits = softmax ? (along - attention * along.sum(1, true)).div_(temperature) : along * (1 - attention);
  const Tensor grad_w2 = logits.t().mm(hidden), grad_b2 = logits.sum(0);
  const Tensor inner = logits.mm(w2);
  if (!w1) return {inner, Tensor(), Tensor(), grad_w2, grad_b2};
  const Tensor before = at::threshold_backward(inner, hidden, 0);
  return {before.mm(*w1), before.t().mm(averages), before.sum(0), grad_w2, grad_b2};
}

// Kernels are mixed for so many images at a time, and stay in the cache until these are done.
constexpr int64_t kTogether = 4;

// c (m, n) = op(a) op(b) + keep c, matrices by columns: by the BLAS that torch brings, as torch's own call takes longer than
// a small product does; by that where there is none.
void multiply(bool turn_a, bool turn_b, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b,
              int64_t ldb, float keep, float* c, int64_t ldc) {
  if (sgemm_) {
    const int rows = m, columns = n, inner = k, first = lda, second = ldb, third = ldc;
    const float one = 1.0f;
    return sgemm_(turn_a ? "T" : "N", turn_b ? "T" : "N", &rows, &columns, &inner, &one, a, &first, b, &second, &keep,
                  c, &third);
  }
  const auto matrix = [](const float* values, int64_t height, int64_t width, int64_t stride, bool turn) {
    const std::vector<int64_t> steps = turn ? std::vector<int64_t>{stride, 1} : std::vector<int64_t>{1, stride};
    return at::from_blob(const_cast<float*>(values), {height, width}, steps, at::TensorOptions(at::kFloat));
  };
  Tensor to = matrix(c, m, n, ldc, false);
  if (keep == 0) to.zero_();
  to.addmm_(matrix(a, m, k, lda, turn_a), matrix(b, k, n, ldb, turn_b));
}

// Pointwise convolution by kernels that are mixed from a bank (K, C_out, C_in, 1, 1) by an attention (N, K).
Tensor mixed_forward(const Tensor& input, const Tensor& attention, const Tensor& bank) {
  const Tensor x = last(input), mixture = attention.contiguous(), kernels = bank.contiguous();
  const int64_t images = x.size(0), ins = x.size(1), pixels = x.size(2) * x.size(3);
  const int64_t count = kernels.size(0), outs = kernels.size(1), values = outs * ins;
  Tensor y = at::empty({images, outs, x.size(2), x.size(3)}, x.options(), at::MemoryFormat::ChannelsLast);
  const float *from = x.const_data_ptr<float>(), *shares = mixture.const_data_ptr<float>();
  const float* all = kernels.const_data_ptr<float>();
  float* out = y.mutable_data_ptr<float>();
  at::parallel_for(0, (images + kTogether - 1) / kTogether, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> mixed(kTogether * values);
    for (int64_t first = begin * kTogether; first < std::min(images, end * kTogether); first += kTogether) {
      const int64_t some = std::min(kTogether, images - first);
      multiply(false, false, values, some, count, all, values, shares + first * count, count, 0, mixed.data(), values);
      for (int64_t n = first; n < first + some; ++n)
        multiply(true, false, outs, pixels, ins, mixed.data() + (n - first) * values, ins, from + n * pixels * ins, ins,
                 0, out + n * pixels * outs, outs);
    }
  });
  return y;
}

// The gradients of images, attention and bank; the kernels are mixed again.
std::tuple<Tensor, Tensor, Tensor> mixed_backward(const Tensor& grad, const Tensor& input, const Tensor& attention,
                                                  const Tensor& bank) {
  const Tensor x = last(input), above = last(grad), mixture = attention.contiguous(), kernels = bank.contiguous();
  const int64_t images = x.size(0), ins = x.size(1), pixels = x.size(2) * x.size(3);
  const int64_t count = kernels.size(0), outs = kernels.size(1), values = outs * ins;
  const int64_t groups = (images + kTogether - 1) / kTogether;
  const int64_t parts = std::min<int64_t>(groups, at::get_num_threads());
  Tensor grad_x = at::empty_like(x), grad_attention = at::empty_like(mixture);
  Tensor grad_bank = at::empty({parts, count, outs, ins, 1, 1}, kernels.options());
  const float *from = x.const_data_ptr<float>(), *up = above.const_data_ptr<float>();
  const float *shares = mixture.const_data_ptr<float>(), *all = kernels.const_data_ptr<float>();
  float *out = grad_x.mutable_data_ptr<float>(), *grad_shares = grad_attention.mutable_data_ptr<float>();
  float* sums = grad_bank.mutable_data_ptr<float>();
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> mixed(kTogether * values), own(kTogether * values);
    for (int64_t part = begin; part < end; ++part) {
      const int64_t start = part * groups / parts * kTogether, stop = (part + 1) * groups / parts * kTogether;
      for (int64_t first = start; first < std::min(images, stop); first += kTogether) {
        const int64_t some = std::min(kTogether, images - first);
        const float* share = shares + first * count;
        multiply(false, false, values, some, count, all, values, share, count, 0, mixed.data(), values);
        for (int64_t n = first; n < first + some; ++n) {
          const float *image = from + n * pixels * ins, *gradient = up + n * pixels * outs;
          multiply(false, false, ins, pixels, outs, mixed.data() + (n - first) * values, ins, gradient, outs, 0,
                   out + n * pixels * ins, ins);
          multiply(false, true, ins, outs, pixels, image, ins, gradient, outs, 0, own.data() + (n - first) * values,
                   ins);
        }
        multiply(true, false, count, some, values, all, values, own.data(), values, 0, grad_shares + first * count,
                 count);
        multiply(false, true, values, count, some, own.data(), values, share, count, first == start ? 0 : 1,
                 sums + part * count * values, values);
      }
    }
  });
  return {grad_x, grad_attention, parts == 1 ? grad_bank[0] : grad_bank.sum(0)};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(pose_training, library) {
  library.def(
      "attend_forward(Tensor averages, Tensor? w1, Tensor? b1, Tensor w2, Tensor b2, float temperature, bool softmax) "
      "-> (Tensor, Tensor)");
  library.def(
      "attend_backward(Tensor grad, Tensor attention, Tensor hidden, Tensor averages, Tensor? w1, Tensor w2, "
      "float temperature, bool softmax) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  library.def("mixed_forward(Tensor x, Tensor attention, Tensor bank) -> Tensor");
  library.def("mixed_backward(Tensor grad, Tensor x, Tensor attention, Tensor bank) -> (Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(pose_training, CPU, library) {
  library.impl("attend_forward", &attend_forward);
  library.impl("attend_backward", &attend_backward);
  library.impl("mixed_forward", &mixed_forward);
  library.impl("mixed_backward", &mixed_backward);
}
