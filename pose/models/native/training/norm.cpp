// Batch normalisation with its activation in a training step on a CPU, forward and backward, and averages over pixels.
//
// Images are channels_last float32. Every image is a thread's, and sums over images are added up in their order: the
// results do not depend on the number of threads.

#include <torch/library.h>

#include <cmath>
#include <numeric>
#include <optional>
#include <tuple>
#include <vector>

#include "lanes.h"
#include "tensors.h"

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
}

TORCH_LIBRARY_IMPL(pose_training, CPU, library) {
  library.impl("norm_forward", &norm_forward);
  library.impl("norm_backward", &norm_backward);
  library.impl("pool", &pool);
}
