// Matrix products of a training step: many pixels by few channels, in rows as channels_last has them.
//
// A BLAS packs both matrices for large products; here one of them is small and packed once, and the pixels are read where
// they lie. Tiles of pixels by columns are kept in registers.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "lanes.h"

namespace pose {

// Registers that hold a tile's sums; the others hold what is multiplied.
constexpr int kSums = kLanes == 16 || (kLanes == 4 && kTile == 6) ? 24 : kLanes == 8 ? 12 : 9;
constexpr int64_t kCached = 32 << 10;  // values of a block of pixels that stays in the second cache

// Pixels of a block whose `ins` and `outs` values stay in the second cache.
inline int64_t block_of(int64_t ins, int64_t outs, int64_t pixels) {
  return std::min(std::max<int64_t>(kCached / (ins + outs), 4 * kSums), pixels);
}

// Calls `run(first, some)` for blocks of pixels.
template <typename Run>
inline void each_block(int64_t pixels, int64_t block, const Run& run) {
  for (int64_t first = 0; first < pixels; first += block) run(first, std::min(block, pixels - first));
}

inline int64_t padded(int64_t columns) { return (columns + kLanes - 1) / kLanes * kLanes; }

// Vectors of the next panel, of so many that are left: three where a last one would be alone.
inline int64_t panel_vectors(int64_t left) { return left == 3 ? 3 : std::min<int64_t>(left, 2); }

// A small matrix (rows, columns) in panels of whole vectors, rows one after another in each; the last columns are filled
// up with zeros.
struct Panels {
  int64_t rows, columns;
  const float* values;
};

inline int64_t panels_size(int64_t rows, int64_t columns) { return rows * padded(columns); }

// Calls `run(first, width, place)` for each panel: its first column, its width, and where it lies.
template <typename Run>
inline void each_panel(int64_t rows, int64_t columns, const Run& run) {
  for (int64_t first = 0; first < columns;) {
    const int64_t width = panel_vectors((columns - first + kLanes - 1) / kLanes) * kLanes;
    run(first, width, first * rows);
    first += width;
  }
}

// Panels of a matrix whose value (row, column) lies at row * down + column * right.
inline Panels pack(const float* matrix, int64_t rows, int64_t columns, int64_t down, int64_t right, float* to) {
  each_panel(rows, columns, [&](int64_t first, int64_t width, int64_t place) {
    const int64_t some = std::min(width, columns - first);
    for (int64_t row = 0; row < rows; ++row) {
      const float* from = matrix + row * down + first * right;
      float* values = to + place + row * width;
      for (int64_t i = 0; i < some; ++i) values[i] = from[i * right];
      for (int64_t i = some; i < width; ++i) values[i] = 0.0f;
    }
  });
  return {rows, columns, to};
}

// The matrix (rows, columns) itself.
inline void unpack(const Panels& panels, float* matrix) {
  each_panel(panels.rows, panels.columns, [&](int64_t first, int64_t width, int64_t place) {
    const int64_t some = std::min(width, panels.columns - first);
    for (int64_t row = 0; row < panels.rows; ++row)
      std::memcpy(matrix + row * panels.columns + first, panels.values + place + row * width, some * sizeof(float));
  });
}

// Writes a tile's sums (R, V vectors), times a factor and plus a term a column if there are `factors` and `terms`, plus what
// is there if `add`. `width` columns are written.
template <int R, int V>
inline void write_tile(Lanes (&sums)[R][V], float* out, int64_t apart, int64_t width, bool add, const float* factors,
                       const float* terms) {
  if (factors)
    for (int v = 0; v < V; ++v) {
      const Lanes factor = load<Lanes>(factors + v * kLanes);
#pragma GCC unroll 24
      for (int r = 0; r < R; ++r) sums[r][v] *= factor;
    }
  if (terms)
    for (int v = 0; v < V; ++v) {
      const Lanes term = load<Lanes>(terms + v * kLanes);
#pragma GCC unroll 24
      for (int r = 0; r < R; ++r) sums[r][v] += term;
    }
  if (width == V * kLanes) {
#pragma GCC unroll 24
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        float* to = out + r * apart + v * kLanes;
        store(to, add ? sums[r][v] + load<Lanes>(to) : sums[r][v]);
      }
    return;
  }
  for (int r = 0; r < R; ++r) {
    float row[V * kLanes];
    std::memcpy(row, sums[r], sizeof(row));
    for (int64_t i = 0; i < width; ++i) out[r * apart + i] = add ? out[r * apart + i] + row[i] : row[i];
  }
}

// A tile: out (R, V vectors) = a (R, k) b (k, V vectors), written as above.
template <int R, int V>
inline void tile(const float* a, int64_t stride, const float* b, int64_t k, float* out, int64_t apart, int64_t width,
                 bool add, const float* factors, const float* terms) {
  Lanes sums[R][V] = {};
  for (int64_t i = 0; i < k; ++i, b += V * kLanes) {
    Lanes row[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) row[v] = load<Lanes>(b + v * kLanes);
#pragma GCC unroll 24
    for (int r = 0; r < R; ++r) {
      const float value = a[r * stride + i];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sums[r][v] += value * row[v];
    }
  }
  write_tile<R, V>(sums, out, apart, width, add, factors, terms);
}

