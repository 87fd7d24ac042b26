// Features whose batch normalisation and activation their readers apply, and the gradients of these, a few pixels at a time
// in the cache: what a convolution of a training step reads; what it writes is in written.h.
//
// A normalisation is (4, C): factor, term, mean and 1 / deviation. Images are channels_last, in float32 or, between the
// convolutions of a block, in bfloat16; what is read of them is float32 or what products of pairs want. Every image is a
// thread's, and sums over images are added up in their order.

#pragma once

#include <optional>
#include <vector>

#include "row_products.h"
#include "rows.h"
#include "tensors.h"

namespace pose {

// (N, 2, C) of images, added up: (2, C).
inline std::vector<double> added_up(const Tensor& parts) {
  const int64_t count = parts.size(1) * parts.size(2);
  const double* part = parts.const_data_ptr<double>();
  std::vector<double> sums(count, 0.0);
  for (int64_t n = 0; n < parts.size(0); ++n, part += count)
    for (int64_t i = 0; i < count; ++i) sums[i] += part[i];
  return sums;
}

// Room for what is read of a block of pixels.
struct Scratch {
  FloatLines floats;
  HalfLines halves;
};

// float32 values as products of pairs want them.
inline const uint16_t* rounded(const float* values, int64_t pixels, int64_t channels, Scratch& scratch) {
  uint16_t* const to = left_of(scratch.halves, pixels, channels);
  convert({values, false}, pixels * channels, {to, true});
  return to;
}

// What a convolution reads: x itself or, with a normalisation, g(norm(x)).
struct Features {
  Tensor x, norm;
  int64_t images, channels, pixels;
  Rows rows;
  RowNorm own;

  explicit Features(const Tensor& x_, const std::optional<Tensor>& norm_ = std::nullopt, int64_t activation = kNone)
      : x(last(x_)), norm(norm_ ? *norm_ : Tensor()), images(x.size(0)), channels(x.size(1)),
        pixels(x.size(2) * x.size(3)), rows(channels) {
    TORCH_CHECK(norm.defined() || !is_half(x), "features in bfloat16 are to be normalised");
    if (!norm.defined()) return;
    const float* values = norm.const_data_ptr<float>();
    own = {activation, rows.spread(values), rows.spread(values + channels), rows.spread(values + 2 * channels),
           FloatLines(rows.width, 0.0f)};
  }

  bool normalizes() const { return norm.defined(); }
  Kept raw(int64_t n, int64_t pixel) const { return kept(x).from((n * pixels + pixel) * channels); }

  void read(int64_t n, int64_t pixel, int64_t some, const Place& to) const {
    if (normalizes()) return normalize_rows(rows, own, raw(n, pixel), some, to);
    convert(raw(n, pixel), some * channels, to);
  }

  // Values of some pixels of an image: where they lie, or made in `scratch`.
  const float* read(int64_t n, int64_t pixel, int64_t some, FloatLines& scratch) const {
    if (!normalizes()) return static_cast<const float*>(raw(n, pixel).values);
    read(n, pixel, some, Place{grown(scratch, some * channels), false});
    return scratch.data();
  }

  // The same as a product wants them.
  Left left(int64_t n, int64_t pixel, int64_t some, bool in_pairs, Scratch& scratch) const {
    if (!in_pairs) return {read(n, pixel, some, scratch.floats), nullptr};
    read(n, pixel, some, Place{left_of(scratch.halves, some, channels), true});
    return {nullptr, scratch.halves.data()};
  }

  // In float32, and as a product wants them.
  Left both(int64_t n, int64_t pixel, int64_t some, bool in_pairs, Scratch& scratch) const {
    const float* floats = read(n, pixel, some, scratch.floats);
    return {floats, in_pairs ? rounded(floats, some, channels, scratch) : nullptr};
  }

  // Where each image's sums of gradients go: (N, 2, C), or nothing.
  Tensor gradient_sums() const { return doubles({normalizes() ? images : 0, 2, channels}, x).zero_(); }

  // From gradients of some pixels' values, and the same more for all of the image if there are `shares`: adds what this
  // normalisation's own gradients are made of, sums of gradients before the activation and of these times x - mean.
  void count(int64_t n, int64_t pixel, int64_t some, const float* gradients, const float* shares, Sums<2>& sums,
             const Place& to = {nullptr, false}) const {
    const FloatLines added = shares ? rows.spread(shares) : FloatLines();
    count_rows(rows, own, raw(n, pixel), some, gradients, shares ? added.data() : nullptr, sums, to);
  }
};

// The gradient of a convolution's output y: what is given, or made of the gradient of g(norm(y)). `slopes` (2, C) are what
// the batch's statistics add: (y - mean) times the first, plus the second.
struct Gradient {
  Tensor grad;
  Features y;
  FloatLines steep, level, more;  // what is added to each of an image's pixels: a row an image, or nothing

  Gradient(const Tensor& grad_, const std::optional<Tensor>& shares, const Tensor& y_, const std::optional<Tensor>& norm,
           const std::optional<Tensor>& slopes, int64_t activation)
      : grad(last(grad_)), y(norm ? y_ : grad, norm, activation) {
    if (!norm) return;
    TORCH_CHECK(is_half(grad) == is_half(y.x), "a gradient is kept as its features are");
    steep = y.rows.spread(slopes->const_data_ptr<float>());
    level = y.rows.spread(slopes->const_data_ptr<float>() + y.channels);
    if (!shares) return;
    const Tensor added = shares->contiguous();
    for (int64_t n = 0; n < y.images; ++n) {
      const FloatLines row = y.rows.spread(added.const_data_ptr<float>() + n * y.channels);
      more.insert(more.end(), row.begin(), row.end());
    }
  }

  void read(int64_t n, int64_t pixel, int64_t some, const Place& to) const {
    const Kept above = kept(grad).from((n * y.pixels + pixel) * y.channels);
    if (!y.normalizes()) return convert(above, some * y.channels, to);
    backward_rows(y.rows, y.own, y.raw(n, pixel), some, above, more.empty() ? nullptr : more.data() + n * y.rows.width,
                  steep.data(), level.data(), to);
  }

  const float* read(int64_t n, int64_t pixel, int64_t some, FloatLines& scratch) const {
    if (!y.normalizes()) return static_cast<const float*>(y.raw(n, pixel).values);
    read(n, pixel, some, Place{grown(scratch, some * y.channels), false});
    return scratch.data();
  }

  Left left(int64_t n, int64_t pixel, int64_t some, bool in_pairs, Scratch& scratch) const {
    if (!in_pairs) return {read(n, pixel, some, scratch.floats), nullptr};
    read(n, pixel, some, Place{left_of(scratch.halves, some, y.channels), true});
    return {nullptr, scratch.halves.data()};
  }

  Left both(int64_t n, int64_t pixel, int64_t some, bool in_pairs, Scratch& scratch) const {
    const float* floats = read(n, pixel, some, scratch.floats);
    return {floats, in_pairs ? rounded(floats, some, y.channels, scratch) : nullptr};
  }
};

}  // namespace pose
