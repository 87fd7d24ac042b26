// Products in the tile registers of AMX: sixteen pixels times sixteen outputs at a time, of bytes or of bfloat16.
//
// A panel's rows lie as these registers would have them: a word of four bytes, or of two values of bfloat16, for each output.
// The system lets a process use them only if it asks.

#pragma once

#include <algorithm>
#include <cstdint>

#include "amx_permission.h"
#include "strided.h"

#if defined(__AMX_INT8__) && defined(__AMX_BF16__) && defined(__AVX512BW__) && defined(__linux__)
#define POSE_AMX 1
#include <immintrin.h>
#endif

namespace pose {

// Rows of a tile register, and words in a row.
constexpr int64_t kTileRows = 16;

// Parts of a product of so many words, each of which fits a register; 0 where none divide it well.
inline int64_t tile_parts(int64_t words) {
  for (int64_t parts = (words + kTileRows - 1) / kTileRows; parts > 0 && 4 * parts <= words; ++parts)
    if (words % parts == 0) return parts;
  return 0;
}

#if defined(POSE_AMX)
// Whether the processor has AMX and the system grants it, which is asked once.
inline bool has_amx() {
  static const bool granted = amx_granted(kAmxTiles | kAmxBytes | kAmxPairs);
  return granted;
}

// How this thread's tile registers are laid out: sums in 0 to 3, two of pixels in 4 and 5, of weights in 6 and 7. They are
// given back at its end.
class TileRegisters {
 public:
  TileRegisters() = default;
  TileRegisters(const TileRegisters&) = delete;
  TileRegisters& operator=(const TileRegisters&) = delete;
  ~TileRegisters() {
    if (rows_) _tile_release();
  }

  // Pixels, and words of each.
  void set(int64_t rows, int64_t words) {
    if (rows == rows_ && words == words_) return;
    rows_ = rows, words_ = words;
    alignas(64) volatile struct {
      uint8_t palette, start, reserved[14];
      uint16_t bytes[16];
      uint8_t rows[16];
    } layout = {1, 0, {}, {}, {}};
    for (int i = 0; i < 8; ++i) {
      layout.bytes[i] = static_cast<uint16_t>(i == 4 || i == 5 ? 4 * words : 64);
      layout.rows[i] = static_cast<uint8_t>(i < 6 ? rows : words);
    }
    asm volatile("" ::: "memory");
    _tile_loadconfig(const_cast<const void*>(static_cast<const volatile void*>(&layout)));
  }

