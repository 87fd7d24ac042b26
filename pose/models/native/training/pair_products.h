// Matrix products of a training step in bfloat16: values are rounded, multiplied in pairs and added up in float32. What goes
// in and comes out is float32.

#pragma once

#include <vector>

#include "pairs.h"
#include "products.h"

namespace pose {

inline int64_t pair_words(int64_t values) { return (values + 1) / 2; }

// The small matrix of a product, and its panels with two neighbouring rows in a word if the product is one of pairs.
struct Factor {
  Panels panels;
  const uint32_t* pairs;
};

// Two rows as words of a value of each; no second one is zeros.
inline void interleave(const float* low, const float* high, int64_t width, uint32_t* to) {
  const auto bits_of = [](const float* from) {
    Bits bits;
    std::memcpy(&bits, from, sizeof(bits));
    return to_bfloat16(bits);
  };
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) {
    const Bits both = high ? bits_of(low + i) | bits_of(high + i) << 16 : bits_of(low + i);
    std::memcpy(to + i, &both, sizeof(both));
  }
  for (; i < width; ++i) {
    uint32_t first, second = 0;
    std::memcpy(&first, low + i, sizeof(first));
    if (high) std::memcpy(&second, high + i, sizeof(second));
    to[i] = to_bfloat16(first) | to_bfloat16(second) << 16;
  }
}

// A matrix for products; `words` takes what pairs need.
inline Factor factor_of(const Panels& panels, bool in_pairs, std::vector<uint32_t>& words) {
  if (!in_pairs) return {panels, nullptr};
  words.resize(pair_words(panels.rows) * padded(panels.columns));
  each_panel(panels.rows, panels.columns, [&](int64_t first, int64_t width, int64_t place) {
    uint32_t* to = words.data() + first * pair_words(panels.rows);
    for (int64_t row = 0; row < panels.rows; row += 2, to += width) {
      const float* from = panels.values + place + row * width;
      interleave(from, row + 1 < panels.rows ? from + width : nullptr, width, to);
    }
  });
  return {panels, words.data()};
}

// A tile: out (R, V vectors) = a (R, words) b (words, V vectors) as products.h has it, each word a pair.
template <int R, int V>
inline void pair_tile(const uint32_t* a, int64_t stride, const uint32_t* b, int64_t words, float* out, int64_t apart,
                      int64_t width, bool add, const float* factors, const float* terms) {
  Lanes sums[R][V] = {};
  for (int64_t i = 0; i < words; ++i, b += V * kLanes) {
#pragma GCC unroll 24
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v)
        sums[r][v] = dot(sums[r][v], a[r * stride + i], reinterpret_cast<const uint16_t*>(b + v * kLanes));
  }
  write_tile<R, V>(sums, out, apart, width, add, factors, terms);
}

// A tile of sums over pairs of pixels: out (R, V vectors) += a (words, R)^T b (words, V vectors).
template <int R, int V>
inline void outer_pair_tile(const uint32_t* a, int64_t stride, const uint32_t* b, int64_t apart, int64_t words, float* out) {
  constexpr int width = V * kLanes;
  Lanes sums[R][V];
#pragma GCC unroll 24
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sums[r][v] = load<Lanes>(out + r * width + v * kLanes);
  for (int64_t i = 0; i < words; ++i, a += stride, b += apart) {
#pragma GCC unroll 24
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v)
        sums[r][v] = dot(sums[r][v], a[r], reinterpret_cast<const uint16_t*>(b + v * kLanes));
  }
#pragma GCC unroll 24
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(out + r * width + v * kLanes, sums[r][v]);
}

// Calls `run(V, R)` with a panel's vectors and the most rows of its tiles as constants of the compiler's.
template <typename Run>
inline void with_tile(int64_t width, const Run& run) {
  using std::integral_constant;
  if (width == 3 * kLanes) return run(integral_constant<int, 3>{}, integral_constant<int, kSums / 3>{});
  if (width == 2 * kLanes) return run(integral_constant<int, 2>{}, integral_constant<int, kSums / 2>{});
  run(integral_constant<int, 1>{}, integral_constant<int, kSums>{});
}

// out (pixels, columns) = a (pixels, rows) b as `multiply` of products.h has it, rows without gaps.
inline void multiply(const float* a, int64_t pixels, const Factor& b, float* out, bool add = false,
                     const float* factors = nullptr, const float* terms = nullptr) {
  const int64_t rows = b.panels.rows, columns = b.panels.columns, words = pair_words(rows);
  if (!b.pairs) return multiply(a, rows, pixels, b.panels, out, columns, add, factors, terms);
  thread_local std::vector<uint32_t> scratch;
  scratch.resize(pixels * words);
  to_pairs(a, pixels, rows, reinterpret_cast<uint16_t*>(scratch.data()));
  each_panel(words, columns, [&](int64_t first, int64_t width, int64_t place) {
    with_tile(width, [&](auto vectors, auto most) {
      constexpr int V = decltype(vectors)::value, R = decltype(most)::value;
      for (int64_t p = 0; p < pixels; p += R)
        with_rows<R>(std::min<int64_t>(pixels - p, R), [&](auto some) {
          pair_tile<decltype(some)::value, V>(scratch.data() + p * words, words, b.pairs + place, words,
                                              out + p * columns + first, columns, std::min(width, columns - first), add,
                                              factors ? factors + first : nullptr, terms ? terms + first : nullptr);
        });
    });
  });
}

// Panels of (rows, columns) += a (pixels, rows)^T b (pixels, columns) as `multiply_outer` of products.h has it, rows
// without gaps; with `in_pairs` two pixels at a time.
inline void multiply_outer(const float* a, int64_t rows, const float* b, int64_t columns, int64_t pixels, float* out,
                           bool in_pairs) {
  if (!in_pairs) return multiply_outer(a, rows, rows, b, columns, columns, pixels, out);
  const int64_t words = pair_words(pixels), whole = padded(columns);
  thread_local std::vector<uint32_t> left, right;
  left.resize(words * rows), right.assign(words * whole, 0);
  for (int64_t word = 0; word < words; ++word) {
    const bool both = 2 * word + 1 < pixels;
    const float *up = a + 2 * word * rows, *from = b + 2 * word * columns;
    interleave(up, both ? up + rows : nullptr, rows, left.data() + word * rows);
    interleave(from, both ? from + columns : nullptr, columns, right.data() + word * whole);
  }
  each_panel(rows, columns, [&](int64_t first, int64_t width, int64_t place) {
    with_tile(width, [&](auto vectors, auto most) {
      constexpr int V = decltype(vectors)::value, R = decltype(most)::value;
      for (int64_t r = 0; r < rows; r += R)
        with_rows<R>(std::min<int64_t>(rows - r, R), [&](auto some) {
          outer_pair_tile<decltype(some)::value, V>(left.data() + r, rows, right.data() + first, whole, words,
                                                    out + place + r * V * kLanes);
        });
    });
  });
}

}  // namespace pose
