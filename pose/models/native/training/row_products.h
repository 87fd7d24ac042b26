// Matrix products of a training step: many pixels by few channels, in rows as channels_last has them. In float32, or of
// values rounded to bfloat16, multiplied in pairs and added up in float32.

#pragma once

#include "factors.h"

namespace pose {

constexpr int64_t kBlockValues = 32 << 10;  // values of a block of pixels that stays in the second cache

// Pixels of a block whose `ins` and `outs` values stay in the second cache.
inline int64_t block_of(int64_t ins, int64_t outs, int64_t pixels) {
  return std::min(std::max<int64_t>(kBlockValues / (ins + outs) / 32 * 32, 4 * kSums), pixels);
}

// Calls `run(first, some)` for blocks of pixels.
template <typename Run>
inline void each_block(int64_t pixels, int64_t block, const Run& run) {
  for (int64_t first = 0; first < pixels; first += block) run(first, std::min(block, pixels - first));
}

// Rows of pixels, one after another: in float32, or in bfloat16 for a product of pairs.
struct Left {
  const float* floats;
  const uint16_t* halves;

  // From a channel on.
  Left from(int64_t channel) const { return {floats ? floats + channel : nullptr, halves ? halves + channel : nullptr}; }
};

// Room for bfloat16 rows: kernels read beyond their end, up to whole tiles, what is to be finite as far as it is multiplied
// by zeros. So are the pixels: beyond a row that no tile divides the next pixel's values are multiplied by zeros, and one
// that is infinite makes both what is not a number.
inline uint16_t* left_of(HalfLines& halves, int64_t pixels, int64_t channels) {
  constexpr int64_t rows = 16, values = 64;
  uint16_t* const to = grown(halves, (pixels + rows) * channels + values);
  std::memset(to + pixels * channels, 0, values * sizeof(uint16_t));
  return to;
}

// out (pixels, columns) = a (pixels, rows) b, times a factor and plus a term a column if there are `factors` and `terms`
// (whole vectors), plus what is there if `add`; rows of a and out lie `stride` and `apart` values from each other.
void multiply(const float* a, int64_t stride, int64_t pixels, const Panels& b, float* out, int64_t apart, bool add = false,
              const float* factors = nullptr, const float* terms = nullptr);

// Panels of (pixels, columns) = a (pixels, rows) b, plus what is there if `add`: what `multiply` writes in rows.
void multiply_panels(const float* a, int64_t stride, int64_t pixels, const Panels& b, float* out, bool add);

// Panels of (rows, columns) += a (pixels, rows)^T b (pixels, columns), whose own rows lie `stride` and `apart` values from
// each other.
void multiply_outer(const float* a, int64_t stride, int64_t rows, const float* b, int64_t apart, int64_t columns,
                    int64_t pixels, float* out);

// The first and the last, in pairs if a and b are; rows of a have no gaps, those of out and b lie `apart` values from each
// other.
void multiply(const Left& a, int64_t pixels, const Factor& b, float* out, int64_t apart, bool add = false,
              const float* factors = nullptr, const float* terms = nullptr);
void multiply_outer(const Left& a, int64_t rows, const Left& b, int64_t apart, int64_t columns, int64_t pixels, float* out);

}  // namespace pose
