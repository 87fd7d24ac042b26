// What a training step on a CPU is made of, forward and backward: batch normalisation with its activation, averages over
// pixels, attention, and pointwise convolution with mixed kernels; depthwise convolution is in depthwise.cpp.
//
// Images are channels_last float32. Every image is a thread's, and sums over images are added up in their order: the
// results do not depend on the number of threads, but for the bank's gradient.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <tuple>
#include <vector>

#include "lanes.h"

extern "C" void sgemm_(const char*, const char*, const int*, const int*, const int*, const float*, const float*, const int*,
                       const float*, const int*, const float*, float*, const int*) __attribute__((weak));

namespace {

using namespace pose;
using at::Tensor;

constexpr int64_t kFlush = 64;  // rows that are added up in float before they go to a double

// The activation's derivative at z, at its kinks as torch has it.
template <int kActivation>
inline float slope(float z) {
  if constexpr (kActivation == kRelu) return z > 0.0f ? 1.0f : 0.0f;
  if constexpr (kActivation == kRelu6) return (z > 0.0f) & (z < 6.0f) ? 1.0f : 0.0f;
  if constexpr (kActivation == kHardswish) {
    const float inside = z * (1.0f / 3.0f) + 0.5f;
    const float left = z < -3.0f ? 0.0f : inside;
    return z > 3.0f ? 1.0f : left;
  }
  return 1.0f;
}

// An image's pixels taken several at a time, so that a row of memory is whole vectors whatever the channels are.
struct Rows {
  int64_t channels, pixels, width, full, rest;  // of a row and of the last, shorter one

  explicit Rows(const Tensor& x) : channels(x.size(1)), pixels(x.size(2) * x.size(3)) {
    int64_t together = 16 / std::gcd(channels, int64_t{16});
    while (together * channels < 64) together *= 2;
    width = together * channels;
    full = pixels / together;
    rest = pixels % together * channels;
  }

  // Calls `run(offset, count)` for each row of the n-th image, and `flush()` every now and then and at the end.
  template <typename Run, typename Flush>
  void each(int64_t n, const Run& run, const Flush& flush) const {
    int64_t offset = n * pixels * channels;
    for (int64_t row = 0; row < full; ++row, offset += width) {
      run(offset, width);
      if (row % kFlush == kFlush - 1) flush();
    }
    if (rest) run(offset, rest);
    flush();
  }

  // A value per channel, over and over.
  template <typename Value>
  std::vector<float> spread(const Value* values) const {
    std::vector<float> row(width);
    for (int64_t i = 0; i < width; ++i) row[i] = static_cast<float>(values[i % channels]);
    return row;
  }

