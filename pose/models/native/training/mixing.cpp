// Attention and pointwise convolution with mixed kernels in a training step on a CPU, forward and backward.
//
// Images are channels_last, kernels float32. Every image is a thread's, and sums over images are added up in their order: the
// results do not depend on the number of threads, but for the bank's gradient.

#include <ATen/TensorOperators.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/threshold_backward.h>
#include <torch/library.h>

#include <algorithm>
#include <optional>
#include <tuple>
#include <vector>

#include "normalized.h"
#include "row_tiles.h"

namespace {

using namespace pose;

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

// Mixtures of a bank (count, width) by shares (J, count): whole vectors.
template <int J>
void mix_for(const float* bank, int64_t count, int64_t width, const float* shares, float* out) {
  for (int64_t i = 0; i < width; i += kLanes) {
    Lanes sums[J] = {};
    for (int64_t k = 0; k < count; ++k) {
      const Lanes values = load<Lanes>(bank + k * width + i);
      for (int j = 0; j < J; ++j) sums[j] += shares[j * count + k] * values;
    }
    for (int j = 0; j < J; ++j) store(out + j * width + i, sums[j]);
  }
}

// The gradients of shares (J, count) and, added up, of the bank, from those of the mixtures (J, width).
template <int J>
void mix_back(const float* bank, int64_t count, int64_t width, const float* shares, const float* own, float* grad_shares,
              float* grad_bank) {
  for (int64_t k = 0; k < count; ++k) {
    Lanes along[J] = {};
    for (int64_t i = 0; i < width; i += kLanes) {
      const Lanes values = load<Lanes>(bank + k * width + i);
      Lanes sum = load<Lanes>(grad_bank + k * width + i);
      for (int j = 0; j < J; ++j) {
        const Lanes mixture = load<Lanes>(own + j * width + i);
        along[j] += mixture * values;
        sum += shares[j * count + k] * mixture;
      }
      store(grad_bank + k * width + i, sum);
    }
    for (int j = 0; j < J; ++j) {
      float sum = 0.0f;
      for (int i = 0; i < kLanes; ++i) sum += along[j][i];
      grad_shares[j * count + k] = sum;
    }
  }
}

// Pointwise convolution by kernels that are mixed from a bank (K, C_out, C_in, 1, 1) by an attention (N, K); with it, if
// wanted, the moments of y, which is in bfloat16 if `half`.
std::tuple<Tensor, Tensor> mixed_forward(const Tensor& input, const std::optional<Tensor>& norm, int64_t activation,
                                         const Tensor& attention, const Tensor& bank, bool wants_moments,
                                         bool in_pairs, bool half) {
  const Features x(input, norm, activation);
  const Tensor mixture = attention.contiguous(), kernels = bank.contiguous();
  const int64_t images = x.images, ins = x.channels, pixels = x.pixels;
  const int64_t count = kernels.size(0), outs = kernels.size(1), size = panels_size(ins, outs);
  const int64_t block = block_of(ins, outs, pixels);
  const Output y({images, outs, input.size(2), input.size(3)}, x.x, wants_moments, half);
  const float* shares = mixture.const_data_ptr<float>();
  std::vector<float> packed(count * size);  // to mix panels is to mix kernels
  for (int64_t k = 0; k < count; ++k)
    pack(kernels.const_data_ptr<float>() + k * outs * ins, ins, outs, 1, ins, packed.data() + k * size);
  at::parallel_for(0, (images + kTogether - 1) / kTogether, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> mixed(kTogether * size);
    std::vector<uint32_t> words;
    Scratch scratch;
    for (int64_t first = begin * kTogether; first < std::min(images, end * kTogether); first += kTogether)
      with_rows<kTogether>(std::min(kTogether, images - first), [&](auto some) {
        mix_for<decltype(some)::value>(packed.data(), count, size, shares + first * count, mixed.data());
        for (int64_t n = first; n < first + some; ++n) {
          const Factor factor = factor_of({ins, outs, mixed.data() + (n - first) * size}, in_pairs, words);
          Output::Image image(y, n);
          each_block(pixels, block, [&](int64_t pixel, int64_t few) {
            float* to = image.block(pixel, few);
            multiply(x.left(n, pixel, few, in_pairs, scratch), few, factor, to);
            image.done(pixel, few, to);
          });
          image.end();
        }
      });
  });
  return {y.y, y.moments};
}

