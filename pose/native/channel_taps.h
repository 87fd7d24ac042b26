// Kernels of depthwise layers in 8 bits, and what they make of neighbouring bytes.
//
// Sixteen channels are taken at a time. Two neighbouring taps of a row lie together, a zero beside an odd last one: a pair
// of taps times a pair of pixels is a product of 16 bits. Pairs belong to two groups in turn; each group is added up in 16
// bits, which is exact since its positive weights are at most 128 together, and so are its negative ones. So every
// processor has the same sums.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "bytes.h"
#include "geometry.h"

namespace pose {

constexpr int kGroups = 2, kParts = kPanel / kLanes;
constexpr int64_t kMostByteTaps = 64;  // of a kernel, so that half of what a group may be is left when all are rounded up

inline int64_t pairs_of(int64_t taps) { return (taps + 1) / 2; }

// The group of a tap in this column.
inline int64_t group_of(int64_t column) { return column / 2 % kGroups; }

// Sixteen values of 16 bits, and of 8.
typedef int16_t Shorts __attribute__((vector_size(2 * kPanel)));
typedef uint8_t Pixel __attribute__((vector_size(kPanel)));

// Products of sixteen pairs of unsigned and signed bytes.
inline Shorts pair_products(const uint8_t* pixels, const int8_t* taps) {
#if defined(__AVX2__)
  return (Shorts)_mm256_maddubs_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(pixels)),
                                      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(taps)));
#else
  Shorts sums;
  for (int i = 0; i < kPanel; ++i)
    sums[i] = static_cast<int16_t>(pixels[2 * i] * taps[2 * i] + pixels[2 * i + 1] * taps[2 * i + 1]);
  return sums;
#endif
}

// Both groups together times a scale, plus a shift: (16) of each.
inline void widen(Shorts first, Shorts second, const float* scale, const float* shift, Lanes (&values)[kParts]) {
  for (int i = 0; i < kPanel; ++i) values[i / kLanes][i % kLanes] = static_cast<float>(int32_t{first[i]} + second[i]);
  for (int part = 0; part < kParts; ++part)
    values[part] = values[part] * load<Lanes>(scale + part * kLanes) + load<Lanes>(shift + part * kLanes);
}

// Calls `run(tap, group)` for every tap of a kernel.
template <typename Run>
inline void for_each_tap(const Geometry& g, const Run& run) {
  for (int64_t a = 0; a < g.size[0]; ++a)
    for (int64_t b = 0; b < g.size[1]; ++b) run(a * g.size[1] + b, group_of(b));
}

// The kernels of all channels: pairs (panels, kh, pairs, 16, 2), what a sum is worth, what is added to it, and how large it
// can be (panels, 16).
struct ByteTaps {
  std::vector<int8_t> pairs;
  std::vector<float> scale, shift, reach;

  ByteTaps(const Geometry& g, int64_t channels)
      : pairs(panels_of(channels) * size(g)), scale(panels_of(channels) * kPanel), shift(scale.size()), reach(scale.size()) {}

  // Bytes (kh kw, C), what one is worth by channel, and a bias (panels, 16).
  ByteTaps(const Geometry& g, int64_t channels, const int8_t* bytes, const float* worth, const float* bias,
           const Levels& levels)
      : ByteTaps(g, channels) {
    for (int64_t panel = 0; panel < panels_of(channels); ++panel) {
      const int64_t some = std::min(kPanel, channels - panel * kPanel);
      int32_t whole[kMostByteTaps][kPanel] = {};
      float own[kPanel] = {};
      std::copy_n(worth + panel * kPanel, some, own);
      for_each_tap(g, [&](int64_t tap, int64_t) { std::copy_n(bytes + tap * channels + panel * kPanel, some, whole[tap]); });
      set(g, panel, whole, own, bias, levels);
    }
  }

  // Those of sixteen channels, by tap.
  void set(const Geometry& g, int64_t panel, const int32_t (&whole)[kMostByteTaps][kPanel], const float (&worth)[kPanel],
           const float* bias, const Levels& levels) {
    const int64_t width = g.size[1], channel = panel * kPanel;
    int32_t sums[kPanel] = {}, sizes[kPanel] = {};
    auto* to = pairs.data() + panel * size(g);
    for (int64_t a = 0; a < g.size[0]; ++a)
      for (int64_t b = 0; b < width; b += 2, to += 2 * kPanel) {
        constexpr int32_t kNone[kPanel] = {};
        const int32_t *first = whole[a * width + b], *second = b + 1 < width ? whole[a * width + b + 1] : kNone;
        int16_t both[kPanel];
        for (int i = 0; i < kPanel; ++i) {
          both[i] = static_cast<int16_t>((first[i] & 255) | second[i] * 256);
          sums[i] += first[i] + second[i];
          sizes[i] += std::abs(first[i]) + std::abs(second[i]);
        }
        std::memcpy(to, both, sizeof(both));  // the first byte is the lowest
      }
    for (int i = 0; i < kPanel; ++i) {
      scale[channel + i] = levels.unit * worth[i];
      shift[channel + i] = bias[channel + i] - levels.zero * scale[channel + i] * static_cast<float>(sums[i]);
      reach[channel + i] = 255.0f * static_cast<float>(sizes[i]);
    }
  }

