// What a convolution of a training step writes, block by block, and counts as it does: its output, and the gradient of its
// input.

#pragma once

#include "normalized.h"

namespace pose {

// The gradient of a convolution's input, written block by block: counted if the input is normalised, and rounded if it is
// kept so.
struct InputGradient {
  const Features& x;
  Tensor grad, sums;
  bool half;

  explicit InputGradient(const Features& x_)
      : x(x_), grad(at::empty_like(x_.x)), sums(x_.gradient_sums()), half(is_half(grad)) {}

  // One thread's.
  struct Writer {
    const InputGradient& of;
    Sums<2> counted;
    FloatLines scratch;

    explicit Writer(const InputGradient& of_) : of(of_), counted(of_.x.rows) {}

    void begin(int64_t n) {
      if (of.x.normalizes()) counted.to = of.sums.mutable_data_ptr<double>() + n * 2 * of.x.channels;
    }

    // Where a block's gradients are to be made.
    float* block(int64_t n, int64_t pixel, int64_t some) {
      const Place to = place(n, pixel);
      ask_for(to, some * of.x.channels);
      if (!to.half) return static_cast<float*>(to.values);
      return grown(scratch, some * of.x.channels);
    }

    // What is made of a block so far is kept; the block again, to which more is to be added.
    void keep(int64_t n, int64_t pixel, int64_t some, const float* made) const {
      const Place to = place(n, pixel);
      if (to.half) convert({made, false}, some * of.x.channels, to);
    }

    float* again(int64_t n, int64_t pixel, int64_t some) {
      const Place from = place(n, pixel);
      if (!from.half) return static_cast<float*>(from.values);
      convert({from.values, true}, some * of.x.channels, {grown(scratch, some * of.x.channels), false});
      return scratch.data();
    }

    // As soon as it is whole.
    void done(int64_t n, int64_t pixel, int64_t some, const float* made) {
      const Place to = place(n, pixel);
      if (of.x.normalizes()) of.x.count(n, pixel, some, made, nullptr, counted, to.half ? to : Place{nullptr, false});
    }

    void end() { counted.fold(); }

   private:
    Place place(int64_t n, int64_t pixel) const {
      return pose::place(of.grad).from((n * of.x.pixels + pixel) * of.x.channels);
    }
  };
};

// A convolution's output, and each image's mean and sum of squares around it, (N, 2, C), if these are wanted: counted as it
// is written.
struct Output {
  Tensor y, moments;
  Rows rows;
  int64_t pixels;

  Output(at::IntArrayRef shape, const Tensor& like, bool wanted, bool half)
      : y(at::empty(shape, like.options().dtype(half ? at::kBFloat16 : at::kFloat), at::MemoryFormat::ChannelsLast)),
        moments(doubles({wanted ? shape[0] : 0, 2, shape[1]}, like).zero_()), rows(shape[1]), pixels(shape[2] * shape[3]) {}

  // Moments alone, of what is there already.
  Output(at::IntArrayRef shape, const Tensor& like)
      : moments(doubles({shape[0], 2, shape[1]}, like).zero_()), rows(shape[1]), pixels(shape[2] * shape[3]) {}

  bool counts() const { return moments.size(0) > 0; }

  // One image's: values are counted from its first pixel's, so that none loses digits.
  struct Image {
    const Output& of;
    int64_t n;
    FloatLines origin, scratch;
    Sums<2> sums;

    Image(const Output& of_, int64_t n_) : of(of_), n(n_), sums(of.rows) {
      if (of.counts()) sums.to = of.moments.mutable_data_ptr<double>() + n * 2 * of.rows.channels;
    }

    // Where a block's values are to be made.
    float* block(int64_t pixel, int64_t some) {
      const Place to = place(pixel);
      ask_for(to, some * of.rows.channels);
      if (!to.half) return static_cast<float*>(to.values);
      return grown(scratch, some * of.rows.channels);
    }

    // As soon as they are.
    void done(int64_t pixel, int64_t some, const float* made) {
      const Place to = place(pixel);
      if (of.counts()) return add(made, some, to.half ? to : Place{nullptr, false});
      if (to.half) convert({made, false}, some * of.rows.channels, to);
    }

    void add(const float* made, int64_t some, const Place& to = {nullptr, false}) {
      if (origin.empty()) origin = of.rows.spread(made);
      moment_rows(of.rows, made, some, origin.data(), sums, to);
    }

    // After all pixels.
    void end() {
      double* const to = sums.to;
      sums.fold();
      for (int64_t c = 0; to && c < of.rows.channels; ++c) {
        const double offset = to[c] / of.pixels, square = to[of.rows.channels + c] - offset * to[c];
        to[c] = origin[c] + offset, to[of.rows.channels + c] = std::max(square, 0.0);
      }
    }

   private:
    Place place(int64_t pixel) const { return pose::place(of.y).from((n * of.pixels + pixel) * of.rows.channels); }
  };
};

}  // namespace pose