  // Adds a row's sums to the channels' and clears them.
  void fold(std::vector<float>& row, double* sums) const {
    for (int64_t first = 0; first < width; first += channels)
      for (int64_t c = 0; c < channels; ++c) sums[c] += row[first + c];
    std::fill(row.begin(), row.end(), 0.0f);
  }
};

Tensor last(const Tensor& x) {
  TORCH_CHECK(x.scalar_type() == at::kFloat && x.device().is_cpu() && x.dim() == 4, "needs float32 images on a CPU");
  return x.contiguous(at::MemoryFormat::ChannelsLast);
}

Tensor plain(at::IntArrayRef shape, const Tensor& like) {
  return at::empty(shape, like.options().memory_format(at::MemoryFormat::Contiguous));
}

// The sums (2, C) of an image each, added up.
std::vector<double> total(const std::vector<double>& parts, int64_t images, int64_t count) {
  std::vector<double> sums(count, 0.0);
  for (int64_t n = 0; n < images; ++n)
    for (int64_t i = 0; i < count; ++i) sums[i] += parts[n * count + i];
  return sums;
}

// g(norm(x)) + shortcut, the averages (N, C) of that (empty if not wanted), and the batch's mean and 1 / deviation.
std::tuple<Tensor, Tensor, Tensor, Tensor> norm_forward(const Tensor& input, const Tensor& weight, const Tensor& bias,
                                                        const Tensor& running_mean, const Tensor& running_var,
                                                        const std::optional<Tensor>& shortcut, double momentum,
                                                        double eps, int64_t activation, bool wants_averages) {
  const Tensor x = last(input), added = shortcut ? last(*shortcut) : x;
  const Rows rows(x);
  const int64_t images = x.size(0), channels = rows.channels, count = images * rows.pixels;
  Tensor y = at::empty_like(x), mean = plain({channels}, x), invstd = plain({channels}, x);
  Tensor averages = plain({wants_averages ? images : 0, channels}, x);
  const float* from = x.const_data_ptr<float>();
  const std::vector<float> origin = rows.spread(from);  // the first pixel: sums around it lose no digits
  std::vector<double> parts(images * 2 * channels, 0.0);
  at::parallel_for(0, images, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> sum(rows.width), square(rows.width);
    for (int64_t n = begin; n < end; ++n) {
      double* part = parts.data() + n * 2 * channels;
      rows.each(n, [&](int64_t offset, int64_t width) {
        const float* __restrict__ values = from + offset;
        float *__restrict__ s = sum.data(), *__restrict__ q = square.data();
        const float* __restrict__ o = origin.data();
#pragma omp simd
        for (int64_t i = 0; i < width; ++i) {
          const float value = values[i] - o[i];
          s[i] += value;
          q[i] += value * value;
        }
      }, [&] { rows.fold(sum, part); rows.fold(square, part + channels); });
    }
  });
  const std::vector<double> sums = total(parts, images, 2 * channels);
  std::vector<double> scale(channels), shift(channels);
  float *means = mean.mutable_data_ptr<float>(), *inverses = invstd.mutable_data_ptr<float>();
  float *running = running_mean.mutable_data_ptr<float>(), *variances = running_var.mutable_data_ptr<float>();
  for (int64_t c = 0; c < channels; ++c) {
    const double offset = sums[c] / count, middle = origin[c] + offset;
    const double variance = std::max(sums[channels + c] / count - offset * offset, 0.0);
    means[c] = middle;
    inverses[c] = 1.0 / std::sqrt(variance + eps);
    scale[c] = weight.const_data_ptr<float>()[c] / std::sqrt(variance + eps);
    shift[c] = bias.const_data_ptr<float>()[c] - middle * scale[c];
    running[c] = momentum * middle + (1 - momentum) * running[c];
    variances[c] = momentum * variance * count / (count - 1) + (1 - momentum) * variances[c];
  }
  const std::vector<float> scales = rows.spread(scale.data()), shifts = rows.spread(shift.data());
  const float* adding = shortcut ? added.const_data_ptr<float>() : nullptr;
  float* out = y.mutable_data_ptr<float>();
  at::parallel_for(0, images, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> sum(rows.width);
    std::vector<double> pooled(channels);
    for (int64_t n = begin; n < end; ++n) {
      std::fill(pooled.begin(), pooled.end(), 0.0);
      with_activation(activation, [&](auto kind) {
        rows.each(n, [&](int64_t offset, int64_t width) {
          const float* __restrict__ values = from + offset;
          const float *__restrict__ a = scales.data(), *__restrict__ b = shifts.data();
          float *__restrict__ to = out + offset, *__restrict__ s = sum.data();
#pragma omp simd
          for (int64_t i = 0; i < width; ++i) to[i] = activate<decltype(kind)::value>(values[i] * a[i] + b[i]);
          if (adding) {
            const float* __restrict__ more = adding + offset;
#pragma omp simd
            for (int64_t i = 0; i < width; ++i) to[i] += more[i];
          }
          if (wants_averages) {
#pragma omp simd
            for (int64_t i = 0; i < width; ++i) s[i] += to[i];
          }
        }, [&] { if (wants_averages) rows.fold(sum, pooled.data()); });
      });
      if (wants_averages)
        for (int64_t c = 0; c < channels; ++c)
          averages.mutable_data_ptr<float>()[n * channels + c] = pooled[c] / rows.pixels;
    }
  });
  return {y, averages, mean, invstd};
}

