// Products of pixels and panels in 8 bits: pixels are unsigned, weights signed, sums 32 bits wide, exact.
//
// What neighbouring products of a word may come to in 16 bits is `dot`'s limit: weights are at most 64, of seven bits.

#pragma once

#include "bytes.h"
#include "tile_ends.h"

namespace pose {

// Pixels of a product, as kTile in lanes.h.
#if defined(__AVX512F__)
constexpr int kByteTile = kTile;
#else
constexpr int kByteTile = kTile < 4 ? kTile : 4;
#endif

template <int kRows, int kCount>
void multiply_bytes(const Panel& panel, int64_t first, const char* ahead, int64_t step) {
  Counts counts[kRows][kCount] = {};
  const ByteProduct& product = panel.bytes;
  const int8_t* weights = product.weights;
  for (int64_t tap = 0; tap < product.taps; ++tap) {
    const uint8_t* from[kRows];
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) from[row] = product.pixels[(first + row) * product.taps + tap];
    for (int64_t i = 0; i < product.words; ++i, weights += 64, ahead += step) {
      __builtin_prefetch(ahead, 0, 2);
#pragma GCC unroll 16
      for (int row = 0; row < kRows; ++row) {
        uint32_t four;
        std::memcpy(&four, from[row] + 4 * i, sizeof(four));
#pragma GCC unroll 4
        for (int part = 0; part < kCount; ++part)
          counts[row][part] = dot(counts[row][part], four, weights + 4 * part * kLanes);
      }
    }
  }
  Lanes sums[kRows][kCount];
#pragma GCC unroll 4
  for (int part = 0; part < kCount; ++part) {
    const Lanes scale = load<Lanes>(panel.scale + part * kLanes), bias = load<Lanes>(panel.bias + part * kLanes);
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row)
      sums[row][part] = __builtin_convertvector(counts[row][part], Lanes) * scale + bias;
  }
  finish<kRows, kCount>(panel, first, sums);
}

}  // namespace pose
