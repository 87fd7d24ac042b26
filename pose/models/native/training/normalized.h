// Features whose batch normalisation and activation their readers apply, and the gradients of these, a few pixels at a time
// in the cache: what a convolution of a training step reads, and what it counts of what it writes.
//
// A normalisation is (4, C): factor, term, mean and 1 / deviation. Images are channels_last float32. Every image is a
// thread's, and sums over images are added up in their order.

#pragma once

#include <algorithm>
#include <numeric>
#include <optional>
#include <vector>

#include "lanes.h"
#include "tensors.h"

namespace pose {

constexpr int64_t kFlush = 64;  // rows that are added up in float before they go to a double
constexpr int64_t kBlock = 16 << 10;  // values of pixels that are taken at once where nothing else says how many

// Asks for lines of memory in their order, which are written next in another one, that no processor foresees.
inline void ask_for(const float* to, int64_t values) {
  for (int64_t i = 0; i < values; i += 16) __builtin_prefetch(to + i, 1, 2);
}

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

// Pixels taken several at a time, so that a row of memory is whole vectors whatever the channels are.
struct Rows {
  int64_t channels, together, width;

  explicit Rows(int64_t channels_) : channels(channels_), together(16 / std::gcd(channels_, int64_t{16})) {
    while (together * channels < 64) together *= 2;
    width = together * channels;
  }

  // Calls `run(offset, count)` for each row of so many pixels.
  template <typename Run>
  void each(int64_t pixels, const Run& run) const {
    const int64_t values = pixels * channels;
    for (int64_t offset = 0; offset < values; offset += width) run(offset, std::min(width, values - offset));
  }

  // A value per channel, over and over.
  template <typename Value>
  std::vector<float> spread(const Value* values) const {
    std::vector<float> row(width);
    for (int64_t first = 0; first < width; first += channels)
      for (int64_t c = 0; c < channels; ++c) row[first + c] = static_cast<float>(values[c]);
    return row;
  }
};

// Sums of each channel's values, or two of them, added up over an image's pixels: a row's in float, which go to doubles
// every now and then and at the end.
template <int kCount>
struct Sums {
  const Rows& rows;
  std::vector<float> own[kCount];
  double* to = nullptr;  // (kCount, C)
  int64_t added = 0;

  explicit Sums(const Rows& rows_) : rows(rows_) {
    for (auto& row : own) row.resize(rows.width);
  }

  // After each row.
  void next() {
    if (++added == kFlush) fold();
  }

  void fold() {
    for (int i = 0; i < kCount && added; ++i) {
      for (int64_t first = 0; first < rows.width; first += rows.channels)
        for (int64_t c = 0; c < rows.channels; ++c) to[i * rows.channels + c] += own[i][first + c];
      std::fill(own[i].begin(), own[i].end(), 0.0f);
    }
    added = 0;
  }
};

inline Tensor doubles(at::IntArrayRef shape, const Tensor& like) {
  return at::empty(shape, like.options().dtype(at::kDouble).memory_format(at::MemoryFormat::Contiguous));
}

// (N, 2, C) of images, added up: (2, C).
inline std::vector<double> added_up(const Tensor& parts) {
  const int64_t count = parts.size(1) * parts.size(2);
  const double* part = parts.const_data_ptr<double>();
  std::vector<double> sums(count, 0.0);
  for (int64_t n = 0; n < parts.size(0); ++n, part += count)
    for (int64_t i = 0; i < count; ++i) sums[i] += part[i];
  return sums;
}

// What a convolution reads: x itself or, with a normalisation, g(norm(x)).
struct Features {
  Tensor x, norm;
  int64_t activation, images, channels, pixels;
  Rows rows;
  std::vector<float> factors, terms, means, none;

  explicit Features(const Tensor& x_, const std::optional<Tensor>& norm_ = std::nullopt, int64_t activation_ = kNone)
      : x(last(x_)), norm(norm_ ? *norm_ : Tensor()), activation(activation_), images(x.size(0)), channels(x.size(1)),
        pixels(x.size(2) * x.size(3)), rows(channels) {
    if (!norm.defined()) return;
    const float* values = norm.const_data_ptr<float>();
    factors = rows.spread(values), terms = rows.spread(values + channels), means = rows.spread(values + 2 * channels);
    none.assign(rows.width, 0.0f);
  }

  bool normalizes() const { return norm.defined(); }
  const float* raw(int64_t n, int64_t pixel) const { return x.const_data_ptr<float>() + (n * pixels + pixel) * channels; }

  // Values of some pixels of an image: where they lie, or made in `scratch`.
  const float* read(int64_t n, int64_t pixel, int64_t some, float* scratch) const {
    const float* from = raw(n, pixel);
    if (!normalizes()) return from;
    with_activation(activation, [&](auto kind) {
      rows.each(some, [&](int64_t offset, int64_t width) {
        const float* __restrict__ values = from + offset;
        const float *__restrict__ a = factors.data(), *__restrict__ b = terms.data();
        float* __restrict__ to = scratch + offset;
#pragma omp simd
        for (int64_t i = 0; i < width; ++i) to[i] = activate<decltype(kind)::value>(values[i] * a[i] + b[i]);
      });
    });
    return scratch;
  }

  // Values of scratch that so many pixels take.
  int64_t scratch(int64_t some) const { return normalizes() ? some * channels : 0; }

  // Where each image's sums of gradients go: (N, 2, C), or nothing.
  Tensor gradient_sums() const { return doubles({normalizes() ? images : 0, 2, channels}, x).zero_(); }

