// Depthwise convolution of channels_last images: every channel has a kernel of its own.

#pragma once

#include <algorithm>
#include <vector>

#include "columns.h"
#include "planes.h"

namespace pose {

// One row of an answer and what it is made of.
struct ChannelRow {
  const float *image, *taps, *bias, *shortcut;  // taps (kh kw, C); shortcut laid out as y, or null
  float *y, *sums;                              // sums of y by channel
  int64_t height, width, channels, columns, top;  // of the image; `top` row of it meets the first tap
  int64_t activation;
};

// Writes neighbouring values from `column` and channel `c` on, activated.
template <typename Value, int kColumns>
inline void put(const ChannelRow& row, int64_t column, int64_t c, Value (&values)[kColumns]) {
  const int64_t place = column * row.channels + c;
  finish_columns(row.y + place, row.shortcut ? row.shortcut + place : nullptr, row.sums + c, row.channels, row.activation,
                 values);
}

// kColumns neighbouring values of a K x K kernel with stride S, all of whose columns lie inside the image. Channels are
// the inner loop, a line of the cache at a time: so memory is read from beginning to end, and a line is done with before
// those of other pixels and taps, which fall into the same few places of the cache, push it out. A 3 x 3 kernel is too
// quickly done for the processor to see what comes: what the next row of the answer needs is fetched meanwhile.
template <int K, int S, int kColumns>
inline void neighbours(const ChannelRow& row, int64_t column, int64_t begin, int64_t end) {
  constexpr int kHalves = kLanes < 16 ? 2 : 1;
  const int64_t step = row.width * row.channels;
  const float* corner = row.image + row.top * step + (column * S - K / 2) * row.channels;
  const float* next = row.image + std::min(row.top + K, row.height - S) * step + column * S * row.channels;
  const int64_t first = std::max<int64_t>(-row.top, 0), last = std::min<int64_t>(row.height - row.top, K);
  int64_t c = begin;
  for (; c + kHalves * kLanes <= end; c += kHalves * kLanes) {
    Lanes values[kHalves][kColumns];
#pragma GCC unroll 2
    for (int half = 0; half < kHalves; ++half) {
      const Lanes bias = load<Lanes>(row.bias + c + half * kLanes);
#pragma GCC unroll 8
      for (int o = 0; o < kColumns; ++o) values[half][o] = bias;
    }
#pragma GCC unroll 2
    for (int a = 0; a < S; ++a)
#pragma GCC unroll 16
      for (int j = 0; j < kColumns * S; ++j) __builtin_prefetch(next + a * step + j * row.channels + c, 0, 2);
    for (int64_t a = first; a < last; ++a)
#pragma GCC unroll 2
      for (int half = 0; half < kHalves; ++half)
        tap_row<K, S, kColumns>(corner + a * step + c + half * kLanes, row.taps + a * K * row.channels + c + half * kLanes,
                                row.channels, values[half]);
#pragma GCC unroll 2
    for (int half = 0; half < kHalves; ++half) put<Lanes, kColumns>(row, column, c + half * kLanes, values[half]);
  }
  for (; c < end; c += kLanes) {
    Lanes values[kColumns];
    for (int o = 0; o < kColumns; ++o) values[o] = load<Lanes>(row.bias + c);
    for (int64_t a = first; a < last; ++a)
      tap_row<K, S, kColumns>(corner + a * step + c, row.taps + a * K * row.channels + c, row.channels, values);
    put<Lanes, kColumns>(row, column, c, values);
  }
}

// The taps [first, last) of a kernel that lie inside `length`, the first of all at `place`.
struct Inside {
  int64_t first, last;

