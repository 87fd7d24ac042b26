// Squeeze-and-excitation.

#pragma once

#include <vector>

#include "layer.h"

namespace pose {

// Squeeze-and-excitation, in place: W1 (C, hidden), W2 (hidden, C).
struct SqueezeExcitationLayer : Layer {
  Constant w1, b1, w2, b2;

  SqueezeExcitationLayer(Constant w1, Constant b1, Constant w2, Constant b2) : w1(w1), b1(b1), w2(w2), b2(b2) {}

  bool wants_averages() const override { return true; }
  bool convolves() const override { return false; }

  Image shape_after(const Image& x) const override {
    if (x.channels != b2.size()) refuse("a layer takes ", b2.size(), " channels, got ", x.channels);
    return x;
  }

  Image run(const Image& x, Flow& flow) const override {
    const int64_t channels = shape_after(x).channels, pixels = x.pixels();
    std::vector<float> own;
    const float* averages = averages_of(x, flow, 1, own);
    std::vector<float> scale = affine(w2, b2, hidden_layer(w1, b1, averages).data());
    for (float& value : scale) value = 0.5f * hard_gate(value);
    std::vector<float> scaled(channels);
    for (int64_t c = 0; c < channels; ++c) scaled[c] = averages[c] * scale[c];
    flow.averages = std::move(scaled);
    flow.known = true;
    float* values = x.data;
    parallel_for(0, pixels, 256, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        float* __restrict__ value = values + i * channels;
        for (int64_t c = 0; c < channels; ++c) value[c] *= scale[c];
      }
    });
    return x;
  }
};

}  // namespace pose
