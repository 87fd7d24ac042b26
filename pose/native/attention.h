// What makes a kernel dynamic: averages of an image, the attention over kernels, and DCD's branch.
//
// Matrices are (inputs, outputs), so that a product with a vector reads them from beginning to end.

#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "arrays.h"
#include "bytes.h"
#include "lanes.h"

namespace pose {

// A matrix (inputs, outputs), float32 or bfloat16, times a vector.
inline void multiply_vector(const Constant& matrix, const float* inputs, float* out, bool add = false) {
  const int64_t rows = matrix.rows, width = matrix.columns;
  if (matrix.in_words())
    mix(matrix.words(), rows, width, width, inputs, out, add);
  else
    mix(matrix.floats(), rows, width, width, inputs, out, add);
}

// Averages over size x size parts of a channels_last image, (C, size, size), as adaptive_avg_pool2d has them.
inline void pool(const float* image, int64_t height, int64_t width, int64_t channels, int64_t size, float* averages) {
  std::vector<float> part(channels);
  for (int64_t a = 0; a < size; ++a) {
    const int64_t top = a * height / size, bottom = ((a + 1) * height + size - 1) / size;
    for (int64_t b = 0; b < size; ++b) {
      const int64_t left = b * width / size, right = ((b + 1) * width + size - 1) / size;
      std::fill(part.begin(), part.end(), 0.0f);
      float* __restrict__ sums = part.data();
      for (int64_t y = top; y < bottom; ++y) {
        for (int64_t x = left; x < right; ++x) {
          const float* from = image + (y * width + x) * channels;
          for (int64_t c = 0; c < channels; ++c) sums[c] += from[c];
        }
      }
      const float share = 1.0f / static_cast<float>((bottom - top) * (right - left));
      for (int64_t c = 0; c < channels; ++c) averages[(c * size + a) * size + b] = sums[c] * share;
    }
  }
}

// bias + W inputs, W (inputs, outputs).
inline std::vector<float> affine(const Constant& weight, const Constant& bias, const float* inputs) {
  const float* start = bias.floats();
  std::vector<float> out(start, start + bias.size());
  multiply_vector(weight, inputs, out.data(), true);
  return out;
}

// The same, activated by ReLU: a hidden layer.
inline std::vector<float> hidden_layer(const Constant& weight, const Constant& bias, const float* inputs) {
  std::vector<float> out = affine(weight, bias, inputs);
  for (float& value : out) value = std::max(value, 0.0f);
  return out;
}

// The attention over K kernels: W1 (C, hidden) and b1, undefined in CondConv, and W2 (hidden, K) and b2. W1 in bytes is
// (panels, C / 4, 16, 4), and has scales (hidden).
struct Attention {
  Constant w1, b1, w2, b2, scales = {};
  int64_t inputs = 0;             // C
  std::vector<int32_t> columns = {};  // sums of W1's, if it is in bytes

  int64_t kernels() const { return b2.size(); }

  // The kernels' shares for the averages of an image.
  std::vector<float> shares(const float* averages) const {
    if (!w1.defined()) {
      std::vector<float> out = affine(w2, b2, averages);
      for (float& share : out) share = 1.0f / (1.0f + std::exp(-share));
      return out;
    }
    const std::vector<float> hidden = w1.in_bytes() ? hidden_of_bytes(averages) : hidden_layer(w1, b1, averages);
    std::vector<float> out = affine(w2, b2, hidden.data());
    const float largest = *std::max_element(out.begin(), out.end());
    float total = 0;
    for (float& share : out) total += share = std::exp(share - largest);
    for (float& share : out) share /= total;
    return out;
  }

  std::vector<float> hidden_of_bytes(const float* averages) const {
    std::vector<float> out(b1.floats(), b1.floats() + b1.size());
    multiply_vector(w1.bytes(), columns, scales.floats(), FourteenBits(averages, inputs), out.data());
    for (float& value : out) value = std::max(value, 0.0f);
    return out;
  }
};

// From 0 to 2, 1 at 0.
inline float hard_gate(float value) { return std::min(std::max(value + 3.0f, 0.0f), 6.0f) * (1.0f / 3.0f); }

// DCD's branch: hidden values r g(W_gate r) with r = W_reduce averages; Lambda and Phi are one more matrix of them.
inline std::vector<float> branch(const Constant& reduce, const Constant& gate, const float* averages) {
  std::vector<float> hidden(reduce.columns), gates(reduce.columns);
  multiply_vector(reduce, averages, hidden.data());
  multiply_vector(gate, hidden.data(), gates.data());
  for (size_t i = 0; i < gates.size(); ++i) hidden[i] *= hard_gate(gates[i]);
  return hidden;
}

}  // namespace pose
