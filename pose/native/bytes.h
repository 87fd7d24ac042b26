// 8-bit arithmetic: products of unsigned and signed bytes, four at a time, added up in 32 bits.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "lanes.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace pose {

typedef int32_t Counts __attribute__((vector_size(kLanes * sizeof(int32_t))));

// Adds to each lane the products of four unsigned bytes, the same for all lanes and the lowest first, and four signed ones
// of its own, which lie in `from` lane by lane. Exact where two neighbouring products stay within 16 bits together: some
// processors add them there.
inline Counts dot(Counts sums, uint32_t four, const int8_t* from) {
#if defined(__AVX512VNNI__) && defined(__AVX512F__)
  return (Counts)_mm512_dpbusd_epi32((__m512i)sums, _mm512_set1_epi32(static_cast<int>(four)), _mm512_loadu_si512(from));
#elif defined(__AVXVNNI__) && !defined(__AVX512F__)
  const __m256i own = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return (Counts)_mm256_dpbusd_avx_epi32((__m256i)sums, _mm256_set1_epi32(static_cast<int>(four)), own);
#elif defined(__AVX512BW__)
  const __m512i pairs = _mm512_maddubs_epi16(_mm512_set1_epi32(static_cast<int>(four)), _mm512_loadu_si512(from));
  return sums + (Counts)_mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
#elif defined(__AVX2__) && !defined(__AVX512F__)
  const __m256i own = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi32(static_cast<int>(four)), own);
  return sums + (Counts)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
#else
  for (int lane = 0; lane < kLanes; ++lane)
    for (int i = 0; i < 4; ++i) sums[lane] += static_cast<int32_t>(four >> 8 * i & 255) * from[4 * lane + i];
  return sums;
#endif
}

#if defined(__AVX512BW__)
// The same of four unsigned bytes in each lane, and four signed ones.
inline Counts dot(Counts sums, Counts four, Counts own) {
#if defined(__AVX512VNNI__)
  return (Counts)_mm512_dpbusd_epi32((__m512i)sums, (__m512i)four, (__m512i)own);
#else
  const __m512i pairs = _mm512_maddubs_epi16((__m512i)four, (__m512i)own);
  return sums + (Counts)_mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
#endif
}
#endif

inline Lanes to_lanes(Counts sums) { return __builtin_convertvector(sums, Lanes); }
inline Lanes to_lanes(Lanes sums) { return sums; }

// Weights whose products are added up in 16 bits: the positive, or the negative ones, together.
constexpr int32_t kMostTogether = 128;
// Added to a value, it leaves the nearest whole number in the lowest bits.
constexpr float kToWhole = 12582912.0f;
// Products that are added up in 32 bits at most: so no sum overflows.
constexpr int64_t kMostByteProducts = 65536;

// The shares of an image's kernels as bytes, four kernels in a word, the last word filled up with zeros, and what one is
// worth: they add up to what the shares do. Two neighbours are at most 258 together, for products with up to 127.
struct ByteShares {
  std::vector<uint32_t> words;
  float unit = 0;

  explicit ByteShares(const std::vector<float>& shares) : words((shares.size() + 3) / 4) {
    float largest = 0, pair = 0, total = 0;
    for (size_t k = 0; k < shares.size(); ++k) {
      total += shares[k];
      largest = std::max(largest, shares[k]);
      if (k % 2) pair = std::max(pair, shares[k - 1] + shares[k]);
    }
    unit = total;  // what is not a number stays so
    const float most = std::max(largest / 255.0f, pair / 257.0f);  // one less: both may be rounded up
    if (!(total > 0) || !std::isfinite(total) || !(most > 0)) return;
    uint32_t sum = 0;
    for (size_t k = 0; k < shares.size(); ++k) {
      const auto byte = static_cast<uint32_t>(std::lround(std::min(shares[k] / most, 255.0f)));
      words[k / 4] |= byte << 8 * (k % 4);
      sum += byte;
    }
    unit = total / static_cast<float>(sum);
  }
};

// The same as bytes that add up to 256 at most, none above 255: so a mixture of bytes, divided by 256, is a byte. What rounding
// leaves goes to those that it took most from. `unit` is what a mixture's byte is worth.
struct ByteParts {
  std::vector<uint32_t> words;
  float unit = 0;

