// bfloat16 arithmetic: products of two values of bfloat16 each, in a word, added up in float32.

#pragma once

#include <cstdint>
#include <cstring>

#include "lanes.h"

#if defined(__AVX512BF16__) && defined(__AVX512F__)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#include <arm_neon.h>
#endif

namespace pose {

// Whether the processor that this is compiled for has such products; else they are those of float32, and gain nothing. On
// ARM they were never run.
#if (defined(__AVX512BF16__) && defined(__AVX512F__)) || defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
constexpr bool kHasPairs = true;
#else
constexpr bool kHasPairs = false;
#endif

typedef uint32_t Bits __attribute__((vector_size(kLanes * sizeof(uint32_t))));

// The bits of float32, or of lanes of them, as bfloat16 in the lower half: to the nearest, in the middle to the even one;
// what is not a number stays so.
template <typename Integer>
inline Integer to_bfloat16(Integer bits) {
  const Integer rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16, kept = bits >> 16 | 0x40;
  return (bits & 0x7fffffff) > 0x7f800000 ? kept : rounded;
}

// Adds to each lane the products of two values, the same for all lanes and the first in the lower half, and of two of its
// own, which lie in `from` lane by lane.
inline Lanes dot(Lanes sums, uint32_t two, const uint16_t* from) {
#if defined(__AVX512BF16__) && defined(__AVX512F__)
  const __m512i own = _mm512_loadu_si512(from), all = _mm512_set1_epi32(static_cast<int>(two));
  return (Lanes)_mm512_dpbf16_ps((__m512)sums, (__m512bh)own, (__m512bh)all);
#elif defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
  const bfloat16x8_t own = vreinterpretq_bf16_u16(vld1q_u16(from)), all = vreinterpretq_bf16_u32(vdupq_n_u32(two));
  return (Lanes)vbfdotq_f32((float32x4_t)sums, own, all);
#else
  Bits bits;
  std::memcpy(&bits, from, sizeof(bits));
  const Bits below = bits << 16, above = bits & 0xffff0000u;
  const uint32_t halves[2] = {two << 16, two & 0xffff0000u};
  Lanes low, high;
  float first, second;
  std::memcpy(&low, &below, sizeof(low));
  std::memcpy(&high, &above, sizeof(high));
  std::memcpy(&first, &halves[0], sizeof(first));
  std::memcpy(&second, &halves[1], sizeof(second));
  return sums + low * first + high * second;
#endif
}

#if defined(__AVX512BW__)
// The same of two values in each lane, and two of weights.
inline Lanes dot(Lanes sums, Bits two, Bits own) {
#if defined(__AVX512BF16__)
  return (Lanes)_mm512_dpbf16_ps((__m512)sums, (__m512bh)own, (__m512bh)two);
#else
  return sums + (Lanes)(own << 16) * (Lanes)(two << 16) + (Lanes)(own & 0xffff0000u) * (Lanes)(two & 0xffff0000u);
#endif
}
#endif

#if defined(__AVX512BF16__) && defined(__AVX512BW__)
// Two rows of sixteen values as bfloat16, the first ones of `low`. The processor takes what is smaller than any normal number
// for zero, as its products do.
inline __m512i as_bfloat16(const float* low, const float* high) {
  return (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(high), _mm512_loadu_ps(low));
}
#endif

// Values (pixels, C) as pairs (pixels, words, 2); an odd last channel's other half is zero.
inline void to_pairs(const float* from, int64_t pixels, int64_t channels, uint16_t* to) {
  if (channels % 2 == 0) channels *= pixels, pixels = 1;  // without gaps between pixels
  for (int64_t pixel = 0; pixel < pixels; ++pixel, from += channels, to += (channels + 1) / 2 * 2) {
    int64_t c = 0;
#if defined(__AVX512BF16__) && defined(__AVX512BW__)
    for (; c + 32 <= channels; c += 32) _mm512_storeu_si512(to + c, as_bfloat16(from + c, from + c + 16));
#endif
    for (; c < channels; ++c) {
      uint32_t bits;
      std::memcpy(&bits, from + c, sizeof(bits));
      to[c] = static_cast<uint16_t>(to_bfloat16(bits));
    }
    if (channels % 2) to[channels] = 0;
  }
}

// A panel of float32, (taps, C, 16), as pairs (taps, words, 16, 2).
inline void make_pairs(const float* panel, int64_t taps, int64_t channels, uint16_t* to) {
#if defined(__AVX512BF16__) && defined(__AVX512BW__)
  if (channels % 2 == 0) {
    alignas(64) int16_t order[32];
    for (int16_t i = 0; i < 16; ++i) order[2 * i] = i, order[2 * i + 1] = static_cast<int16_t>(16 + i);
    const __m512i both = _mm512_load_si512(order);
    for (int64_t row = 0; row < taps * channels; row += 2, to += 32)
      _mm512_storeu_si512(to, _mm512_permutexvar_epi16(both, as_bfloat16(panel + row * kPanel, panel + (row + 1) * kPanel)));
    return;
  }
#endif
  for (int64_t tap = 0; tap < taps; ++tap)
    for (int64_t c = 0; c < channels; c += 2)
      for (int64_t part = 0; part < kPanel; part += kLanes, to += 2 * kLanes) {
        const float* const row = panel + (tap * channels + c) * kPanel + part;
        Bits low, high = {};
        std::memcpy(&low, row, sizeof(low));
        if (c + 1 < channels) std::memcpy(&high, row + kPanel, sizeof(high));
        const Bits both = to_bfloat16(low) | to_bfloat16(high) << 16;
        std::memcpy(to, &both, sizeof(both));
      }
}

}  // namespace pose
