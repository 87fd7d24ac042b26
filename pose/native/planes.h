// Depthwise convolution by the common kernels, with zeros around the image ('same' padding).
//
// Channels are taken sixteen at a time, from a copy of their plane with its zeros around it, (rows, columns, 16): pixels and
// rows of a channels_last image are multiples of its channels apart, fall into a few places of the inner cache and push
// each other out, while a plane's strip lies there from its first tap to its last, and has no borders to be asked for.

#pragma once

#include <algorithm>
#include <vector>

#include "columns.h"
#include "panels.h"

namespace pose {

// One row of an answer's sixteen channels and what it is made of.
struct PlaneRow {
  const float *image, *taps, *bias, *shortcut;  // the first tap's row of the plane; taps (K K, 16); shortcut as y, or null
  float *y, *sums;                              // sums of y by channel
  int64_t columns, step, pitch, activation;     // values between rows of the plane, and between pixels of y
};

// kColumns neighbouring values of sixteen channels.
template <int K, int S, int kColumns>
inline void plane_columns(const PlaneRow& row, int64_t column) {
  for (int64_t part = 0; part < kPanel; part += kLanes) {
    Lanes values[kColumns];
    const Lanes bias = load<Lanes>(row.bias + part);
#pragma GCC unroll 8
    for (int o = 0; o < kColumns; ++o) values[o] = bias;
    for (int a = 0; a < K; ++a) {
      const float* line = row.image + a * row.step + column * S * kPanel + part;
      tap_row<K, S, kColumns>(line, row.taps + a * K * kPanel + part, kPanel, values);
    }
    const int64_t place = column * row.pitch + part;
    if (part == 0)  // where the next row will be written
#pragma GCC unroll 8
      for (int o = 0; o < kColumns; ++o) __builtin_prefetch(row.y + place + (row.columns + o) * row.pitch, 1, 2);
    finish_columns(row.y + place, row.shortcut ? row.shortcut + place : nullptr, row.sums + part, row.pitch,
                   row.activation, values);
  }
}

template <int K, int S>
void plane_row(const PlaneRow& row) {
  int64_t column = 0;
  for (; column + 8 <= row.columns; column += 8) plane_columns<K, S, 8>(row, column);
  if (column + 4 <= row.columns) plane_columns<K, S, 4>(row, column), column += 4;
  if (column + 2 <= row.columns) plane_columns<K, S, 2>(row, column), column += 2;
  if (column < row.columns) plane_columns<K, S, 1>(row, column);
}

using PlaneFunction = void (*)(const PlaneRow&);

// The function for a kernel, null where it is none of the common ones.
inline PlaneFunction plane_function(const Geometry& g) {
  const int64_t size = g.size[0], stride = g.stride[0];
  const bool same = g.same();
  if (same && size == 3 && stride == 1) return plane_row<3, 1>;
  if (same && size == 3 && stride == 2) return plane_row<3, 2>;
  if (same && size == 5 && stride == 1) return plane_row<5, 1>;
  if (same && size == 5 && stride == 2) return plane_row<5, 2>;
  return nullptr;
}

// Whether a depthwise layer goes by planes. A 3 x 3 kernel has too little to do for every value to be worth a copy, unless
// its image comes so.
inline bool by_planes(const Geometry& g, Order from) { return plane_function(g) && (g.size[0] > 3 || from == kPlanes); }

// Copies `width` channels of an image's rows from `top` on, `rows` of them, with zeros around: (rows, W + 2 side, 16). Row i
// lies at i % `kept`.
inline void copy_plane(const float* image, const Layout& layout, int64_t height, int64_t kept, int64_t columns,
                       int64_t width, int64_t top, int64_t rows, int64_t side, float* to) {
  const int64_t line = columns * kPanel, edge = side * kPanel;
  for (int64_t i = top; i < top + rows; ++i) {
    if (i < 0 || i >= height) {
      to = std::fill_n(to, line + 2 * edge, 0.0f);
      continue;
    }
    const float* from = image + i % kept * columns * layout.pixel;
    to = std::fill_n(to, edge, 0.0f);
    if (layout.pixel == kPanel) {
      std::memcpy(to, from, line * sizeof(float));
      to += line;
    } else if (width == kPanel) {
      for (int64_t j = 0; j < columns; ++j, from += layout.pixel, to += kPanel) std::memcpy(to, from, kPanel * sizeof(float));
    } else {
      for (int64_t j = 0; j < columns; ++j, from += layout.pixel)
        to = std::fill_n(std::copy_n(from, width, to), kPanel - width, 0.0f);
    }
    to = std::fill_n(to, edge, 0.0f);
  }
}

// What `convolve_channels` says, for a kernel that has a `plane_function`; the sums (C) of y's channels.
inline Image convolve_planes(const Image& x, const Geometry& g, const float* kernels, const float* biases,
                              const Ends& ends, float* sums) {
  const int64_t channels = x.channels, height = x.rows, width = x.columns, taps = g.size[0] * g.size[1];
  const int64_t columns = g.out(1, width), panels = panels_of(channels);
  const int64_t start_row = ends.first, rows = ends.rows ? ends.rows : g.out(0, height);
  const int64_t kept = ends.from.rows ? ends.from.rows : height;
  Image y = Image::blank(channels, rows, columns, ends.answer);
  const Layout from(x, ends.from), to(y, ends.to);
  const float* image = x.data;
  const float* added = ends.added(y);
  float* out = y.data;
  const PlaneFunction run = plane_function(g);
  const int64_t side = g.padding[1], stride = g.stride[0], step = (width + 2 * side) * kPanel;
  const int64_t most = std::max<int64_t>((kCached / step - g.size[0]) / stride, 4);
  parallel_for(0, panels, 1, [&](int64_t start, int64_t stop) {
    thread_local std::vector<float> scratch;
    const int64_t size = ((most - 1) * stride + g.size[0]) * step;
    if (static_cast<int64_t>(scratch.size()) < size) scratch.resize(size);
    std::vector<float> own(taps * kPanel), rest(2 * columns * kPanel);
    for (int64_t panel = start; panel < stop; ++panel) {
      const int64_t some = std::min(kPanel, channels - panel * kPanel);
      for (int64_t t = 0; t < taps; ++t) std::copy_n(kernels + t * channels + panel * kPanel, some, own.data() + t * kPanel);
      float total[kPanel] = {};
      for (int64_t first = 0; first < rows; first += most) {
        const int64_t last = std::min(first + most, rows);
        copy_plane(image + panel * from.panel, from, height, kept, width, some,
                   (start_row + first) * stride - g.padding[0], (last - 1 - first) * stride + g.size[0], side,
                   scratch.data());
        for (int64_t i = first; i < last; ++i) {
          const int64_t place = panel * to.panel + i * columns * to.pixel;
          PlaneRow row = {scratch.data() + (i - first) * stride * step, own.data(), biases + panel * kPanel,
                          added ? added + place : nullptr, out + place, total, columns, step, to.pixel,
                          ends.activation};
          if (some == kPanel) {
            run(row);
            continue;
          }
          if (added)
            for (int64_t j = 0; j < columns; ++j)
              std::copy_n(added + place + j * to.pixel, some, rest.data() + (columns + j) * kPanel);
          row.shortcut = added ? rest.data() + columns * kPanel : nullptr;
          row.y = rest.data();
          row.pitch = kPanel;
          run(row);
          for (int64_t j = 0; j < columns; ++j)
            std::copy_n(rest.data() + j * kPanel, some, out + place + j * to.pixel);
        }
      }
      for (int64_t c = 0; c < some; ++c) sums[panel * kPanel + c] = total[c];
    }
  });
  return y;
}

}  // namespace pose
