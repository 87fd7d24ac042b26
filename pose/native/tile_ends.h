// What a product of pixels and panels is made of, and how its tiles of sums end.

#pragma once

#include <algorithm>

#include "geometry.h"
#include "lanes.h"

namespace pose {

// Pixels times rows of a panel: `taps` stretches of `inner` neighbouring values for every pixel, whose addresses lie in
// `pixels` one after the other; `weights` are (taps inner, pitch).
struct Product {
  const float* const* pixels = nullptr;
  int64_t taps = 0, inner = 0;
  const float* weights = nullptr;
  int64_t pitch = kPanel;
};

// The same of values that lie several in a word of 32 bits: stretches of `words`; weights are (taps words, 16), words too.
template <typename Pixel, typename Weight>
struct WordProduct {
  const Pixel* const* pixels = nullptr;
  int64_t taps = 0, words = 0;
  const Weight* weights = nullptr;
};

// y = g(scale (pixels weights) + more + bias + shortcut) for up to sixteen outputs of neighbouring pixels.
struct Panel {
  Product main, more;
  WordProduct<uint8_t, int8_t> bytes;      // in place of main, if it has taps
  WordProduct<uint16_t, uint16_t> pairs;  // likewise, of bfloat16
  const float *scale = nullptr, *bias = nullptr;  // by output, of sixteen; none if null
  const float* shortcut = nullptr;                // laid out as y
  float* y = nullptr;
  uint8_t* y_bytes = nullptr;  // in place of y; without a shortcut
  ToBytes to_bytes = ToBytes({});
  int64_t pitch = 0, width = kPanel;  // values between the pixels of y, and how many of them are written
  int64_t activation = kNone;
  float* sums = nullptr;  // of y by output, of sixteen; not wanted if null
  const char* ahead = nullptr;  // what will be needed next, so many bytes; as much as can be is fetched meanwhile
  int64_t ahead_bytes = 0;
};

// The common end of a tile, in registers: full width, and an activation that is a pair of bounds.
template <int kRows, int kCount>
inline void finish_plain(const Panel& panel, int64_t first, Lanes (&sums)[kRows][kCount]) {
  const Lanes zero = {}, low = zero + lower_bound(panel.activation), high = zero + upper_bound(panel.activation);
  if (panel.shortcut) {
    const float* shortcut = panel.shortcut + first * panel.pitch;
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row, shortcut += panel.pitch)
#pragma GCC unroll 4
      for (int part = 0; part < kCount; ++part) sums[row][part] += load<Lanes>(shortcut + part * kLanes);
  }
  if (panel.y_bytes) {
    const ToBytes to_bytes = panel.to_bytes;
    uint8_t* y = panel.y_bytes + first * panel.pitch;
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row, y += panel.pitch) to_bytes.store<kCount>(y, sums[row]);
    if (!panel.sums) return;
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row)
#pragma GCC unroll 4
      for (int part = 0; part < kCount; ++part) sums[row][part] = between(sums[row][part], low, high);
  } else {
    float* y = panel.y + first * panel.pitch;
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row, y += panel.pitch)
#pragma GCC unroll 4
      for (int part = 0; part < kCount; ++part)
        store(y + part * kLanes, sums[row][part] = between(sums[row][part], low, high));
  }
  if (!panel.sums) return;
#pragma GCC unroll 4
  for (int part = 0; part < kCount; ++part) {
    Lanes total = load<Lanes>(panel.sums + part * kLanes);
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) total += sums[row][part];
    store(panel.sums + part * kLanes, total);
  }
}

// Any end, through memory.
template <int kCount>
void finish_any(const Panel& panel, int64_t first, int64_t rows, const float* sums) {
  constexpr int64_t kWidth = kCount * kLanes;
  const int64_t width = std::min(kWidth, panel.width);
  with_activation(panel.activation, [&](auto kind) {
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t place = (first + row) * panel.pitch;
      for (int64_t o = 0; o < width; ++o) {
        const float sum = sums[row * kWidth + o] + (panel.shortcut ? panel.shortcut[place + o] : 0.0f);
        const float value = activate<decltype(kind)::value>(sum);
        if (panel.y_bytes)
          panel.y_bytes[place + o] = panel.to_bytes(value);
        else
          panel.y[place + o] = value;
        if (panel.sums) panel.sums[o] += value;
      }
    }
  });
}

template <int kRows, int kCount>
inline void finish(const Panel& panel, int64_t first, Lanes (&sums)[kRows][kCount]) {
  if (panel.width >= kCount * kLanes && panel.activation != kHardswish)
    return finish_plain<kRows, kCount>(panel, first, sums);
  float kept[kRows * kCount * kLanes];
#pragma GCC unroll 16
  for (int row = 0; row < kRows; ++row)
#pragma GCC unroll 4
    for (int part = 0; part < kCount; ++part) store(kept + (row * kCount + part) * kLanes, sums[row][part]);
  finish_any<kCount>(panel, first, kRows, kept);
}

}  // namespace pose
