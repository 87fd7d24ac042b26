// Arithmetic of channels_last features in rows of several pixels: normalised, activated, and counted. What the functions
// read and write lies in the caches, mostly; the loops are in rows.cpp.

#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "kept.h"
#include "lines.h"

namespace pose {

constexpr int64_t kFlush = 64;  // rows that are added up in float before they go to a double
constexpr int64_t kBlock = 16 << 10;  // values of pixels that are taken at once where nothing else says how many

// Asks for lines of memory in their order, which are written next in another one, that no processor foresees.
inline void ask_for(const Place& to, int64_t values) {
  const char* line = static_cast<const char*>(to.values);
  for (int64_t i = 0; i < values * (to.half ? 2 : 4); i += 64) __builtin_prefetch(line + i, 1, 2);
}

// Pixels taken several at a time, so that a row of memory is whole vectors whatever the channels are.
struct Rows {
  int64_t channels, together, width;

  explicit Rows(int64_t channels_) : channels(channels_), together(16 / std::gcd(channels_, int64_t{16})) {
    while (together * channels < 64) together *= 2;
    width = together * channels;
  }

  // Calls `run(offset, count)` for each row of so many pixels.
  template <typename Run>
  void each(int64_t pixels, const Run& run) const {
    const int64_t values = pixels * channels;
    for (int64_t offset = 0; offset < values; offset += width) run(offset, std::min(width, values - offset));
  }

  // A value per channel, over and over.
  template <typename Value>
  FloatLines spread(const Value* values) const {
    FloatLines row(width);
    for (int64_t first = 0; first < width; first += channels)
      for (int64_t c = 0; c < channels; ++c) row[first + c] = static_cast<float>(values[c]);
    return row;
  }
};

// Sums of each channel's values, or several of them, added up over an image's pixels: a row's in float, which go to doubles
// every now and then and at the end.
template <int kCount>
struct Sums {
  const Rows& rows;
  FloatLines own[kCount];
  double* to = nullptr;  // (kCount, C)
  int64_t added = 0;

  explicit Sums(const Rows& rows_) : rows(rows_) {
    for (auto& row : own) row.assign(rows.width, 0.0f);
  }

  // After each row.
  void next() {
    if (++added == kFlush) fold();
  }

  void fold() {
    for (int i = 0; i < kCount && added; ++i) {
      for (int64_t first = 0; first < rows.width; first += rows.channels)
        for (int64_t c = 0; c < rows.channels; ++c) to[i * rows.channels + c] += own[i][first + c];
      std::fill(own[i].begin(), own[i].end(), 0.0f);
    }
    added = 0;
  }
};

// A batch normalisation with its activation, spread over a row: z = x factors + terms.
struct RowNorm {
  int64_t activation = kNone;
  FloatLines factors, terms, means, none;  // none: zeros
};

// Values as they are, in the other form.
void convert(const Kept& from, int64_t values, const Place& to);

// to = g(norm(x)).
void normalize_rows(const Rows& rows, const RowNorm& norm, const Kept& x, int64_t pixels, const Place& to);

// Adds values to others, or their sums.
void add_rows(const Rows& rows, const float* values, int64_t pixels, float* to);
void sum_rows(const Rows& rows, const float* values, int64_t pixels, Sums<1>& sum);

// Adds the sums of g(norm(x)), of its derivatives, and of these times x - mean.
void pool_rows(const Rows& rows, const RowNorm& norm, const Kept& x, int64_t pixels, Sums<3>& sums);

// Adds the sums of gradients of z, and of these times x - mean, from gradients of g(z) plus `shares`, a row of what is added
// to each. The gradients of g(z) are written, too, where there is a place.
void count_rows(const Rows& rows, const RowNorm& norm, const Kept& x, int64_t pixels, const float* gradients,
                const float* shares, Sums<2>& sums, const Place& to = {nullptr, false});

// to = the gradient of x from those of g(z) plus `shares`: that of z times the factors, and (x - mean) steep + level.
void backward_rows(const Rows& rows, const RowNorm& norm, const Kept& x, int64_t pixels, const Kept& gradients,
                   const float* shares, const float* steep, const float* level, const Place& to);

// Adds the sums of values and of their squares, both counted from `origin`. The values are written, too, where there is a
// place.
void moment_rows(const Rows& rows, const float* values, int64_t pixels, const float* origin, Sums<2>& sums,
                 const Place& to = {nullptr, false});

}  // namespace pose
