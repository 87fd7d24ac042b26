// How the sums of a depthwise layer in 8 bits end: in float32, or by whole numbers of 16 bits where bytes are wanted.

#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "channel_taps.h"

namespace pose {

// Where sixteen channels of a row are written, and how they end.
struct SixteenEnds {
  float* y;          // null where bytes are written
  uint8_t* y_bytes;
  ToBytes to_bytes;
  const float* shortcut;  // laid out as y, or null
  float* sums;            // of y by channel, or null
  int64_t pitch, width, activation;

  void operator()(int64_t column, const Lanes (&values)[kParts]) const {
    if (width < kPanel || activation == kHardswish || shortcut) return any(column, values);
    if (y_bytes) to_bytes.store(y_bytes + column * pitch, values);
    if (y_bytes && !sums) return;
    const Lanes zero = {}, low = zero + lower_bound(activation), high = zero + upper_bound(activation);
#pragma GCC unroll 4
    for (int part = 0; part < kParts; ++part) {
      const Lanes value = between(values[part], low, high);
      if (y) store(y + column * pitch + part * kLanes, value);
      if (sums) store(sums + part * kLanes, load<Lanes>(sums + part * kLanes) + value);
    }
  }

  // Through memory.
  [[gnu::noinline]] void any(int64_t column, const Lanes (&values)[kParts]) const {
    float kept[kPanel];
    std::memcpy(kept, values, sizeof(kept));
    with_activation(activation, [&](auto kind) {
      for (int64_t c = 0, place = column * pitch; c < width; ++c, ++place) {
        const float value = activate<decltype(kind)::value>(kept[c] + (shortcut ? shortcut[place] : 0.0f));
        if (sums) sums[c] += value;
        if (y_bytes)
          y_bytes[place] = to_bytes(value);
        else
          y[place] = value;
      }
    });
  }
};

// (a b + 2^14) / 2^15, rounded down.
inline Shorts scaled(Shorts a, Shorts b) {
#if defined(__AVX2__)
  return (Shorts)_mm256_mulhrs_epi16((__m256i)a, (__m256i)b);
#else
  for (int i = 0; i < kPanel; ++i) a[i] = static_cast<int16_t>((a[i] * b[i] + (1 << 14)) >> 15);
  return a;
#endif
}

// What makes bytes of sixteen channels' groups without leaving 16 bits.
struct WordEnd {
  Shorts factor, bias, low, high;
  int bits;

  Shorts operator()(Shorts first, Shorts second) const {
    const Shorts whole = (scaled(first, factor) + scaled(second, factor) + bias) >> bits, above = whole > low ? whole : low;
    return above < high ? above : high;
  }
};

// Those of a layer. Both groups are scaled to bytes of 2^bits parts and added up, and nothing overflows. Where that would
// leave fewer than eight parts of a byte they are not `usable`.
class WordEnds {
 public:
  WordEnds(const ByteTaps& taps, const Levels& to, int64_t activation)
      : factor_(taps.scale.size()), bias_(factor_.size()), low_(ToBytes(to, activation).low()),
        high_(ToBytes(to, activation).high()) {
    const float inverse = 1.0f / to.unit;
    float most = 1.0f;
    for (size_t c = 0; c < factor_.size(); ++c)
      most = std::max(most, std::max(taps.reach[c], 32768.0f * (taps.reach[c] > 0.0f)) * taps.scale[c] * inverse +
                                std::abs(taps.shift[c]) * inverse + 257.0f);
    bits_ = std::isfinite(most) ? std::min(6, static_cast<int>(std::floor(std::log2(32767.0f / most)))) : 0;
    if (!usable()) return;
    const float parts = static_cast<float>(1 << bits_);
    for (size_t c = 0; c < factor_.size(); ++c) {
      const float factor = taps.reach[c] > 0.0f ? taps.scale[c] * inverse * parts * 32768.0f : 0.0f;
      factor_[c] = static_cast<int16_t>(std::lrintf(factor));
      bias_[c] = static_cast<int16_t>(std::lrintf((taps.shift[c] * inverse + to.zero + 0.5f) * parts));
    }
  }

  bool usable() const { return bits_ >= 3; }

  WordEnd of(int64_t panel) const {
    WordEnd end = {{}, {}, Shorts{} + low_, Shorts{} + high_, bits_};
    std::memcpy(&end.factor, factor_.data() + panel * kPanel, sizeof(end.factor));
    std::memcpy(&end.bias, bias_.data() + panel * kPanel, sizeof(end.bias));
    return end;
  }

 private:
  std::vector<int16_t> factor_, bias_;
  int bits_ = 0;
  int16_t low_, high_;
};

}  // namespace pose
