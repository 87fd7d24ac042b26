// Products of pixels that lie at one distance from each other, and of two panels at once: with 32 vectors in registers the
// sums of twelve pixels and 32 outputs fit, so that a broadcast word of a pixel meets two rows of weights.
//
// A word is one value of float32, two of bfloat16 or four bytes; it meets a row of 64 bytes of weights in each panel.

#pragma once

#include <algorithm>
#include <cstring>

#include "bytes.h"
#include "pairs.h"
#include "tile_ends.h"

namespace pose {

// Whether products go this way.
#if defined(__AVX512BW__)
constexpr bool kHasStrided = true;
#else
constexpr bool kHasStrided = false;
#endif
constexpr int kStridedTile = 12;

// Pixels, and one or two panels that they meet.
struct Strided {
  const Panel* panels;
  const char *pixels, *weights;
  int64_t stride, words, apart;  // bytes between pixels, words of a pixel, bytes between the panels' weights
};

#if defined(__AVX512BW__)
// Copies a few bytes, so many that a call would take longer.
inline void copy_bytes(const void* from, int64_t count, void* to) {
  const auto* source = static_cast<const char*>(from);
  auto* target = static_cast<char*>(to);
  for (; count >= 64; count -= 64, source += 64, target += 64) _mm512_storeu_si512(target, _mm512_loadu_si512(source));
  const auto rest = static_cast<__mmask64>((uint64_t{1} << count) - 1);
  _mm512_mask_storeu_epi8(target, rest, _mm512_maskz_loadu_epi8(rest, source));
}

// What a word of a pixel, in all lanes, and a row of weights add to sums.
struct FloatWords {
  using Sum = Lanes;
  static Sum add(Sum sum, Lanes word, Lanes weights) { return sum + word * weights; }
};

struct PairWords {
  using Sum = Lanes;
  static Sum add(Sum sum, Lanes word, Lanes weights) { return dot(sum, (Bits)word, (Bits)weights); }
};

struct ByteWords {
  using Sum = Counts;
  static Sum add(Sum sum, Lanes word, Lanes weights) { return dot(sum, (Counts)word, (Counts)weights); }
};

// The word `kPlace` words behind `base` and kSteps strides, in all lanes. The compiler would give every pixel a pointer of
// its own, for which there are not enough registers.
template <int kSteps, int kPlace>
[[gnu::always_inline]] inline Lanes broadcast(const char* base, int64_t stride) {
  Lanes word;
  if constexpr (kSteps == 0)
    asm("vbroadcastss %c2(%1), %0" : "=v"(word) : "r"(base), "i"(4 * kPlace), "m"(*(const char(*)[])base));
  else
    asm("vbroadcastss %c2(%1,%3,%c4), %0"
        : "=v"(word)
        : "r"(base), "i"(4 * kPlace), "r"(stride), "i"(kSteps), "m"(*(const char(*)[])base));
  return word;
}

template <typename Words, int kRows, int kPanels, int kPlace>
[[gnu::always_inline]] inline void add_word(const char* const (&base)[(kRows + 2) / 3], int64_t stride, const char* weights,
                                            int64_t apart, typename Words::Sum (&sums)[kPanels][kRows]) {
  Lanes weight[kPanels];
#pragma GCC unroll 2
  for (int panel = 0; panel < kPanels; ++panel) std::memcpy(&weight[panel], weights + panel * apart + kPlace * 64, 64);
  const auto meet = [&](int row, Lanes word) __attribute__((always_inline)) {
#pragma GCC unroll 2
    for (int panel = 0; panel < kPanels; ++panel) sums[panel][row] = Words::add(sums[panel][row], word, weight[panel]);
  };
#pragma GCC unroll 4
  for (int three = 0; three < (kRows + 2) / 3; ++three) {
    meet(3 * three, broadcast<0, kPlace>(base[three], stride));
    if (3 * three + 1 < kRows) meet(3 * three + 1, broadcast<1, kPlace>(base[three], stride));
    if (3 * three + 2 < kRows) meet(3 * three + 2, broadcast<2, kPlace>(base[three], stride));
  }
}

// kRows pixels from `first` on. With each word it fetches a line of memory at `ahead`, which goes on by `step` bytes.
template <typename Words, int kRows, int kPanels>
void multiply_strided(const Strided& product, int64_t first, const char* ahead, int64_t step) {
  typename Words::Sum sums[kPanels][kRows] = {};
  const int64_t stride = product.stride, apart = product.apart;
  const char* base[(kRows + 2) / 3];
#pragma GCC unroll 4
  for (int three = 0; three < (kRows + 2) / 3; ++three) base[three] = product.pixels + (first + 3 * three) * stride;
  const char* weights = product.weights;
  int64_t left = product.words;
  for (; left >= 2; left -= 2) {
    __builtin_prefetch(ahead, 0, 2);
    add_word<Words, kRows, kPanels, 0>(base, stride, weights, apart, sums);
    ahead += step;
    __builtin_prefetch(ahead, 0, 2);
    add_word<Words, kRows, kPanels, 1>(base, stride, weights, apart, sums);
    weights += 2 * 64;
#pragma GCC unroll 4
    for (int three = 0; three < (kRows + 2) / 3; ++three) base[three] += 2 * 4;
    ahead += step;
  }
  if (left) add_word<Words, kRows, kPanels, 0>(base, stride, weights, apart, sums);
#pragma GCC unroll 2
  for (int panel = 0; panel < kPanels; ++panel) {
    const Panel& own = product.panels[panel];
    const Lanes scale = own.scale ? load<Lanes>(own.scale) : Lanes{} + 1.0f;
    const Lanes bias = own.bias ? load<Lanes>(own.bias) : Lanes{};
    Lanes ends[kRows][1];
#pragma GCC unroll 12
    for (int row = 0; row < kRows; ++row) ends[row][0] = to_lanes(sums[panel][row]) * scale + bias;
    finish<kRows, 1>(own, first, ends);
  }
}

template <typename Words, int kRows>
inline void multiply_some_strided(const Strided& product, int64_t count, int64_t first, int64_t rows, const char* ahead,
                                  int64_t step) {
  if constexpr (kRows > 0) {
    if (rows == kRows) {
      if (count == 2) return multiply_strided<Words, kRows, 2>(product, first, ahead, step);
      return multiply_strided<Words, kRows, 1>(product, first, ahead, step);
    }
    multiply_some_strided<Words, kRows - 1>(product, count, first, rows, ahead, step);
  }
}

// `pixels` pixels times `count` panels, one or two.
template <typename Words>
inline void multiply_tiles_strided(const Strided& product, int64_t count, int64_t pixels) {
  const Panel& panel = product.panels[0];
  const int64_t tiles = (pixels + kStridedTile - 1) / kStridedTile, step = panel.ahead_bytes / (tiles * product.words);
  const char* ahead = panel.ahead ? panel.ahead : product.weights;
  for (int64_t tile = 0; tile < tiles; ++tile, ahead += step * product.words) {
    const int64_t first = tile * pixels / tiles, next = (tile + 1) * pixels / tiles;
    if (tile + 1 < tiles)  // where it will write, so that the first write need not wait
      for (int64_t one = 0; one < count; ++one)
        for (int row = 0; row < kStridedTile; ++row) prefetch_answer(product.panels[one], next + row);
    multiply_some_strided<Words, kStridedTile>(product, count, first, next - first, ahead, step);
  }
}
#else
inline void copy_bytes(const void* from, int64_t count, void* to) { std::memcpy(to, from, count); }
#endif

}  // namespace pose