// The gradients of images, attention and bank, and the sums of the images' normalisation; the kernels are mixed again.
std::tuple<Tensor, Tensor, Tensor, Tensor> mixed_backward(const Tensor& grad, const std::optional<Tensor>& grad_shares,
                                                          const Tensor& y, const std::optional<Tensor>& y_norm,
                                                          const std::optional<Tensor>& y_slopes, int64_t y_activation,
                                                          const Tensor& input, const std::optional<Tensor>& norm,
                                                          int64_t activation, const Tensor& attention,
                                                          const Tensor& bank, bool in_pairs) {
  const Features x(input, norm, activation);
  const Gradient above(grad, grad_shares, y, y_norm, y_slopes, y_activation);
  const Tensor mixture = attention.contiguous(), kernels = bank.contiguous();
  const int64_t images = x.images, ins = x.channels, pixels = x.pixels;
  const int64_t count = kernels.size(0), outs = kernels.size(1), size = panels_size(outs, ins);
  const int64_t groups = (images + kTogether - 1) / kTogether, block = block_of(ins, outs, pixels);
  const int64_t parts = std::min<int64_t>(groups, at::get_num_threads());
  const InputGradient grad_x(x);
  Tensor grad_attention = at::empty_like(mixture), grad_bank = at::empty_like(kernels);
  Tensor added = plain({parts, count, size}, x.x).zero_();
  const float* shares = mixture.const_data_ptr<float>();
  float* to_shares = grad_attention.mutable_data_ptr<float>();
  float* sums = added.mutable_data_ptr<float>();
  std::vector<float> packed(count * size);
  for (int64_t k = 0; k < count; ++k)
    pack(kernels.const_data_ptr<float>() + k * outs * ins, outs, ins, ins, 1, packed.data() + k * size);
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> mixed(kTogether * size), own(kTogether * size);
    std::vector<uint32_t> words;
    Scratch gradients, values;
    InputGradient::Writer writer(grad_x);
    for (int64_t part = begin; part < end; ++part) {
      const int64_t stop = std::min((part + 1) * groups / parts * kTogether, images);
      for (int64_t first = part * groups / parts * kTogether; first < stop; first += kTogether)
        with_rows<kTogether>(std::min(kTogether, stop - first), [&](auto some) {
          const float* share = shares + first * count;
          mix_for<decltype(some)::value>(packed.data(), count, size, share, mixed.data());
          std::fill(own.begin(), own.end(), 0.0f);
          for (int64_t n = first; n < first + some; ++n) {
            const Factor factor = factor_of({outs, ins, mixed.data() + (n - first) * size}, in_pairs, words);
            writer.begin(n);
            each_block(pixels, block, [&](int64_t pixel, int64_t few) {
              const Left up = above.left(n, pixel, few, in_pairs, gradients);
              multiply_outer(up, outs, x.left(n, pixel, few, in_pairs, values), ins, few, own.data() + (n - first) * size);
              float* to = writer.block(n, pixel, few);
              multiply(up, few, factor, to);
              writer.done(n, pixel, few, to);
            });
            writer.end();
          }
          mix_back<decltype(some)::value>(packed.data(), count, size, share, own.data(), to_shares + first * count,
                                          sums + part * count * size);
        });
    }
  });
  const Tensor whole = parts == 1 ? added[0] : added.sum(0);
  for (int64_t k = 0; k < count; ++k)
    unpack({outs, ins, whole.const_data_ptr<float>() + k * size}, grad_bank.mutable_data_ptr<float>() + k * outs * ins);
  return {grad_x.grad, grad_attention, grad_bank, grad_x.sums};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(pose_training, library) {
  library.def(
      "attend_forward(Tensor averages, Tensor? w1, Tensor? b1, Tensor w2, Tensor b2, float temperature, bool softmax) "
      "-> (Tensor, Tensor)");
  library.def(
      "attend_backward(Tensor grad, Tensor attention, Tensor hidden, Tensor averages, Tensor? w1, Tensor w2, "
      "float temperature, bool softmax) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  library.def(
      "mixed_forward(Tensor x, Tensor? norm, int activation, Tensor attention, Tensor bank, bool wants_moments, "
      "bool in_pairs, bool half) -> (Tensor, Tensor)");
  library.def(
      "mixed_backward(Tensor grad, Tensor? shares, Tensor y, Tensor? y_norm, Tensor? y_slopes, int y_activation, "
      "Tensor x, Tensor? norm, int activation, Tensor attention, Tensor bank, bool in_pairs) "
      "-> (Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(pose_training, CPU, library) {
  library.impl("attend_forward", &attend_forward);
  library.impl("attend_backward", &attend_backward);
  library.impl("mixed_forward", &mixed_forward);
  library.impl("mixed_backward", &mixed_backward);
}
