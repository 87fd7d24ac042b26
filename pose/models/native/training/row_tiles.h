// What tiles of a product's sums share: they are kept in registers and written at the end.

#pragma once

#include <utility>

#include "row_products.h"

namespace pose {

// Calls `run` with the number of rows, 1 to R, as a constant of the compiler's.
template <int R, typename Run>
inline void with_rows(int64_t rows, const Run& run) {
  if constexpr (R > 1) {
    if (rows < R) return with_rows<R - 1>(rows, run);
  }
  run(std::integral_constant<int, R>{});
}

// Calls `run(V, R)` with a panel's vectors and the most rows of its tiles as constants of the compiler's.
template <typename Run>
inline void with_tile(int64_t width, const Run& run) {
  using std::integral_constant;
  if (width == 3 * kLanes) return run(integral_constant<int, 3>{}, integral_constant<int, kSums / 3>{});
  if (width == 2 * kLanes) return run(integral_constant<int, 2>{}, integral_constant<int, kSums / 2>{});
  run(integral_constant<int, 1>{}, integral_constant<int, kSums>{});
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

// A tile of sums (R, V vectors) that lie one after another, as `run(sums)` leaves them.
template <int R, int V, typename Run>
inline void add_to_tile(float* out, const Run& run) {
  constexpr int width = V * kLanes;
  Lanes sums[R][V];
#pragma GCC unroll 24
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sums[r][v] = load<Lanes>(out + r * width + v * kLanes);
  run(sums);
#pragma GCC unroll 24
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(out + r * width + v * kLanes, sums[r][v]);
}

}  // namespace pose