// The gradients of x, weight and bias of g(norm(x)); `grad_averages` (N, C), if any, is that of the averages.
std::tuple<Tensor, Tensor, Tensor> norm_backward(const Tensor& grad, const std::optional<Tensor>& grad_averages,
                                                 const Tensor& input, const Tensor& weight, const Tensor& bias,
                                                 const Tensor& mean, const Tensor& invstd, int64_t activation) {
  const Tensor x = last(input), g = last(grad);
  const Rows rows(x);
  const int64_t images = x.size(0), channels = rows.channels, count = images * rows.pixels;
  Tensor grad_x = at::empty_like(x), grad_weight = plain({channels}, x), grad_bias = plain({channels}, x);
  const Tensor shares = grad_averages ? grad_averages->contiguous().div(rows.pixels) : Tensor();
  const float *from = x.const_data_ptr<float>(), *above = g.const_data_ptr<float>();
  const float *means = mean.const_data_ptr<float>(), *inverses = invstd.const_data_ptr<float>();
  std::vector<double> scale(channels), shift(channels), steep(channels), level(channels);
  for (int64_t c = 0; c < channels; ++c) {
    scale[c] = double(weight.const_data_ptr<float>()[c]) * inverses[c];
    shift[c] = bias.const_data_ptr<float>()[c] - means[c] * scale[c];
  }
  const std::vector<float> scales = rows.spread(scale.data()), shifts = rows.spread(shift.data());
  const std::vector<float> middles = rows.spread(means), none(rows.width, 0.0f);
  const auto shares_of = [&](int64_t n) {
    return grad_averages ? rows.spread(shares.const_data_ptr<float>() + n * channels) : none;
  };
  std::vector<double> parts(images * 2 * channels, 0.0);
  at::parallel_for(0, images, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> sum(rows.width), product(rows.width);
    for (int64_t n = begin; n < end; ++n) {
      const std::vector<float> share = shares_of(n);
      double* part = parts.data() + n * 2 * channels;
      with_activation(activation, [&](auto kind) {
        rows.each(n, [&](int64_t offset, int64_t width) {
          const float *__restrict__ values = from + offset, *__restrict__ up = above + offset;
          const float *__restrict__ a = scales.data(), *__restrict__ b = shifts.data();
          const float *__restrict__ m = middles.data(), *__restrict__ e = share.data();
          float *__restrict__ s = sum.data(), *__restrict__ p = product.data();
#pragma omp simd
          for (int64_t i = 0; i < width; ++i) {
            const float own = (up[i] + e[i]) * slope<decltype(kind)::value>(values[i] * a[i] + b[i]);
            s[i] += own;
            p[i] += own * (values[i] - m[i]);
          }
        }, [&] { rows.fold(sum, part); rows.fold(product, part + channels); });
      });
    }
  });
  const std::vector<double> sums = total(parts, images, 2 * channels);
  for (int64_t c = 0; c < channels; ++c) {
    const double along = sums[channels + c] * inverses[c];
    grad_weight.mutable_data_ptr<float>()[c] = along;
    grad_bias.mutable_data_ptr<float>()[c] = sums[c];
    steep[c] = -scale[c] * along * inverses[c] / count;
    level[c] = -scale[c] * sums[c] / count;
  }
  const std::vector<float> slopes = rows.spread(steep.data()), levels = rows.spread(level.data());
  float* out = grad_x.mutable_data_ptr<float>();
  at::parallel_for(0, images, 1, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      const std::vector<float> share = shares_of(n);
      with_activation(activation, [&](auto kind) {
        rows.each(n, [&](int64_t offset, int64_t width) {
          const float *__restrict__ values = from + offset, *__restrict__ up = above + offset;
          const float *__restrict__ a = scales.data(), *__restrict__ b = shifts.data();
          const float *__restrict__ m = middles.data(), *__restrict__ e = share.data();
          const float *__restrict__ t = slopes.data(), *__restrict__ l = levels.data();
          float* __restrict__ to = out + offset;
#pragma omp simd
          for (int64_t i = 0; i < width; ++i) {
            const float own = (up[i] + e[i]) * slope<decltype(kind)::value>(values[i] * a[i] + b[i]);
            to[i] = own * a[i] + (values[i] - m[i]) * t[i] + l[i];
          }
        }, [] {});
      });
    }
  });
  return {grad_x, grad_weight, grad_bias};
}

// Averages (N, C) of an image's channels.
Tensor pool(const Tensor& input) {
  const Tensor x = last(input);
  const Rows rows(x);
  Tensor averages = plain({x.size(0), rows.channels}, x);
  const float* from = x.const_data_ptr<float>();
  at::parallel_for(0, x.size(0), 1, [&](int64_t begin, int64_t end) {
    std::vector<float> sum(rows.width);
    std::vector<double> pooled(rows.channels);
    for (int64_t n = begin; n < end; ++n) {
      std::fill(pooled.begin(), pooled.end(), 0.0);
      rows.each(n, [&](int64_t offset, int64_t width) {
        const float* __restrict__ values = from + offset;
        float* __restrict__ s = sum.data();
#pragma omp simd
        for (int64_t i = 0; i < width; ++i) s[i] += values[i];
      }, [&] { rows.fold(sum, pooled.data()); });
      for (int64_t c = 0; c < rows.channels; ++c)
        averages.mutable_data_ptr<float>()[n * rows.channels + c] = pooled[c] / rows.pixels;
    }
  });
  return averages;
}

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
      "norm_forward(Tensor x, Tensor weight, Tensor bias, Tensor(a!) running_mean, Tensor(b!) running_var, "
      "Tensor? shortcut, float momentum, float eps, int activation, bool wants_averages) "
      "-> (Tensor, Tensor, Tensor, Tensor)");
  library.def(
      "norm_backward(Tensor grad, Tensor? grad_averages, Tensor x, Tensor weight, Tensor bias, Tensor mean, "
      "Tensor invstd, int activation) -> (Tensor, Tensor, Tensor)");
  library.def("pool(Tensor x) -> Tensor");
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
  library.impl("norm_forward", &norm_forward);
  library.impl("norm_backward", &norm_backward);
  library.impl("pool", &pool);
  library.impl("attend_forward", &attend_forward);
  library.impl("attend_backward", &attend_backward);
  library.impl("mixed_forward", &mixed_forward);
  library.impl("mixed_backward", &mixed_backward);
}
