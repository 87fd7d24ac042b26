// Products of pixels and panels whose values lie several in a word of 32 bits: four bytes, or two of bfloat16.
//
// Bytes of pixels are unsigned, those of weights signed and such that `dot` can add them exactly, see blocks.h; their sums
// are 32 bits wide. What bfloat16 makes is added up in float32.

#pragma once

#include "bytes.h"
#include "pairs.h"
#include "tile_ends.h"

namespace pose {

// Pixels of a product of bytes, as kTile in lanes.h.
#if defined(__AVX512F__) || defined(__AVXVNNI__)
constexpr int kByteTile = kTile;
#else
constexpr int kByteTile = kTile < 4 ? kTile : 4;
#endif

template <typename Sum, int kRows, int kCount, typename Pixel, typename Weight>
inline void accumulate_words(const WordProduct<Pixel, Weight>& product, int64_t first, Sum (&sums)[kRows][kCount],
                             const char* ahead, int64_t step) {
  constexpr int kPixels = 4 / sizeof(Pixel), kWeights = 4 / sizeof(Weight);
  const Weight* weights = product.weights;
  for (int64_t tap = 0; tap < product.taps; ++tap) {
    const Pixel* from[kRows];
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) from[row] = product.pixels[(first + row) * product.taps + tap];
    for (int64_t i = 0; i < product.words; ++i, weights += kPanel * kWeights, ahead += step) {
      __builtin_prefetch(ahead, 0, 2);
#pragma GCC unroll 16
      for (int row = 0; row < kRows; ++row) {
        uint32_t word;
        std::memcpy(&word, from[row] + kPixels * i, sizeof(word));
#pragma GCC unroll 4
        for (int part = 0; part < kCount; ++part)
          sums[row][part] = dot(sums[row][part], word, weights + kWeights * part * kLanes);
      }
    }
  }
}

template <int kRows, int kCount>
void multiply_bytes(const Panel& panel, int64_t first, const char* ahead, int64_t step) {
  Counts counts[kRows][kCount] = {};
  accumulate_words(panel.bytes, first, counts, ahead, step);
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

template <int kRows, int kCount>
void multiply_pairs(const Panel& panel, int64_t first, const char* ahead, int64_t step) {
  Lanes sums[kRows][kCount] = {};
  accumulate_words(panel.pairs, first, sums, ahead, step);
#pragma GCC unroll 4
  for (int part = 0; part < kCount; ++part) {
    const Lanes scale = panel.scale ? load<Lanes>(panel.scale + part * kLanes) : Lanes{} + 1.0f;
    const Lanes bias = load<Lanes>(panel.bias + part * kLanes);
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) sums[row][part] = sums[row][part] * scale + bias;
  }
  finish<kRows, kCount>(panel, first, sums);
}

}  // namespace pose