  Inside(int64_t place, int64_t taps, int64_t dilation, int64_t length)
      : first(place < 0 ? (-place + dilation - 1) / dilation : 0),
        last(place < length ? std::min(taps, (length - 1 - place) / dilation + 1) : 0) {}
};

// One column of any kernel, lanes or single channels at a time.
template <typename Value>
inline void anywhere(const ChannelRow& row, const Geometry& g, int64_t column, int64_t begin, int64_t end) {
  const int64_t left = column * g.stride[1] - g.padding[1];
  const Inside down(row.top, g.size[0], g.dilation[0], row.height), across(left, g.size[1], g.dilation[1], row.width);
  for (int64_t c = begin; c < end; c += sizeof(Value) / sizeof(float)) {
    Value value[1] = {load<Value>(row.bias + c)};
    for (int64_t a = down.first; a < down.last; ++a) {
      const float* line = row.image + ((row.top + a * g.dilation[0]) * row.width + left) * row.channels + c;
      const float* taps = row.taps + a * g.size[1] * row.channels + c;
      for (int64_t b = across.first; b < across.last; ++b)
        value[0] += load<Value>(line + b * g.dilation[1] * row.channels) * load<Value>(taps + b * row.channels);
    }
    put<Value, 1>(row, column, c, value);
  }
}

// Channels [begin, end) of a row, whole lanes of them; K 0 takes any geometry.
template <int K, int S>
void convolve_row(const ChannelRow& row, const Geometry& g, int64_t begin, int64_t end) {
  int64_t column = 0;
  const auto borders = [&](int64_t to) {
    for (; column < to; ++column) anywhere<Lanes>(row, g, column, begin, end);
  };
  if constexpr (K > 0) {
    constexpr int kColumns = 4;
    const int64_t room = row.width - K + K / 2;
    const int64_t inside = std::min(room < 0 ? 0 : room / S + 1, row.columns);  // columns before it end in the image
    borders(std::min<int64_t>((K / 2 + S - 1) / S, row.columns));
    for (; column + kColumns <= inside; column += kColumns) neighbours<K, S, kColumns>(row, column, begin, end);
    for (; column < inside; ++column) neighbours<K, S, 1>(row, column, begin, end);
  }
  borders(row.columns);
}

using RowFunction = void (*)(const ChannelRow&, const Geometry&, int64_t, int64_t);

// The function for a kernel: one of the common ones with 'same' padding, or that for any.
inline RowFunction row_function(const Geometry& g) {
  const int64_t size = g.size[0], stride = g.stride[0];
  const bool same = g.same();
  if (same && size == 3 && stride == 1) return convolve_row<3, 1>;
  if (same && size == 3 && stride == 2) return convolve_row<3, 2>;
  return convolve_row<0, 1>;
}

// y = g(kernels * x + bias + shortcut) of one image. Kernels are (kh kw, C).
inline Image convolve_channels(const Image& x, const Geometry& g, const float* kernels, const float* biases,
                                const Ends& ends) {
  const int64_t channels = x.channels, height = x.rows, width = x.columns;
  const int64_t rows = ends.rows ? ends.rows : g.out(0, height), columns = g.out(1, width);
  std::vector<float> unwanted;
  std::vector<float>& totals = ends.averages ? *ends.averages : unwanted;
  totals.assign(channels, 0.0f);
  const auto average = [&](const Image& y) {
    for (float& sum : totals) sum *= 1.0f / static_cast<float>(rows * columns);
    return y;
  };
  if (by_planes(g, ends.from.order)) return average(convolve_planes(x, g, kernels, biases, ends, totals.data()));
  Image y = Image::blank(channels, rows, columns, ends.answer);
  const float* from = x.data;
  const float* added = ends.added(y);
  float *out = y.data, *sums = totals.data();
  const RowFunction convolve = row_function(g);
  // Pieces of channels, not of rows: no two threads add to the same sum.
  const int64_t vectors = (channels + kLanes - 1) / kLanes, pieces = std::min(threads(), vectors);
  parallel_for(0, pieces, 1, [&](int64_t start, int64_t stop) {
    for (int64_t piece = start; piece < stop; ++piece) {
      const int64_t begin = piece * vectors / pieces * kLanes;
      const int64_t end = std::min((piece + 1) * vectors / pieces * kLanes, channels);
      const int64_t whole = begin + (end - begin) / kLanes * kLanes;
      for (int64_t i = 0; i < rows; ++i) {
        const int64_t place = i * columns * channels;
        const ChannelRow row = {from, kernels, biases, added ? added + place : nullptr, out + place, sums, height, width,
                                channels, columns, i * g.stride[0] - g.padding[0], ends.activation};
        if (whole > begin) convolve(row, g, begin, whole);
        if (whole < end)
          for (int64_t column = 0; column < columns; ++column) anywhere<float>(row, g, column, whole, end);
      }
    }
  });
  return average(y);
}

}  // namespace pose
