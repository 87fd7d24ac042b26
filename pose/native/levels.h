// Images in 8 bits: what a byte of one stands for, and how values become bytes.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "lanes.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace pose {

// A byte q of an image stands for unit (q - zero); no unit: there are no bytes.
struct Levels {
  float unit = 0;
  float zero = 0;  // a whole number

  explicit operator bool() const { return unit > 0; }
};

inline int64_t words_of(int64_t channels) { return (channels + 3) / 4; }

// Bytes between the pixels of an image in bytes: whole words.
inline int64_t bytes_of(int64_t channels) { return words_of(channels) * 4; }

// Rounds values to the nearest byte, those in the middle up; what is not a number becomes 0.
class ToBytes {
 public:
  // Bounds of an activation are kept as well: rounding keeps the order of values, so that bounds of bytes do the same.
  explicit ToBytes(const Levels& levels, int64_t activation = kNone)
      : inverse_(levels.unit > 0 ? 1.0f / levels.unit : 0.0f), shift_(levels.zero + 0.5f) {
    if (activation == kNone || activation == kHardswish) return;
    low_ = (*this)(lower_bound(activation));
    high_ = std::max(low_, (*this)(upper_bound(activation)));
  }

  uint8_t operator()(float from) const {
    const float value = from * inverse_ + shift_, above = value > 0.0f ? value : 0.0f;
    return std::clamp(static_cast<uint8_t>(static_cast<int32_t>(above < 255.0f ? above : 255.0f)), low_, high_);
  }

  // Values that lie one after the other.
  void operator()(const float* from, int64_t count, uint8_t* to) const {
    int64_t i = 0;
#if defined(__AVX512BW__)
    for (; i + 64 <= count; i += 64) {
      Lanes four[4];
      std::memcpy(four, from + i, sizeof(four));
      _mm512_storeu_si512(to + i, bytes_of_four(four));
    }
#endif
    for (; i + kPanel <= count; i += kPanel) sixteen(from + i, to + i);
    for (; i < count; ++i) to[i] = (*this)(from[i]);
  }

  void sixteen(const float* from, uint8_t* to) const {
    Lanes values[kPanel / kLanes];
    for (int part = 0; part < kPanel / kLanes; ++part) values[part] = load<Lanes>(from + part * kLanes);
    store(to, values);
  }

  // Values (pixels, channels) to pixels that are so many bytes apart, their panels of sixteen so many.
  void pixels(const float* from, int64_t count, int64_t channels, int64_t pixel, int64_t panel, uint8_t* to) const {
    for (int64_t i = 0; i < count; ++i, from += channels, to += pixel)
      for (int64_t c = 0; c < channels; c += kPanel) (*this)(from + c, std::min(kPanel, channels - c), to + c / kPanel * panel);
  }

  template <int kCount>
  void store(uint8_t* to, const Lanes (&from)[kCount]) const {
#if defined(__AVX512BW__)
    if constexpr (kCount == 1) return put(sixteen_bytes(from[0]), to);
#elif defined(__AVX2__)
    if constexpr (kCount == 2) {
      const __m256i four = _mm256_packus_epi16(_mm256_packs_epi32(whole(from[0]), whole(from[1])), __m256i{});
      const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
      return put(_mm256_castsi256_si128(_mm256_permutevar8x32_epi32(four, order)), to);
    }
#endif
    for (int i = 0; i < kCount * kLanes; ++i) to[i] = (*this)(from[i / kLanes][i % kLanes]);
  }

#if defined(__AVX2__)
  // Whole numbers, those below 0 to be cut off by what packs them.
  __m256i whole(Eight from) const {
    return _mm256_cvttps_epi32(_mm256_min_ps(Eight{} + 255.0f, from * inverse_ + shift_));  // what is no number stays so
  }

  __m128i bounded(__m128i bytes) const {
    const __m128i above = _mm_max_epu8(bytes, _mm_set1_epi8(static_cast<char>(low_)));
    return _mm_min_epu8(above, _mm_set1_epi8(static_cast<char>(high_)));
  }

  void put(__m128i bytes, uint8_t* to) const { _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bounded(bytes)); }
#endif

#if defined(__AVX512BW__)
  // Four times sixteen values, the sixteens so many bytes apart.
  void store_four(uint8_t* to, int64_t pitch, const Lanes (&from)[4]) const {
    const __m512i all = bytes_of_four(from);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_castsi512_si128(all));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + pitch), _mm512_extracti32x4_epi32(all, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 2 * pitch), _mm512_extracti32x4_epi32(all, 2));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 3 * pitch), _mm512_extracti32x4_epi32(all, 3));
  }

  // The first `mask` of sixteen values.
  void store_some(uint8_t* to, Lanes from, __mmask16 mask) const {
    _mm_mask_storeu_epi8(to, mask, bounded(sixteen_bytes(from)));
  }

 private:
  // As for AVX2: packing cuts off what is below 0, and what is no number becomes the least int32.
  __m512i whole(Lanes from) const {
    return _mm512_cvttps_epi32(_mm512_min_ps(Lanes{} + 255.0f, from * inverse_ + shift_));
  }

  __m128i sixteen_bytes(Lanes from) const {
    return _mm512_cvtusepi32_epi8(_mm512_max_epi32(whole(from), __m512i{}));
  }

  __m512i bytes_of_four(const Lanes (&from)[4]) const {
    const __m512i low = _mm512_packus_epi32(whole(from[0]), whole(from[1]));
    const __m512i four = _mm512_packus_epi16(low, _mm512_packus_epi32(whole(from[2]), whole(from[3])));
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i above = _mm512_max_epu8(_mm512_permutexvar_epi32(order, four), _mm512_set1_epi8(static_cast<char>(low_)));
    return _mm512_min_epu8(above, _mm512_set1_epi8(static_cast<char>(high_)));
  }

 public:
#endif

  uint8_t low() const { return low_; }
  uint8_t high() const { return high_; }

 private:
  float inverse_, shift_;
  uint8_t low_ = 0, high_ = 255;
};

}  // namespace pose
