// What the native sources share: the processor's vectors, activations, and sums of scaled rows.

#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

namespace pose {

// A vector of the processor's, and how many pixels of a product it keeps the sums of in its registers.
#if defined(__AVX512F__)
constexpr int kLanes = 16, kTile = 10;
#elif defined(__AVX__)
constexpr int kLanes = 8, kTile = 6;
#elif defined(__aarch64__)
constexpr int kLanes = 4, kTile = 6;
#else
constexpr int kLanes = 4, kTile = 2;
#endif
// Outputs whose weights lie together.
constexpr int64_t kPanel = 16;

typedef float Lanes __attribute__((vector_size(kLanes * sizeof(float))));
typedef float Eight __attribute__((vector_size(32)));

// From and to an address that is aligned to a float only.
template <typename Value>
inline Value load(const float* from) {
  Value value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

template <typename Value>
inline void store(float* to, Value value) {
  std::memcpy(to, &value, sizeof(value));
}

enum Activation { kNone, kRelu, kRelu6, kHardswish };

// Activations but hard swish are bounds.
constexpr float kFar = std::numeric_limits<float>::infinity();
inline float lower_bound(int64_t activation) { return activation == kNone ? -kFar : 0.0f; }
inline float upper_bound(int64_t activation) { return activation == kRelu6 ? 6.0f : kFar; }

// A float's or lanes' values between two bounds; what is not a number stays so.
template <typename Value>
inline Value between(Value value, Value low, Value high) {
  const Value above = value < low ? low : value;
  return above > high ? high : above;
}

// Of a float or of lanes.
template <int kActivation, typename Value>
inline Value activate(Value value) {
  const Value zero = Value{}, six = zero + 6.0f;
  if constexpr (kActivation == kRelu) return value < zero ? zero : value;
  if constexpr (kActivation == kRelu6) return between<Value>(value, zero, six);
  if constexpr (kActivation == kHardswish) return value * between<Value>(value + 3.0f, zero, six) * (1.0f / 6.0f);
  return value;
}

// Calls `run` with the activation as a constant of the compiler's.
template <typename Run>
void with_activation(int64_t activation, const Run& run) {
  switch (activation) {
    case kRelu: return run(std::integral_constant<int, kRelu>{});
    case kRelu6: return run(std::integral_constant<int, kRelu6>{});
    case kHardswish: return run(std::integral_constant<int, kHardswish>{});
    default: return run(std::integral_constant<int, kNone>{});
  }
}

// out = sum over k of shares[k] times row k, plus what is there if `add`; rows lie `stride` values apart. A mixture of
// kernels, and a product of a vector and a matrix.
inline void mix(const float* rows, int64_t count, int64_t stride, int64_t width, const float* shares,
                float* __restrict__ out, bool add = false) {
  int64_t k = 0;
  if (!add && count >= 4) {
    const float *a = rows, *b = rows + stride, *c = rows + 2 * stride, *d = rows + 3 * stride;
    const float p = shares[0], q = shares[1], r = shares[2], s = shares[3];
    for (int64_t i = 0; i < width; ++i) out[i] = p * a[i] + q * b[i] + r * c[i] + s * d[i];
    k = 4;
  } else if (!add) {
    std::memset(out, 0, width * sizeof(float));
  }
  for (; k + 4 <= count; k += 4) {
    const float *a = rows + k * stride, *b = a + stride, *c = b + stride, *d = c + stride;
    const float p = shares[k], q = shares[k + 1], r = shares[k + 2], s = shares[k + 3];
    for (int64_t i = 0; i < width; ++i) out[i] += p * a[i] + q * b[i] + r * c[i] + s * d[i];
  }
  for (; k < count; ++k) {
    const float* row = rows + k * stride;
    for (int64_t i = 0; i < width; ++i) out[i] += shares[k] * row[i];
  }
}

// Rows of bfloat16 come in words: of each sixteen values i and i + 8 lie side by side, so that a shift and a mask widen
// them (where the first byte is the lowest). Widths are multiples of sixteen.
typedef uint32_t Words __attribute__((vector_size(32)));

struct Sixteen {
  Eight low = {}, high = {};

  void add(const uint16_t* from, float share) {
    Words words;
    std::memcpy(&words, from, sizeof(words));
    const Words below = words << 16, above = words & 0xffff0000u;
    Eight first, second;
    std::memcpy(&first, &below, sizeof(first));
    std::memcpy(&second, &above, sizeof(second));
    low += first * share;
    high += second * share;
  }
};

// The same.
inline void mix(const uint16_t* rows, int64_t count, int64_t stride, int64_t width, const float* shares,
                float* __restrict__ out, bool add = false) {
  for (int64_t k = 0; k < count || (k == 0 && !add); k += 4) {
    const uint16_t* from = rows + k * stride;
    const int64_t some = count - k < 4 ? count - k : 4;
    for (int64_t i = 0; i < width; i += 16) {
      Sixteen sum;
      if (add || k > 0) std::memcpy(static_cast<void*>(&sum), out + i, sizeof(sum));
      if (some == 4) {
        sum.add(from + i, shares[k]);
        sum.add(from + i + stride, shares[k + 1]);
        sum.add(from + i + 2 * stride, shares[k + 2]);
        sum.add(from + i + 3 * stride, shares[k + 3]);
      } else {
        for (int64_t j = 0; j < some; ++j) sum.add(from + i + j * stride, shares[k + j]);
      }
      std::memcpy(out + i, &sum, sizeof(sum));
    }
  }
}

}  // namespace pose