 private:
  int64_t rows_ = 0, words_ = 0;
};

// Fetches `lines` lines of memory.
inline void prefetch_lines(const char* from, int64_t lines) {
  for (int64_t i = 0; i < lines; ++i) __builtin_prefetch(from + 64 * i, 0, 2);
}

// The sums of one or two times sixteen pixels and one or two panels, in the registers.
template <bool kBytes, int kPixels, int kPanels>
inline void tile_sums(const Strided& product, int64_t first, int64_t parts, const char* ahead, int64_t lines) {
  const int64_t words = product.words / parts, stride = product.stride;
  const char *pixels = product.pixels + first * stride, *weights = product.weights;
  asm volatile("" ::: "memory");  // compilers do not know that loading a tile reads memory
  _tile_zero(0);
  if constexpr (kPixels > 1) _tile_zero(1);
  if constexpr (kPanels > 1) _tile_zero(2);
  if constexpr (kPixels > 1 && kPanels > 1) _tile_zero(3);
  for (int64_t part = 0; part < parts; ++part, pixels += 4 * words, weights += 64 * words, ahead += 64 * lines) {
    prefetch_lines(ahead, lines);
    _tile_loadd(6, weights, 64);
    _tile_loadd(4, pixels, stride);
    if constexpr (kBytes)
      _tile_dpbusd(0, 4, 6);
    else
      _tile_dpbf16ps(0, 4, 6);
    if constexpr (kPixels > 1) {
      _tile_loadd(5, pixels + kTileRows * stride, stride);
      if constexpr (kBytes)
        _tile_dpbusd(1, 5, 6);
      else
        _tile_dpbf16ps(1, 5, 6);
    }
    if constexpr (kPanels > 1) {
      _tile_loadd(7, weights + product.apart, 64);
      if constexpr (kBytes)
        _tile_dpbusd(2, 4, 7);
      else
        _tile_dpbf16ps(2, 4, 7);
    }
    if constexpr (kPixels > 1 && kPanels > 1) {
      if constexpr (kBytes)
        _tile_dpbusd(3, 5, 7);
      else
        _tile_dpbf16ps(3, 5, 7);
    }
  }
}

// Writes them, 64 bytes a pixel and sixteen pixels after the other, first those of one panel.
template <int kPixels, int kPanels>
inline void store_tile_sums(char* sums) {
  _tile_stored(0, sums, 64);
  if constexpr (kPixels > 1) _tile_stored(1, sums + 1024, 64);
  if constexpr (kPanels > 1) _tile_stored(2, sums + 2048, 64);
  if constexpr (kPixels > 1 && kPanels > 1) _tile_stored(3, sums + 3072, 64);
}

// Ends `rows` pixels' sums of a panel.
template <typename Sum>
inline void finish_tile(const Panel& panel, int64_t first, int64_t rows, const char* sums) {
  const Lanes scale = panel.scale ? load<Lanes>(panel.scale) : Lanes{} + 1.0f;
  const Lanes bias = panel.bias ? load<Lanes>(panel.bias) : Lanes{};
  const auto some = [&]<int kRows>(std::integral_constant<int, kRows>, int64_t row) __attribute__((always_inline)) {
    Lanes ends[kRows][1];
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      Sum sum;
      std::memcpy(&sum, sums + 64 * (row + i), sizeof(sum));
      ends[i][0] = to_lanes(sum) * scale + bias;
    }
    finish<kRows, 1>(panel, first + row, ends);
  };
  int64_t row = 0;
  for (; row + 8 <= rows; row += 8) some(std::integral_constant<int, 8>{}, row);
  for (; row < rows; ++row) some(std::integral_constant<int, 1>{}, row);
}

// Calls `run` with how many times sixteen pixels and panels there are as constants of the compiler's.
template <typename Run>
inline void with_tiles(int64_t rows, int64_t count, const Run& run) {
  const std::integral_constant<int, 1> one;
  const std::integral_constant<int, 2> two;
  if (rows > kTileRows) return count == 2 ? run(two, two) : run(two, one);
  return count == 2 ? run(one, two) : run(one, one);
}

// `pixels` pixels times `count` panels, one or two, in `parts` that `tile_parts` gives. While registers fill, the sums before
// end.
template <bool kBytes>
inline void multiply_amx(const Strided& product, int64_t count, int64_t pixels, int64_t parts, TileRegisters& registers) {
  const Panel& panel = product.panels[0];
  const int64_t pieces = (pixels + 2 * kTileRows - 1) / (2 * kTileRows);
  const int64_t lines = panel.ahead ? panel.ahead_bytes / (64 * pieces * parts) : 0;
  const char* ahead = panel.ahead;
  alignas(64) char sums[4096];
  for (int64_t first = 0, before = 0, rows_before = 0; first < pixels || rows_before;) {
    const int64_t left = pixels - first;
    const int64_t rows = left >= 2 * kTileRows ? 2 * kTileRows : std::min(left, kTileRows);
    if (rows) registers.set(std::min(rows, kTileRows), product.words / parts);
    with_tiles(rows, count, [&](auto row_tiles, auto panel_tiles) {
      constexpr int kPixels = decltype(row_tiles)::value, kPanels = decltype(panel_tiles)::value;
      if (rows) tile_sums<kBytes, kPixels, kPanels>(product, first, parts, ahead, lines);
      for (int one = 0; one < kPanels && rows_before; ++one)
        finish_tile<std::conditional_t<kBytes, Counts, Lanes>>(product.panels[one], before, rows_before, sums + 2048 * one);
      if (rows) store_tile_sums<kPixels, kPanels>(sums);
    });
    ahead += 64 * lines * parts;
    before = first, rows_before = rows;
    first += rows;
  }
}
#else
class TileRegisters {};
inline bool has_amx() { return false; }
#endif

}  // namespace pose