// Calls `run` with the number of rows, 1 to R, as a constant of the compiler's.
template <int R, typename Run>
inline void with_rows(int64_t rows, const Run& run) {
  if constexpr (R > 1) {
    if (rows < R) return with_rows<R - 1>(rows, run);
  }
  run(std::integral_constant<int, R>{});
}

template <int V>
inline void panel(const float* a, int64_t stride, int64_t pixels, const float* b, int64_t k, float* out, int64_t apart,
                  int64_t width, bool add, const float* factors, const float* terms) {
  constexpr int R = kSums / V;
  for (int64_t p = 0; p < pixels; p += R)
    with_rows<R>(std::min<int64_t>(pixels - p, R), [&](auto rows) {
      tile<decltype(rows)::value, V>(a + p * stride, stride, b, k, out + p * apart, apart, width, add, factors, terms);
    });
}

// out (pixels, columns) = a (pixels, rows) b, times a factor and plus a term a column if there are `factors` and `terms`
// (whole vectors), plus what is there if `add`; rows of a and out lie `stride` and `apart` values from each other.
inline void multiply(const float* a, int64_t stride, int64_t pixels, const Panels& b, float* out, int64_t apart,
                     bool add = false, const float* factors = nullptr, const float* terms = nullptr) {
  const int64_t block = std::max<int64_t>(kCached / std::max<int64_t>(b.rows, 1) / kSums, 1) * kSums;
  for (int64_t p = 0; p < pixels; p += block) {
    const int64_t some = std::min(block, pixels - p);
    each_panel(b.rows, b.columns, [&](int64_t first, int64_t width, int64_t place) {
      const float *rows = a + p * stride, *from = b.values + place;
      float* to = out + p * apart + first;
      const float *own = factors ? factors + first : nullptr, *more = terms ? terms + first : nullptr;
      const int64_t written = std::min(width, b.columns - first);
      if (width == 3 * kLanes) panel<3>(rows, stride, some, from, b.rows, to, apart, written, add, own, more);
      if (width == 2 * kLanes) panel<2>(rows, stride, some, from, b.rows, to, apart, written, add, own, more);
      if (width == kLanes) panel<1>(rows, stride, some, from, b.rows, to, apart, written, add, own, more);
    });
  }
}

// A tile of sums over pixels: out (R, V vectors) += a (pixels, R)^T b (pixels, V vectors).
template <int R, int V>
inline void outer_tile(const float* a, int64_t stride, const float* b, int64_t apart, int64_t pixels, float* out) {
  constexpr int width = V * kLanes;
  Lanes sums[R][V];
#pragma GCC unroll 24
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sums[r][v] = load<Lanes>(out + r * width + v * kLanes);
  for (int64_t p = 0; p < pixels; ++p, a += stride, b += apart) {
    Lanes row[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) row[v] = load<Lanes>(b + v * kLanes);
#pragma GCC unroll 24
    for (int r = 0; r < R; ++r) {
      const float value = a[r];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sums[r][v] += value * row[v];
    }
  }
#pragma GCC unroll 24
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(out + r * width + v * kLanes, sums[r][v]);
}

template <int V>
inline void outer_panel(const float* a, int64_t stride, int64_t rows, const float* b, int64_t apart, int64_t pixels,
                        float* out) {
  constexpr int R = kSums / V;
  for (int64_t r = 0; r < rows; r += R)
    with_rows<R>(std::min<int64_t>(rows - r, R), [&](auto some) {
      outer_tile<decltype(some)::value, V>(a + r, stride, b, apart, pixels, out + r * V * kLanes);
    });
}

// Rows that lie a multiple of so many values apart share few places of the first cache: more than it keeps are copied.
constexpr int64_t kCrowded = 64, kKept = 64;

// Panels of (rows, columns) += a (pixels, rows)^T b (pixels, columns), whose own rows lie `stride` and `apart` values from
// each other.
inline void multiply_outer(const float* a, int64_t stride, int64_t rows, const float* b, int64_t apart, int64_t columns,
                           int64_t pixels, float* out) {
  const int64_t block = std::min(std::max<int64_t>(kCached / (rows + columns), 16), pixels);
  const bool crowded = apart % kCrowded == 0 && block > kKept;
  std::vector<float> copy(crowded || columns % kLanes ? block * 3 * kLanes : 0);
  for (int64_t p = 0; p < pixels; p += block) {
    const int64_t some = std::min(block, pixels - p);
    const float *up = a + p * stride, *from = b + p * apart;
    each_panel(rows, columns, [&](int64_t first, int64_t width, int64_t place) {
      const float* values = from + first;
      int64_t step = apart;
      const int64_t own = std::min(width, columns - first);
      if (crowded || own < width) {  // or so that no vector reaches beyond the last row
        for (int64_t i = 0; i < some; ++i) {
          float* to = copy.data() + i * width;
          int64_t column = 0;
          for (; column + kLanes <= own; column += kLanes) store(to + column, load<Lanes>(values + i * apart + column));
          for (; column < width; ++column) to[column] = column < own ? values[i * apart + column] : 0.0f;
        }
        values = copy.data(), step = width;
      }
      if (width == 3 * kLanes) outer_panel<3>(up, stride, rows, values, step, some, out + place);
      if (width == 2 * kLanes) outer_panel<2>(up, stride, rows, values, step, some, out + place);
      if (width == kLanes) outer_panel<1>(up, stride, rows, values, step, some, out + place);
    });
  }
}

}  // namespace pose
