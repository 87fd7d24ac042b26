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

// Fetches where a pixel will be written.
inline void prefetch_answer(const Panel& panel, int64_t pixel) {
  const int64_t place = pixel * panel.pitch;
  __builtin_prefetch(panel.y_bytes ? static_cast<void*>(panel.y_bytes + place) : static_cast<void*>(panel.y + place), 1, 2);
}

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
    const int64_t pitch = panel.pitch;
    uint8_t* y = panel.y_bytes + first * pitch;
    int done = 0;
#if defined(__AVX512BW__)
    if constexpr (kCount == 1)
#pragma GCC unroll 4
      for (; done + 4 <= kRows; done += 4, y += 4 * pitch)
        to_bytes.store_four(y, pitch, {sums[done][0], sums[done + 1][0], sums[done + 2][0], sums[done + 3][0]});
#endif
#pragma GCC unroll 16
    for (int row = done; row < kRows; ++row, y += pitch) to_bytes.store<kCount>(y, sums[row]);
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

#if defined(__AVX512BW__)
// The same of fewer than sixteen outputs.
template <int kRows>
inline void finish_some(const Panel& panel, int64_t first, Lanes (&sums)[kRows][1]) {
  const Lanes zero = {}, low = zero + lower_bound(panel.activation), high = zero + upper_bound(panel.activation);
  const auto mask = static_cast<__mmask16>((1u << panel.width) - 1);
  const int64_t pitch = panel.pitch, place = first * pitch;
  const float* const shortcut = panel.shortcut ? panel.shortcut + place : nullptr;
  const ToBytes to_bytes = panel.to_bytes;  // what is written could be anywhere, but not here
  uint8_t* const y_bytes = panel.y_bytes ? panel.y_bytes + place : nullptr;
  Lanes total = zero;
#pragma GCC unroll 16
  for (int row = 0; row < kRows; ++row) {
    Lanes value = sums[row][0];
    if (shortcut) value += (Lanes)_mm512_maskz_loadu_ps(mask, shortcut + row * pitch);
    value = between(value, low, high);
    if (y_bytes)
      to_bytes.store_some(y_bytes + row * pitch, value, mask);
    else
      _mm512_mask_storeu_ps(panel.y + place + row * pitch, mask, value);
    total += value;
  }
  if (panel.sums) _mm512_mask_storeu_ps(panel.sums, mask, load<Lanes>(panel.sums) + total);
}
#endif

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
#if defined(__AVX512BW__)
  if constexpr (kCount == 1)
    if (panel.activation != kHardswish) return finish_some<kRows>(panel, first, sums);
#endif
  float kept[kRows * kCount * kLanes];
#pragma GCC unroll 16
  for (int row = 0; row < kRows; ++row)
#pragma GCC unroll 4
    for (int part = 0; part < kCount; ++part) store(kept + (row * kCount + part) * kLanes, sums[row][part]);
  finish_any<kCount>(panel, first, kRows, kept);
}

}  // namespace pose
