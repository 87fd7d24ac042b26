// Products of pixels and panels: tiles of sums in registers, and their end there.
//
// A panel is what sixteen outputs need, (kh kw C_in, 16), so that a row of it meets one value of every pixel.

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

// y = g(scale (pixels weights) + more + bias + shortcut) for up to sixteen outputs of neighbouring pixels.
struct Panel {
  Product main, more;
  const float *scale = nullptr, *bias = nullptr;  // by output, of sixteen; none if null
  const float* shortcut = nullptr;                // laid out as y
  float* y = nullptr;
  int64_t pitch = 0, width = kPanel;  // values between the pixels of y, and how many of them are written
  int64_t activation = kNone;
  float* sums = nullptr;  // of y by output, of sixteen; not wanted if null
  const char* ahead = nullptr;  // what will be needed next, so many bytes; as much as can be is fetched meanwhile
  int64_t ahead_bytes = 0;
};

// With each row of weights it fetches a line of memory at `ahead`, which goes on by `step` bytes: more at once would make
// the products wait.
template <int kRows, int kCount>
inline void accumulate(const Product& product, int64_t first, Lanes (&sums)[kRows][kCount], const char* ahead,
                       int64_t step) {
  const float* weights = product.weights;
  for (int64_t tap = 0; tap < product.taps; ++tap) {
    const float* from[kRows];
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) from[row] = product.pixels[(first + row) * product.taps + tap];
    int64_t i = 0;
    if constexpr (kRows == 1) {  // a single pixel's sums would wait for each other: four at a time
      Lanes others[3][kCount] = {};
      for (; i + 4 <= product.inner; i += 4, weights += 4 * product.pitch, ahead += 4 * step) {
        __builtin_prefetch(ahead, 0, 2);
#pragma GCC unroll 4
        for (int part = 0; part < kCount; ++part) {
          sums[0][part] += load<Lanes>(weights + part * kLanes) * from[0][i];
#pragma GCC unroll 3
          for (int j = 1; j < 4; ++j)
            others[j - 1][part] += load<Lanes>(weights + j * product.pitch + part * kLanes) * from[0][i + j];
        }
      }
      for (int part = 0; part < kCount; ++part) sums[0][part] += others[0][part] + others[1][part] + others[2][part];
    }
#pragma GCC unroll 2
    for (; i < product.inner; ++i, weights += product.pitch, ahead += step) {
      __builtin_prefetch(ahead, 0, 2);
      Lanes weight[kCount];
#pragma GCC unroll 4
      for (int part = 0; part < kCount; ++part) weight[part] = load<Lanes>(weights + part * kLanes);
#pragma GCC unroll 16
      for (int row = 0; row < kRows; ++row) {
        const float value = from[row][i];
#pragma GCC unroll 4
        for (int part = 0; part < kCount; ++part) sums[row][part] += weight[part] * value;
      }
    }
  }
}

// The common end of a tile, in registers: full width, and an activation that is a pair of bounds.
template <int kRows, int kCount>
inline void finish_plain(const Panel& panel, int64_t first, Lanes (&sums)[kRows][kCount]) {
  const Lanes zero = {}, low = zero + lower_bound(panel.activation), high = zero + upper_bound(panel.activation);
  float* y = panel.y + first * panel.pitch;
  if (panel.shortcut) {
    const float* shortcut = panel.shortcut + first * panel.pitch;
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row, shortcut += panel.pitch)
#pragma GCC unroll 4
      for (int part = 0; part < kCount; ++part) sums[row][part] += load<Lanes>(shortcut + part * kLanes);
  }
#pragma GCC unroll 16
  for (int row = 0; row < kRows; ++row, y += panel.pitch) {
#pragma GCC unroll 4
    for (int part = 0; part < kCount; ++part) {
      sums[row][part] = between(sums[row][part], low, high);
      store(y + part * kLanes, sums[row][part]);
    }
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
        panel.y[place + o] = value;
        if (panel.sums) panel.sums[o] += value;
      }
    }
  });
}

template <int kRows, int kCount>
void multiply_rows(const Panel& panel, int64_t first, const char* ahead, int64_t step) {
  Lanes sums[kRows][kCount], bias[kCount];
#pragma GCC unroll 4
  for (int part = 0; part < kCount; ++part) {
    bias[part] = panel.bias ? load<Lanes>(panel.bias + part * kLanes) : Lanes{};
    const Lanes start = panel.scale ? Lanes{} : bias[part];
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) sums[row][part] = start;
  }
  accumulate<kRows, kCount>(panel.main, first, sums, ahead, step);
  if (panel.scale) {
#pragma GCC unroll 4
    for (int part = 0; part < kCount; ++part) {
      const Lanes scale = load<Lanes>(panel.scale + part * kLanes);
#pragma GCC unroll 16
      for (int row = 0; row < kRows; ++row) sums[row][part] = sums[row][part] * scale + bias[part];
    }
  }
  if (panel.more.taps) accumulate<kRows, kCount>(panel.more, first, sums, ahead, 0);
  if (panel.width >= kCount * kLanes && panel.activation != kHardswish)
    return finish_plain<kRows, kCount>(panel, first, sums);
  float kept[kRows * kCount * kLanes];
#pragma GCC unroll 16
  for (int row = 0; row < kRows; ++row)
#pragma GCC unroll 4
    for (int part = 0; part < kCount; ++part) store(kept + (row * kCount + part) * kLanes, sums[row][part]);
  finish_any<kCount>(panel, first, kRows, kept);
}

template <int kRows, int kCount>
inline void multiply_some(const Panel& panel, int64_t first, int64_t rows, const char* ahead, int64_t step) {
  if constexpr (kRows > 0) {
    if (rows == kRows) return multiply_rows<kRows, kCount>(panel, first, ahead, step);
    multiply_some<kRows - 1, kCount>(panel, first, rows, ahead, step);
  }
}

template <int kCount>
void multiply_tiles(const Panel& panel, int64_t count) {
  const int64_t tiles = (count + kTile - 1) / kTile, rows_of_weights = panel.main.taps * panel.main.inner;
  const int64_t step = panel.ahead_bytes / (tiles * rows_of_weights);
  const char* ahead = panel.ahead ? panel.ahead : reinterpret_cast<const char*>(panel.main.weights);
  for (int64_t tile = 0; tile < tiles; ++tile, ahead += step * rows_of_weights) {
    const int64_t first = tile * count / tiles, next = (tile + 1) * count / tiles;
    if (tile + 1 < tiles)  // where it will write, so that the first write need not wait
      for (int row = 0; row < kTile; ++row) __builtin_prefetch(panel.y + (next + row) * panel.pitch, 1, 2);
    multiply_some<kTile, kCount>(panel, first, next - first, ahead, step);
  }
}

// All of `count` pixels, in tiles as equal as can be.
inline void multiply(const Panel& panel, int64_t count) {
  constexpr int kAll = kPanel / kLanes;
  if constexpr (kAll > 2)
    if (panel.width > 2 * kLanes) return multiply_tiles<kAll>(panel, count);
  if constexpr (kAll > 1)
    if (panel.width > kLanes) return multiply_tiles<2>(panel, count);
  multiply_tiles<1>(panel, count);
}

}  // namespace pose
