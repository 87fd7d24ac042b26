// Products of pixels and panels: tiles of sums in registers.
//
// A panel is what sixteen outputs need, (kh kw C_in, 16), so that a row of it meets one value of every pixel.

#pragma once

#include <algorithm>

#include "tile_ends.h"
#include "word_products.h"

namespace pose {

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
  finish<kRows, kCount>(panel, first, sums);
}

template <int kRows, int kCount>
inline void multiply_some(const Panel& panel, int64_t first, int64_t rows, const char* ahead, int64_t step) {
  if constexpr (kRows > 0) {
    if (rows == kRows) {
      if constexpr (kRows <= kByteTile)
        if (panel.bytes.taps) return multiply_bytes<kRows, kCount>(panel, first, ahead, step);
      if (panel.pairs.taps) return multiply_pairs<kRows, kCount>(panel, first, ahead, step);
      return multiply_rows<kRows, kCount>(panel, first, ahead, step);
    }
    multiply_some<kRows - 1, kCount>(panel, first, rows, ahead, step);
  }
}

template <int kCount>
void multiply_tiles(const Panel& panel, int64_t count) {
  const bool bytes = panel.bytes.taps > 0;
  const int64_t most = bytes ? kByteTile : kTile, tiles = (count + most - 1) / most;
  int64_t rows_of_weights = panel.main.taps * panel.main.inner;
  const void* weights = panel.main.weights;
  if (bytes) rows_of_weights = panel.bytes.taps * panel.bytes.words, weights = panel.bytes.weights;
  if (panel.pairs.taps) rows_of_weights = panel.pairs.taps * panel.pairs.words, weights = panel.pairs.weights;
  const int64_t step = panel.ahead_bytes / (tiles * rows_of_weights);
  const char* ahead = panel.ahead ? panel.ahead : static_cast<const char*>(weights);
  for (int64_t tile = 0; tile < tiles; ++tile, ahead += step * rows_of_weights) {
    const int64_t first = tile * count / tiles, next = (tile + 1) * count / tiles;
    if (tile + 1 < tiles)  // where it will write, so that the first write need not wait
      for (int row = 0; row < kTile; ++row) prefetch_answer(panel, next + row);
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