  // From gradients of some pixels' values, and the same more for all of the image if there are `shares`: adds what this
  // normalisation's own gradients are made of, sums of gradients before the activation and of these times x - mean.
  void count(int64_t n, int64_t pixel, int64_t some, const float* gradients, const float* shares, Sums<2>& sums) const {
    const float* from = raw(n, pixel);
    const std::vector<float> added = shares ? rows.spread(shares) : std::vector<float>();
    const std::vector<float>& more = shares ? added : none;
    with_activation(activation, [&](auto kind) {
      rows.each(some, [&](int64_t offset, int64_t width) {
        const float *__restrict__ values = from + offset, *__restrict__ up = gradients + offset;
        const float *__restrict__ a = factors.data(), *__restrict__ b = terms.data();
        const float *__restrict__ m = means.data(), *__restrict__ e = more.data();
        float *__restrict__ s = sums.own[0].data(), *__restrict__ p = sums.own[1].data();
#pragma omp simd
        for (int64_t i = 0; i < width; ++i) {
          const float own = (up[i] + e[i]) * slope<decltype(kind)::value>(values[i] * a[i] + b[i]);
          s[i] += own;
          p[i] += own * (values[i] - m[i]);
        }
        sums.next();
      });
    });
  }
};

// The gradient of a convolution's output y: what is given, or made of the gradient of g(norm(y)). `slopes` (2, C) are what
// the batch's statistics add: (y - mean) times the first, plus the second.
struct Gradient {
  Tensor grad, shares;  // (N, C) is added to each pixel's
  Features y;
  std::vector<float> steep, level;

  Gradient(const Tensor& grad_, const std::optional<Tensor>& shares_, const Tensor& y_, const std::optional<Tensor>& norm,
           const std::optional<Tensor>& slopes, int64_t activation)
      : grad(last(grad_)), shares(shares_ ? shares_->contiguous() : Tensor()), y(norm ? y_ : grad, norm, activation) {
    if (!norm) return;
    steep = y.rows.spread(slopes->const_data_ptr<float>());
    level = y.rows.spread(slopes->const_data_ptr<float>() + y.channels);
  }

  const float* read(int64_t n, int64_t pixel, int64_t some, float* scratch) const {
    const float* above = grad.const_data_ptr<float>() + (n * y.pixels + pixel) * y.channels;
    if (!y.normalizes()) return above;
    const float* from = y.raw(n, pixel);
    std::vector<float> added;
    if (shares.defined()) added = y.rows.spread(shares.const_data_ptr<float>() + n * y.channels);
    const std::vector<float>& more = shares.defined() ? added : y.none;
    with_activation(y.activation, [&](auto kind) {
      y.rows.each(some, [&](int64_t offset, int64_t width) {
        const float *__restrict__ values = from + offset, *__restrict__ up = above + offset;
        const float *__restrict__ a = y.factors.data(), *__restrict__ b = y.terms.data();
        const float *__restrict__ m = y.means.data(), *__restrict__ e = more.data();
        const float *__restrict__ t = steep.data(), *__restrict__ l = level.data();
        float* __restrict__ to = scratch + offset;
#pragma omp simd
        for (int64_t i = 0; i < width; ++i) {
          const float own = (up[i] + e[i]) * slope<decltype(kind)::value>(values[i] * a[i] + b[i]);
          to[i] = own * a[i] + (values[i] - m[i]) * t[i] + l[i];
        }
      });
    });
    return scratch;
  }

  int64_t scratch(int64_t some) const { return y.scratch(some); }
};

// Each image's mean and sum of squares around it, (N, 2, C): of a convolution's output, counted as it is written.
struct Moments {
  Tensor parts;
  Rows rows;
  int64_t pixels;

  Moments(const Tensor& y, bool wanted)
      : parts(doubles({wanted ? y.size(0) : 0, 2, y.size(1)}, y).zero_()), rows(y.size(1)), pixels(y.size(2) * y.size(3)) {}

  bool wanted() const { return parts.size(0) > 0; }

  // One image's: values are counted from its first pixel's, so that none loses digits.
  struct Image {
    const Moments& of;
    std::vector<float> origin;
    Sums<2> sums;

    Image(const Moments& of_, int64_t n) : of(of_), sums(of.rows) {
      if (of.wanted()) sums.to = of.parts.mutable_data_ptr<double>() + n * 2 * of.rows.channels;
    }

    void add(const float* from, int64_t some) {
      if (!sums.to) return;
      if (origin.empty()) origin = of.rows.spread(from);
      of.rows.each(some, [&](int64_t offset, int64_t width) {
        const float *__restrict__ values = from + offset, *__restrict__ o = origin.data();
        float *__restrict__ s = sums.own[0].data(), *__restrict__ q = sums.own[1].data();
#pragma omp simd
        for (int64_t i = 0; i < width; ++i) {
          const float value = values[i] - o[i];
          s[i] += value;
          q[i] += value * value;
        }
        sums.next();
      });
    }

    // After all pixels.
    void finish() {
      double* const to = sums.to;
      sums.fold();
      for (int64_t c = 0; to && c < of.rows.channels; ++c) {
        const double offset = to[c] / of.pixels, square = to[of.rows.channels + c] - offset * to[c];
        to[c] = origin[c] + offset, to[of.rows.channels + c] = std::max(square, 0.0);
      }
    }
  };
};

}  // namespace pose
