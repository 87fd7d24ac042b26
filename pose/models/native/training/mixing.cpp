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

#include "bank.h"
#include "row_tiles.h"
#include "written.h"

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

// A pointwise layer whose kernels are mixed, and a batch.
struct Mixture {
  Features x;
  Tensor shares, kernels;
  int64_t images, ins, outs, pixels, count, block;
  bool by_parts;  // kernels are larger than what images have: these are read once, and kernels are mixed in parts

  Mixture(const Features& x_, const Tensor& attention, const Tensor& bank)
      : x(x_), shares(attention.contiguous()), kernels(bank.contiguous()), images(x.images), ins(x.channels),
        outs(kernels.size(1)), pixels(x.pixels), count(kernels.size(0)), block(block_of(ins, outs, pixels)),
        by_parts(2 * ins * outs > pixels * (ins + outs)) {}

  const float* share(int64_t n) const { return shares.const_data_ptr<float>() + n * count; }
  int64_t groups() const { return (images + kMixedImages - 1) / kMixedImages; }
  Bank bank(bool forward, bool in_pairs) const {
    const float* values = kernels.const_data_ptr<float>();
    return forward ? Bank(values, count, ins, outs, 1, ins, in_pairs) : Bank(values, count, outs, ins, ins, 1, in_pairs);
  }
};

// Pointwise convolution by kernels that are mixed from a bank (K, C_out, C_in, 1, 1) by an attention (N, K); with it, if
// wanted, the moments of y, which is in bfloat16 if `half`.
std::tuple<Tensor, Tensor> mixed_forward(const Tensor& input, const std::optional<Tensor>& norm, int64_t activation,
                                         const Tensor& attention, const Tensor& kernels, bool wants_moments,
                                         bool in_pairs, bool half) {
  const Mixture sizes(Features(input, norm, activation), attention, kernels);
  const Features& x = sizes.x;
  const int64_t images = sizes.images, outs = sizes.outs, pixels = sizes.pixels;
  const Bank bank = sizes.bank(true, in_pairs);
  const Output y({images, outs, input.size(2), input.size(3)}, x.x, wants_moments, half);
  at::parallel_for(0, sizes.groups(), 1, [&](int64_t begin, int64_t end) {
    Bank::Mixed mixed;
    std::vector<Scratch> scratch(kMixedImages);
    std::vector<Output::Image> written;
    for (int64_t first = begin * kMixedImages; first < std::min(images, end * kMixedImages); first += kMixedImages)
      with_rows<kMixedImages>(std::min(kMixedImages, images - first), [&](auto some) {
        constexpr int J = decltype(some)::value;
        written.clear();
        for (int64_t j = 0; j < J; ++j) written.emplace_back(y, first + j);
        if (sizes.by_parts) {
          Left left[J];
          float* to[J];
          for (int64_t j = 0; j < J; ++j)
            left[j] = x.left(first + j, 0, pixels, in_pairs, scratch[j]), to[j] = written[j].block(0, pixels);
          bank.each_part([&](const Bank::Part& part) {
            bank.mix<J>(part, sizes.share(first), mixed);
            for (int64_t j = 0; j < J; ++j)
              multiply(left[j], pixels, bank.factor(part, mixed, j), to[j] + part.first, outs);
          });
          for (int64_t j = 0; j < J; ++j) written[j].done(0, pixels, to[j]);
        } else {
          bank.mix<J>(bank.whole(), sizes.share(first), mixed);
          for (int64_t j = 0; j < J; ++j)
            each_block(pixels, sizes.block, [&](int64_t pixel, int64_t few) {
              float* to = written[j].block(pixel, few);
              const Left left = x.left(first + j, pixel, few, in_pairs, scratch[0]);
              multiply(left, few, bank.factor(bank.whole(), mixed, j), to, outs);
              written[j].done(pixel, few, to);
            });
        }
        for (int64_t j = 0; j < J; ++j) written[j].end();
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
                                                          const Tensor& kernels, bool in_pairs) {
  const Mixture sizes(Features(input, norm, activation), attention, kernels);
  const Gradient above(grad, grad_shares, y, y_norm, y_slopes, y_activation);
  const Features& x = sizes.x;
  const int64_t ins = sizes.ins, outs = sizes.outs, pixels = sizes.pixels, count = sizes.count;
  const Bank bank = sizes.bank(false, in_pairs);
  const int64_t size = bank.size(), parts = std::min<int64_t>(sizes.groups(), at::get_num_threads());
  const InputGradient grad_x(x);
  Tensor grad_attention = at::empty_like(sizes.shares), grad_bank = at::empty_like(sizes.kernels);
  Tensor added = plain({parts, count, size}, x.x).zero_();
  float *to_shares = grad_attention.mutable_data_ptr<float>(), *sums = added.mutable_data_ptr<float>();
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    FloatLines own, along;
    Bank::Mixed mixed;
    std::vector<Scratch> gradients(kMixedImages), values(kMixedImages);
    std::vector<InputGradient::Writer> writers(kMixedImages, InputGradient::Writer(grad_x));
    for (int64_t part = begin; part < end; ++part) {
      const int64_t stop = std::min((part + 1) * sizes.groups() / parts * kMixedImages, sizes.images);
      for (int64_t first = part * sizes.groups() / parts * kMixedImages; first < stop; first += kMixedImages)
        with_rows<kMixedImages>(std::min(kMixedImages, stop - first), [&](auto some) {
          constexpr int J = decltype(some)::value;
          const float* const share = sizes.share(first);
          float* const to_kernels = sums + part * count * size;
          along.assign(count * J * kLanes, 0.0f);
          for (int64_t j = 0; j < J; ++j) writers[j].begin(first + j);
          if (sizes.by_parts) {
            Left up[J], from[J];
            float* to[J];
            for (int64_t j = 0; j < J; ++j) {
              up[j] = above.left(first + j, 0, pixels, in_pairs, gradients[j]);
              from[j] = x.left(first + j, 0, pixels, in_pairs, values[j]);
              to[j] = writers[j].block(first + j, 0, pixels);
            }
            bank.each_part([&](const Bank::Part& columns) {
              bank.mix<J>(columns, share, mixed);
              own.assign(J * columns.size, 0.0f);
              for (int64_t j = 0; j < J; ++j) {
                multiply(up[j], pixels, bank.factor(columns, mixed, j), to[j] + columns.first, ins);
                multiply_outer(up[j], outs, from[j].from(columns.first), ins, columns.columns, pixels,
                               own.data() + j * columns.size);
              }
              bank.back<J>(columns, share, own.data(), along.data(), to_kernels);
            });
            for (int64_t j = 0; j < J; ++j) writers[j].done(first + j, 0, pixels, to[j]);
          } else {
            bank.mix<J>(bank.whole(), share, mixed);
            own.assign(J * size, 0.0f);
            for (int64_t j = 0; j < J; ++j)
              each_block(pixels, sizes.block, [&](int64_t pixel, int64_t few) {
                const Left up = above.left(first + j, pixel, few, in_pairs, gradients[0]);
                const Left from = x.left(first + j, pixel, few, in_pairs, values[0]);
                multiply_outer(up, outs, from, ins, ins, few, own.data() + j * size);
                float* to = writers[j].block(first + j, pixel, few);
                multiply(up, few, bank.factor(bank.whole(), mixed, j), to, ins);
                writers[j].done(first + j, pixel, few, to);
              });
            bank.back<J>(bank.whole(), share, own.data(), along.data(), to_kernels);
          }
          for (int64_t j = 0; j < J; ++j) writers[j].end();
          fold_shares(along, count, J, to_shares + first * count);
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
