// Layers that change an image's size and have no constants.

#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "layer.h"

namespace pose {

// Twice as many rows and columns: bilinear, pixels' corners not aligned, or of the nearest pixel, a shortcut added then.
// Every value goes into the answer with the same weight in all, those of the border too: averages stay what they are.
struct UpsampleLayer : Layer {
  bool bilinear;

  explicit UpsampleLayer(bool bilinear) : bilinear(bilinear) {}

  bool convolves() const override { return false; }
  bool adds() const override { return !bilinear; }
  bool keeps_averages() const override { return bilinear; }
  bool gives_bytes() const override { return true; }

  Image shape_after(const Image& x) const override { return {x.channels, 2 * x.rows, 2 * x.columns, nullptr, nullptr}; }

  Image run(const Image& x, Flow& flow) const override {
    flow.known = flow.known && flow.wanted && bilinear;
    Image y = blank(x.channels, 2 * x.rows, 2 * x.columns, flow.to, flow.answer);
    const float* const added = Ends{kNone, flow.shortcut}.added(y);  // not the flow's, which would claim averages
    const int64_t line = x.columns * x.channels;
    const bool bytes = flow.to.in_bytes();
    parallel_for(0, y.rows, 4, [&](int64_t begin, int64_t end) {
      std::vector<float> between(bilinear ? line : 0), kept(bytes ? 2 * line : 0);
      for (int64_t row = begin; row < end; ++row) {
        float* const out = bytes ? kept.data() : y.data + row * 2 * line;
        if (bilinear)
          blend_row(x, row, between.data(), out);
        else
          repeat_columns(x.data + row / 2 * line, x.columns, x.channels, added ? added + row * 2 * line : nullptr, out);
        if (bytes) put_row(out, y, flow.to, row);
      }
    });
    return y;
  }

 private:
  // A row of float32 as bytes.
  static void put_row(const float* from, const Image& y, const Form& form, int64_t row) {
    const Layout to(y, form);
    uint8_t* const out = bytes_in(y) + row * y.columns * to.pixel;
    ToBytes(form.levels).pixels(from, y.columns, y.channels, to.pixel, to.panel, out);
  }

  // A row of the answer by its two nearest, which are blended first.
  static void blend_row(const Image& x, int64_t row, float* between, float* out) {
    const int64_t line = x.columns * x.channels;
    const int64_t other = std::clamp<int64_t>(row % 2 ? row / 2 + 1 : row / 2 - 1, 0, x.rows - 1);
    blend(x.data + row / 2 * line, x.data + other * line, line, between);
    for (int64_t column = 0; column < 2 * x.columns; ++column) {
      const int64_t beside = std::clamp<int64_t>(column % 2 ? column / 2 + 1 : column / 2 - 1, 0, x.columns - 1);
      blend(between + column / 2 * x.channels, between + beside * x.channels, x.channels, out + column * x.channels);
    }
  }

  static void blend(const float* near, const float* far, int64_t count, float* __restrict__ out) {
    for (int64_t i = 0; i < count; ++i) out[i] = 0.75f * near[i] + 0.25f * far[i];
  }

  static void repeat_columns(const float* from, int64_t columns, int64_t channels, const float* added, float* out) {
    for (int64_t column = 0; column < columns; ++column, from += channels)
      for (int twice = 0; twice < 2; ++twice, out += channels) {
        if (!added) {
          std::copy_n(from, channels, out);
          continue;
        }
        for (int64_t c = 0; c < channels; ++c) out[c] = from[c] + added[c];
        added += channels;
      }
  }
};

// The largest value under a window; what lies outside the image counts for nothing.
struct MaxPoolLayer : Layer {
  Geometry geometry;

  explicit MaxPoolLayer(const Geometry& geometry) : geometry(geometry) {}

  bool convolves() const override { return false; }

  Image shape_after(const Image& x) const override {
    return {x.channels, geometry.out(0, x.rows), geometry.out(1, x.columns), nullptr, nullptr};
  }

  Image run(const Image& x, Flow& flow) const override {
    flow.known = false;
    const Image shape = shape_after(x);
    Image y = Image::blank(shape.channels, shape.rows, shape.columns, flow.answer);
    parallel_for(0, y.rows, 4, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row)
        for (int64_t column = 0; column < y.columns; ++column)
          largest(x, row, column, y.data + (row * y.columns + column) * y.channels);
    });
    return y;
  }

 private:
  void largest(const Image& x, int64_t row, int64_t column, float* __restrict__ out) const {
    std::fill_n(out, x.channels, -std::numeric_limits<float>::infinity());
    for (int64_t a = 0; a < geometry.size[0]; ++a) {
      const int64_t i = row * geometry.stride[0] - geometry.padding[0] + a * geometry.dilation[0];
      if (i < 0 || i >= x.rows) continue;
      for (int64_t b = 0; b < geometry.size[1]; ++b) {
        const int64_t j = column * geometry.stride[1] - geometry.padding[1] + b * geometry.dilation[1];
        if (j < 0 || j >= x.columns) continue;
        const float* from = x.data + (i * x.columns + j) * x.channels;
        for (int64_t c = 0; c < x.channels; ++c) out[c] = from[c] > out[c] || from[c] != from[c] ? from[c] : out[c];
      }
    }
  }
};

// The end of a deconvolution 4 x 4 with stride 2 and padding 1. What comes is a convolution 2 x 2 with padding 1 of the
// same image, one row and column larger than it, with four times the channels: the answer's pixel (2 i + a, 2 j + b) is the
// part 2 a + b of pixel (i + a, j + b).
struct InterleaveLayer : Layer {
  bool convolves() const override { return false; }

  Image shape_after(const Image& x) const override {
    if (x.channels % 4 || x.rows < 2 || x.columns < 2) refuse("no four parts of an image to interleave");
    return {x.channels / 4, 2 * (x.rows - 1), 2 * (x.columns - 1), nullptr, nullptr};
  }

  Image run(const Image& x, Flow& flow) const override {
    flow.known = false;
    const Image shape = shape_after(x);
    Image y = Image::blank(shape.channels, shape.rows, shape.columns, flow.answer);
    parallel_for(0, y.rows, 4, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        float* out = y.data + row * y.columns * y.channels;
        for (int64_t column = 0; column < y.columns; ++column, out += y.channels) {
          const int64_t a = row % 2, b = column % 2;
          const float* from = x.data + ((row / 2 + a) * x.columns + column / 2 + b) * x.channels;
          std::copy_n(from + (2 * a + b) * y.channels, y.channels, out);
        }
      }
    });
    return y;
  }
};

}  // namespace pose
