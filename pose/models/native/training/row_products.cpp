// Products in float32. A BLAS packs both matrices for large products; here one of them is small and packed once, and the
// pixels are read where they lie. Tiles of pixels by columns are kept in registers.

#include "row_products.h"

#include "row_tiles.h"

namespace pose {
namespace {

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

template <int V>
inline void panel(const float* a, int64_t stride, int64_t pixels, const float* b, int64_t k, float* out, int64_t apart,
                  int64_t width, bool add, const float* factors, const float* terms) {
  constexpr int R = kSums / V;
  for (int64_t p = 0; p < pixels; p += R)
    with_rows<R>(std::min<int64_t>(pixels - p, R), [&](auto rows) {
      tile<decltype(rows)::value, V>(a + p * stride, stride, b, k, out + p * apart, apart, width, add, factors, terms);
    });
}

// A tile of sums over pixels: out (R, V vectors) += a (pixels, R)^T b (pixels, V vectors).
template <int R, int V>
inline void outer_tile(const float* a, int64_t stride, const float* b, int64_t apart, int64_t pixels, float* out) {
  add_to_tile<R, V>(out, [&](Lanes (&sums)[R][V]) {
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
  });
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

}  // namespace

Panels pack(const float* matrix, int64_t rows, int64_t columns, int64_t down, int64_t right, float* to) {
  each_panel(rows, columns, [&](int64_t first, int64_t width, int64_t place) {
    const int64_t some = std::min(width, columns - first);
    const float* const from = matrix + first * right;
    float* const values = to + place;
    if (right == 1) {
      for (int64_t row = 0; row < rows; ++row) std::memcpy(values + row * width, from + row * down, some * sizeof(float));
    } else {  // whole columns, as they lie
      for (int64_t i = 0; i < some; ++i)
        for (int64_t row = 0; row < rows; ++row) values[row * width + i] = from[row * down + i * right];
    }
    for (int64_t row = 0; row < rows && some < width; ++row) std::fill_n(values + row * width + some, width - some, 0.0f);
  });
  return {rows, columns, to};
}

void unpack(const Panels& panels, float* matrix) {
  each_panel(panels.rows, panels.columns, [&](int64_t first, int64_t width, int64_t place) {
    const int64_t some = std::min(width, panels.columns - first);
    for (int64_t row = 0; row < panels.rows; ++row)
      std::memcpy(matrix + row * panels.columns + first, panels.values + place + row * width, some * sizeof(float));
  });
}

void multiply(const float* a, int64_t stride, int64_t pixels, const Panels& b, float* out, int64_t apart,
                     bool add, const float* factors, const float* terms) {
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

void multiply_panels(const float* a, int64_t stride, int64_t pixels, const Panels& b, float* out, bool add) {
  each_panel(b.rows, b.columns, [&](int64_t first, int64_t width, int64_t place) {
    const float* from = b.values + place;
    float* to = out + first * pixels;
    if (width == 3 * kLanes) panel<3>(a, stride, pixels, from, b.rows, to, width, width, add, nullptr, nullptr);
    if (width == 2 * kLanes) panel<2>(a, stride, pixels, from, b.rows, to, width, width, add, nullptr, nullptr);
    if (width == kLanes) panel<1>(a, stride, pixels, from, b.rows, to, width, width, add, nullptr, nullptr);
  });
}

void multiply_outer(const float* a, int64_t stride, int64_t rows, const float* b, int64_t apart, int64_t columns,
                           int64_t pixels, float* out) {
  const int64_t block = std::min(std::max<int64_t>(kCached / (rows + columns), 16), pixels);
  const bool crowded = apart % kCrowded == 0 && block > kKept;
  FloatLines copy(crowded || columns % kLanes ? block * 3 * kLanes : 0);
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
