// Values as a training step keeps them: float32, or bfloat16, which is widened as it is read and rounded as it is written.

#pragma once

#include <cstdint>
#include <cstring>

#include "lanes.h"
#include "pairs.h"

namespace pose {

typedef uint16_t Halves __attribute__((vector_size(kLanes * sizeof(uint16_t))));

// Where values lie, to be read.
struct Kept {
  const void* values;
  bool half;

  Kept from(int64_t place) const { return {static_cast<const char*>(values) + place * (half ? 2 : 4), half}; }
};

// Where they go.
struct Place {
  void* values;
  bool half;

  Place from(int64_t place) const { return {static_cast<char*>(values) + place * (half ? 2 : 4), half}; }
};

// Lanes of values, or one of them.
template <typename Value>
inline Value get(const float* from) {
  return load<Value>(from);
}

template <typename Value>
inline Value get(const uint16_t* from) {
  Value value;
  if constexpr (sizeof(Value) == sizeof(float)) {
    const uint32_t bits = static_cast<uint32_t>(*from) << 16;
    std::memcpy(&value, &bits, sizeof(value));
  } else {
    Halves halves;
    std::memcpy(&halves, from, sizeof(halves));
    const Bits bits = __builtin_convertvector(halves, Bits) << 16;
    std::memcpy(&value, &bits, sizeof(value));
  }
  return value;
}

template <typename Value>
inline void put(float* to, Value value) {
  store(to, value);
}

template <typename Value>
inline void put(uint16_t* to, Value value) {
  if constexpr (sizeof(Value) == sizeof(float)) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    *to = static_cast<uint16_t>(to_bfloat16(bits));
  } else {
#if defined(__AVX512BF16__) && defined(__AVX512F__)
    const __m256bh halves = _mm512_cvtneps_pbh((__m512)value);
#else
    Bits bits;
    std::memcpy(&bits, &value, sizeof(bits));
    const Halves halves = __builtin_convertvector(to_bfloat16(bits), Halves);
#endif
    std::memcpy(to, &halves, sizeof(halves));
  }
}

// Words of two values each, the first in the lower half: widened, and made again.
inline void widen(const uint32_t* from, Lanes& low, Lanes& high) {
  Bits bits;
  std::memcpy(&bits, from, sizeof(bits));
  const Bits below = bits << 16, above = bits & 0xffff0000u;
  std::memcpy(&low, &below, sizeof(low));
  std::memcpy(&high, &above, sizeof(high));
}

inline void put_words(uint32_t* to, Lanes low, Lanes high) {
#if defined(__AVX512BF16__) && defined(__AVX512F__)
  const auto wide = [](Lanes values) { return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)values)); };
  _mm512_storeu_si512(to, _mm512_or_si512(wide(low), _mm512_slli_epi32(wide(high), 16)));
#else
  const auto half = [](Lanes values) {
    Bits bits;
    std::memcpy(&bits, &values, sizeof(bits));
    return to_bfloat16(bits);
  };
  const Bits both = half(low) | half(high) << 16;
  std::memcpy(to, &both, sizeof(both));
#endif
}

// Calls `run(Value, i)` for whole lanes of a row, then for each value that is left.
template <typename Run>
inline void each_lanes(int64_t width, const Run& run) {
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) run(Lanes{}, i);
  for (; i < width; ++i) run(float{}, i);
}

}  // namespace pose
