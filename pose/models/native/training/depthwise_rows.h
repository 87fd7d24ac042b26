// A row of depthwise convolution and of its way back. Rows come with zeros on both sides, and a row of zeros stands for each
// one beyond the image, so that no place is a special one.

#pragma once

#include <type_traits>

#include "lanes.h"

namespace pose {

constexpr int kRegisters = kLanes == 8 ? 16 : 32;  // of vectors

// A row of the answer: a K x K kernel, stride S. `rows` are K, from their zeros on; `taps` are (K K, C).
template <int K, int S, typename Value>
inline void convolve_row(const float* const* rows, const float* taps, int64_t channels, int64_t columns, float* out) {
  Value kernel[K * K];
  const float* from[K];
  for (int i = 0; i < K * K; ++i) kernel[i] = load<Value>(taps + i * channels);
  for (int i = 0; i < K; ++i) from[i] = rows[i];
  for (int64_t column = 0; column < columns; ++column, out += channels) {
    Value sum = Value{};
#pragma GCC unroll 25
    for (int i = 0; i < K * K; ++i) sum += kernel[i] * load<Value>(from[i / K] + i % K * channels);
    store(out, sum);
    for (int i = 0; i < K; ++i) from[i] += S * channels;
  }
}

// One row of the image's gradient and, added to the kernel's (K K, C), what this row of the image gives: both, or one of
// them. `rows` are those of the gradient above that a row of the kernel meets, from the first pixel on that is not zero
// for being outside; P is the row plus K / 2, modulo S.
template <int K, int S, int P, bool kImage, bool kTaps, typename Value>
inline void convolve_back(const float* const* rows, const float* image, const float* taps, int64_t channels, int64_t width,
                          float* grad_image, float* grad_taps) {
  Value kernel[K * K], sums[K * K] = {};
  for (int i = 0; i < K * K && kImage; ++i) kernel[i] = load<Value>(taps + i * channels);
  const auto pixel = [&](auto phase, int64_t column) {
    const int64_t place = column * channels, above = column / S * channels;
    Value value = Value{}, sum = Value{};
    if (kTaps) value = load<Value>(image + place);
#pragma GCC unroll 25
    for (int i = 0; i < K * K; ++i) {
      const int right = decltype(phase)::value + K / 2 - i % K;
      if ((P - i / K) % S || right % S) continue;
      const Value up = load<Value>(rows[i / K] + above + right / S * channels);
      if (kImage) sum += kernel[i] * up;
      if (kTaps) sums[i] += value * up;
    }
    if (kImage) store(grad_image + place, sum);
  };
  for (int64_t column = 0; column < width; column += S) {
    pixel(std::integral_constant<int, 0>{}, column);
    if constexpr (S == 2)
      if (column + 1 < width) pixel(std::integral_constant<int, 1>{}, column + 1);
  }
  for (int i = 0; i < K * K && kTaps; ++i) {
    float* to = grad_taps + i * channels;
    store(to, load<Value>(to) + sums[i]);
  }
}

// Both gradients: at once where the registers hold the kernel and its gradient, else one after the other.
template <int K, int S, int P, typename Value>
inline void convolve_back_row(const float* const* rows, const float* image, const float* taps, int64_t channels,
                              int64_t width, float* grad_image, float* grad_taps) {
  constexpr bool both = 2 * K * K + 3 <= kRegisters;
  convolve_back<K, S, P, true, both, Value>(rows, image, taps, channels, width, grad_image, grad_taps);
  if (!both) convolve_back<K, S, P, false, true, Value>(rows, image, taps, channels, width, grad_image, grad_taps);
}

}  // namespace pose
