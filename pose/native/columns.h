// Neighbouring values along a row of a depthwise layer's answer, some channels of each: what taps make of them, and how
// they are finished. Values lie `pitch` apart from pixel to pixel.

#pragma once

#include "lanes.h"

namespace pose {

// Adds what a row of taps makes of neighbouring pixels, the first of which lies at `line`; taps lie as pixels do.
template <int K, int S, int kColumns>
inline void tap_row(const float* line, const float* taps, int64_t pitch, Lanes (&values)[kColumns]) {
  Lanes tap[K];
#pragma GCC unroll 8
  for (int b = 0; b < K; ++b) tap[b] = load<Lanes>(taps + b * pitch);
#pragma GCC unroll 32
  for (int j = 0; j < (kColumns - 1) * S + K; ++j) {
    const Lanes value = load<Lanes>(line + j * pitch);
#pragma GCC unroll 8
    for (int o = 0; o < kColumns; ++o)
      if (j - o * S >= 0 && j - o * S < K) values[o] += value * tap[j - o * S];
  }
}

// Writes values to y, activated, the shortcut added before, which lies as y or is null; their sum is added to `sums`.
template <typename Value, int kColumns>
inline void finish_columns(float* y, const float* shortcut, float* sums, int64_t pitch, int64_t activation,
                           Value (&values)[kColumns]) {
  if (shortcut)
    for (int o = 0; o < kColumns; ++o) values[o] += load<Value>(shortcut + o * pitch);
  if (activation == kHardswish) {
    for (Value& value : values) value = activate<kHardswish>(value);
  } else {
    const Value zero = {}, low = zero + lower_bound(activation), high = zero + upper_bound(activation);
    for (Value& value : values) value = between(value, low, high);
  }
  Value total = load<Value>(sums);
#pragma GCC unroll 8
  for (int o = 0; o < kColumns; ++o) {
    store(y + o * pitch, values[o]);
    total += values[o];
  }
  store(sums, total);
}

}  // namespace pose
