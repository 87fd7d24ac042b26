// Products of bfloat16 in pairs, by dot products of two values each (pairs.h) or, where the processor has them, by matrix
// tiles (matrix_tiles.h).

#include "kept.h"
#include "matrix_tiles.h"
#include "row_products.h"
#include "row_tiles.h"

namespace pose {
namespace {

inline int64_t words_of(int64_t values) { return (values + 1) / 2; }

inline Bits halves_at(const uint16_t* from) {
  Halves halves;
  std::memcpy(&halves, from, sizeof(halves));
  return __builtin_convertvector(halves, Bits);
}

// Two rows as words of a value of each; no second one is zeros.
inline void interleave(const uint16_t* low, const uint16_t* high, int64_t width, uint32_t* to) {
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) {
    const Bits both = high ? halves_at(low + i) | halves_at(high + i) << 16 : halves_at(low + i);
    std::memcpy(to + i, &both, sizeof(both));
  }
  for (; i < width; ++i) to[i] = low[i] | (high ? static_cast<uint32_t>(high[i]) << 16 : 0);
}

// A tile: out (R, V vectors) = a (R, words) b (words, V vectors) as row_products.h has it, each word a pair. Rows of a lie
// `stride` values from each other.
template <int R, int V>
inline void pair_tile(const uint16_t* a, int64_t stride, const uint32_t* b, int64_t words, float* out, int64_t apart,
                      int64_t width, bool add, const float* factors, const float* terms) {
  Lanes sums[R][V] = {};
  for (int64_t i = 0; i < words; ++i, b += V * kLanes) {
#pragma GCC unroll 24
    for (int r = 0; r < R; ++r) {
      uint32_t two;
      std::memcpy(&two, a + r * stride + 2 * i, sizeof(two));
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sums[r][v] = dot(sums[r][v], two, reinterpret_cast<const uint16_t*>(b + v * kLanes));
    }
  }
  write_tile<R, V>(sums, out, apart, width, add, factors, terms);
}

// A tile of sums over pairs of pixels: out (R, V vectors) += a (words, R)^T b (words, V vectors).
template <int R, int V>
inline void outer_pair_tile(const uint32_t* a, int64_t stride, const uint32_t* b, int64_t apart, int64_t words, float* out) {
  add_to_tile<R, V>(out, [&](Lanes (&sums)[R][V]) {
    for (int64_t i = 0; i < words; ++i, a += stride, b += apart) {
#pragma GCC unroll 24
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v)
          sums[r][v] = dot(sums[r][v], a[r], reinterpret_cast<const uint16_t*>(b + v * kLanes));
    }
  });
}

}  // namespace

int64_t pair_words(int64_t rows, int64_t columns) {
  return has_matrix_tiles() ? tile_words(rows, columns) : words_of(rows) * padded(columns);
}

void pack_pairs(const Panels& panels, uint32_t* words) {
  if (has_matrix_tiles()) return pack_tiles(panels, words);
  each_panel(panels.rows, panels.columns, [&](int64_t first, int64_t width, int64_t place) {
    uint32_t* to = words + first * words_of(panels.rows);
    for (int64_t row = 0; row < panels.rows; row += 2, to += width) {
      const float* from = panels.values + place + row * width;
      const bool both = row + 1 < panels.rows;
      for (int64_t i = 0; i < width; i += kLanes)
        put_words(to + i, load<Lanes>(from + i), both ? load<Lanes>(from + width + i) : Lanes{});
    }
  });
}

void multiply(const Left& a, int64_t pixels, const Factor& b, float* out, int64_t apart, bool add, const float* factors,
              const float* terms) {
  const int64_t rows = b.panels.rows, columns = b.panels.columns, words = words_of(rows);
  if (!b.pairs) return multiply(a.floats, rows, pixels, b.panels, out, apart, add, factors, terms);
  if (has_matrix_tiles()) return multiply_tiles(a.halves, rows, pixels, b.pairs, columns, out, apart, add, factors, terms);
  each_panel(words, columns, [&](int64_t first, int64_t width, int64_t place) {
    with_tile(width, [&](auto vectors, auto most) {
      constexpr int V = decltype(vectors)::value, R = decltype(most)::value;
      for (int64_t p = 0; p < pixels; p += R)
        with_rows<R>(std::min<int64_t>(pixels - p, R), [&](auto some) {
          pair_tile<decltype(some)::value, V>(a.halves + p * rows, rows, b.pairs + place, words, out + p * apart + first,
                                              apart, std::min(width, columns - first), add,
                                              factors ? factors + first : nullptr, terms ? terms + first : nullptr);
        });
    });
  });
}

void multiply_outer(const Left& a, int64_t rows, const Left& b, int64_t apart, int64_t columns, int64_t pixels, float* out) {
  if (!a.halves) return multiply_outer(a.floats, rows, rows, b.floats, apart, columns, pixels, out);
  if (has_matrix_tiles()) return multiply_outer_tiles(a.halves, rows, b.halves, apart, columns, pixels, out);
  const int64_t words = words_of(pixels), whole = padded(columns);
  thread_local WordLines left, right;
  left.resize(words * rows), right.assign(words * whole, 0);
  for (int64_t word = 0; word < words; ++word) {
    const bool both = 2 * word + 1 < pixels;
    const uint16_t *up = a.halves + 2 * word * rows, *from = b.halves + 2 * word * apart;
    interleave(up, both ? up + rows : nullptr, rows, left.data() + word * rows);
    interleave(from, both ? from + apart : nullptr, columns, right.data() + word * whole);
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