  static int64_t size(const Geometry& g) { return g.size[0] * pairs_of(g.size[1]) * 2 * kPanel; }
};

// Whether bytes (kh kw, C) are added up exactly.
inline bool are_exact(const Geometry& g, int64_t channels, const int8_t* bytes) {
  std::vector<int32_t> above(kGroups * channels), below(above.size());
  for_each_tap(g, [&](int64_t tap, int64_t group) {
    for (int64_t c = 0; c < channels; ++c) {
      above[group * channels + c] += std::max<int32_t>(bytes[tap * channels + c], 0);
      below[group * channels + c] -= std::min<int32_t>(bytes[tap * channels + c], 0);
    }
  });
  const int32_t most = std::max(*std::max_element(above.begin(), above.end()), *std::max_element(below.begin(), below.end()));
  return most <= kMostTogether;
}

// Some channels' values (kh kw, 16) in 8 bits, as many as there are lanes, and what a byte is worth: it lets every group be
// added up exactly. What rounding leaves of a tap is added to the next one: where an image hardly changes, what counts is
// the taps' sum.
inline Lanes round_taps(const Geometry& g, const float* values, int32_t* whole) {
  const Lanes none = {}, lowest = none + kToWhole;
  Counts base;
  std::memcpy(&base, &lowest, sizeof(base));
  Lanes above[kGroups] = {}, below[kGroups] = {}, most = {}, left = {};
  float taps[kGroups] = {};
  for_each_tap(g, [&](int64_t tap, int64_t group) {
    const Lanes value = load<Lanes>(values + tap * kPanel), up = value > none ? value : none, down = up - value;
    above[group] += up;
    below[group] += down;
    most = up + down > most ? up + down : most;
    taps[group] += 1.0f;
  });
  Lanes worth = most * (1.0f / (kMostTogether - 2));  // bytes end at 127, and one may become one more
  for (int group = 0; group < kGroups; ++group) {  // each of its taps may become one more
    const Lanes sum = above[group] > below[group] ? above[group] : below[group];
    const Lanes wanted = sum * (1.0f / (static_cast<float>(kMostTogether) - taps[group]));
    worth = wanted > worth ? wanted : worth;
  }
  const Lanes inverse = worth > none ? 1.0f / worth : none;
  for_each_tap(g, [&](int64_t tap, int64_t) {
    const Lanes value = load<Lanes>(values + tap * kPanel) * inverse + left, rounded = value + lowest;
    Counts bits;
    std::memcpy(&bits, &rounded, sizeof(bits));
    bits -= base;
    bits = bits > 127 ? Counts{} + 127 : bits;  // of what is not a number
    bits = bits < -127 ? Counts{} - 127 : bits;
    std::memcpy(whole + tap * kPanel, &bits, sizeof(bits));
    left = value - (rounded - lowest);  // each tap waits for it
  });
  return worth;
}

// Kernels (kh kw, C) of float32 in 8 bits.
inline ByteTaps to_taps(const Geometry& g, int64_t channels, const float* kernels, const float* bias, const Levels& levels) {
  ByteTaps found(g, channels);
  float values[kMostByteTaps][kPanel] = {}, worth[kPanel];
  int32_t whole[kMostByteTaps][kPanel];
  for (int64_t panel = 0; panel < panels_of(channels); ++panel) {
    const int64_t some = std::min(kPanel, channels - panel * kPanel);
    for_each_tap(g, [&](int64_t tap, int64_t) {
      const float* const from = kernels + tap * channels + panel * kPanel;
      if (some == kPanel) return static_cast<void>(std::memcpy(values[tap], from, sizeof(values[tap])));
      std::fill(std::copy_n(from, some, values[tap]), values[tap] + kPanel, 0.0f);
    });
    for (int part = 0; part < kPanel; part += kLanes) store(worth + part, round_taps(g, values[0] + part, whole[0] + part));
    found.set(g, panel, whole, worth, bias, levels);
  }
  return found;
}

}  // namespace pose