  explicit ByteParts(const std::vector<float>& shares) : words((shares.size() + 3) / 4) {
    float total = 0;
    for (const float share : shares) total += share;
    unit = total;  // what is not a number stays so
    if (!(total > 0) || !std::isfinite(total)) return;
    std::vector<int64_t> parts(shares.size());
    std::vector<float> left(shares.size());
    int64_t sum = 0;
    for (size_t k = 0; k < shares.size(); ++k) {
      const float exact = std::clamp(shares[k] / total * 256.0f, 0.0f, 255.0f);
      parts[k] = static_cast<int64_t>(exact);
      left[k] = parts[k] < 255 ? exact - static_cast<float>(parts[k]) : -1.0f;
      sum += parts[k];
    }
    for (; sum < 256; ++sum) {
      const size_t most = std::max_element(left.begin(), left.end()) - left.begin();
      if (left[most] < 0) break;  // a single kernel has 255
      ++parts[most];
      left[most] = -1.0f;
    }
    for (size_t k = 0; k < shares.size(); ++k) words[k / 4] |= static_cast<uint32_t>(parts[k]) << 8 * (k % 4);
    unit = total * 256.0f / static_cast<float>(sum);
  }
};

// Mixes kernels of bytes, (words of shares, size, 4), to `size` whole numbers as floats: what one is worth is the shares'
// unit times the scale of the bytes. The size is a multiple of sixteen.
inline void mix(const int8_t* bank, int64_t size, const ByteShares& shares, float* __restrict__ out) {
  const size_t words = shares.words.size();
  const uint32_t first = shares.words[0];
  for (int64_t i = 0; i < size; i += kLanes) {
    Counts sums = dot(Counts{}, first, bank + 4 * i);
    for (size_t word = 1; word < words; ++word) sums = dot(sums, shares.words[word], bank + 4 * (word * size + i));
    store(out + i, __builtin_convertvector(sums, Lanes));
  }
}

// A vector in whole numbers of 14 bits, in halves of seven of which the upper one has an offset of 64: any sign, and exact
// products with bytes.
struct FourteenBits {
  std::vector<uint32_t> high, low;  // four values in a word
  float unit = 0;

  FourteenBits(const float* values, int64_t count) : high((count + 3) / 4), low(high.size()) {
    float largest = 0;
    for (int64_t i = 0; i < count; ++i) {
      largest = std::max(largest, std::abs(values[i]));
      unit += values[i];  // what is not a number stays so
    }
    unit = std::isfinite(unit) ? largest / 8191.0f : unit;
    const float inverse = largest > 0 && std::isfinite(unit) ? 1.0f / unit : 0.0f;
    for (int64_t i = 0; i < 4 * static_cast<int64_t>(high.size()); ++i) {
      const float value = i < count && inverse > 0 ? values[i] * inverse : 0.0f;
      const auto whole = static_cast<uint32_t>(value + 8192.5f);
      high[i / 4] |= (whole >> 7 & 127) << 8 * (i % 4);
      low[i / 4] |= (whole & 127) << 8 * (i % 4);
    }
  }
};

// Sums of the columns of bytes (panels, words, 16, 4).
inline std::vector<int32_t> column_sums(const int8_t* bytes, int64_t panels, int64_t words) {
  std::vector<int32_t> sums(panels * kPanel);
  for (int64_t panel = 0; panel < panels; ++panel)
    for (int64_t word = 0; word < words; ++word)
      for (int64_t i = 0; i < 4 * kPanel; ++i) sums[panel * kPanel + i / 4] += bytes[(panel * words + word) * 4 * kPanel + i];
  return sums;
}

// out += scales times the products of a vector and a matrix in bytes (panels, words, 16, 4), whose columns' sums these are.
inline void multiply_vector(const int8_t* bytes, const std::vector<int32_t>& columns, const float* scales,
                            const FourteenBits& vector, float* out) {
  constexpr int kParts = kPanel / kLanes;
  const auto words = static_cast<int64_t>(vector.high.size());
  for (size_t place = 0; place < columns.size(); place += kPanel) {
    Counts high[kParts] = {}, low[kParts] = {};
    for (int64_t word = 0; word < words; ++word, bytes += 4 * kPanel)
#pragma GCC unroll 4
      for (int part = 0; part < kParts; ++part) {
        high[part] = dot(high[part], vector.high[word], bytes + part * 4 * kLanes);
        low[part] = dot(low[part], vector.low[word], bytes + part * 4 * kLanes);
      }
    for (int part = 0; part < kParts; ++part) {
      const size_t first = place + part * kLanes;
      Counts all;
      std::memcpy(&all, columns.data() + first, sizeof(all));
      const Lanes whole = 128.0f * __builtin_convertvector(high[part] - 64 * all, Lanes) +
                          __builtin_convertvector(low[part], Lanes);
      store(out + first, load<Lanes>(out + first) + load<Lanes>(scales + first) * vector.unit * whole);
    }
  }
}

}  // namespace pose
