// Depthwise convolution in 8 bits, of any size without dilation.
//
// Sixteen channels at a time, rows of their pixels are copied into a ring as the kernel reaches them: with bytes of zero
// around, and each pixel beside its right neighbour, as pairs of taps meet them.

#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "blocks.h"
#include "channel_ends.h"

namespace pose {

// How the ring's pixels lie: with stride 2 every second one is a first of a pair.
struct RingSteps {
  int64_t output, pair, pixel;  // entries between outputs, and between pairs of taps; pixels between entries

  explicit RingSteps(int64_t stride)
      : output(stride == 2 ? 1 : stride), pair(stride == 2 ? 1 : 2), pixel(stride == 2 ? 2 : 1) {}
};

// One row of an answer's sixteen channels and what it is made of.
struct ByteRow {
  const uint8_t* const* lines;  // of the ring
  const int8_t* taps;
  const float *scale, *shift;
  int64_t columns, panel;
  SixteenEnds ends;
  const WordEnds* words;  // in place of them, or null
};

// The groups of kColumns neighbouring values; K 0 takes any size.
template <int K, int S, int kColumns>
[[gnu::always_inline]] inline void add_taps(const uint8_t* const* lines, const int8_t* taps, const Geometry& g,
                                            int64_t column, Shorts (&groups)[kGroups][kColumns]) {
  const int64_t height = K ? K : g.size[0], width = pairs_of(K ? K : g.size[1]);
  const RingSteps step(S ? S : g.stride[1]);
#pragma GCC unroll 1  // else the compiler makes trees of all sums, which its registers do not hold
  for (int64_t a = 0; a < height; ++a, taps += width * 2 * kPanel)
#pragma GCC unroll 4
    for (int64_t b = 0; b < width; ++b)
#pragma GCC unroll 8
      for (int o = 0; o < kColumns; ++o)
        groups[b % kGroups][o] += pair_products(
            lines[a] + ((column + o) * step.output + b * step.pair) * 2 * kPanel, taps + b * 2 * kPanel);
}

[[gnu::noinline, gnu::cold]] inline void store_part(Pixel bytes, int64_t width, uint8_t* to) {
  std::memcpy(to, &bytes, width);
}

// Bytes by whole numbers of 16 bits, which are added to `total` as well.
template <int K, int S, int kColumns>
[[gnu::always_inline]] inline void word_columns(const ByteRow& row, const Geometry& g, const WordEnd& end, int64_t column,
                                                Shorts& total) {
  Shorts groups[kGroups][kColumns] = {};
  add_taps<K, S, kColumns>(row.lines, row.taps, g, column, groups);
  uint8_t* to = row.ends.y_bytes + column * row.ends.pitch;
#pragma GCC unroll 8
  for (int o = 0; o < kColumns; ++o, to += row.ends.pitch) {
    const Shorts kept = end(groups[0][o], groups[1][o]);
    total += kept;
    const auto bytes = __builtin_convertvector(kept, Pixel);
    if (row.ends.width == kPanel)
      std::memcpy(to, &bytes, kPanel);
    else
      store_part(bytes, row.ends.width, to);
  }
}

// Adds sixteen whole numbers to sums.
inline void add_shorts(Shorts from, float* sums) {
  int16_t values[kPanel];
  std::memcpy(values, &from, sizeof(values));
  for (int i = 0; i < kPanel; ++i) sums[i] += static_cast<float>(values[i]);
}

template <int K, int S, int kColumns>
[[gnu::always_inline]] inline void byte_columns(const ByteRow& row, const Geometry& g, int64_t column) {
  Shorts groups[kGroups][kColumns] = {};
  add_taps<K, S, kColumns>(row.lines, row.taps, g, column, groups);
#pragma GCC unroll 8
  for (int o = 0; o < kColumns; ++o) {
    Lanes values[kParts];
    widen(groups[0][o], groups[1][o], row.scale, row.shift, values);
    row.ends(column + o, values);
  }
}

template <int K, int S>
void byte_row(const ByteRow& given, const Geometry& g) {
  constexpr int kColumns = 4;
  const ByteRow row = given;  // what is written could be anywhere, but not here
  int64_t column = 0;
  if (row.words) {
    const WordEnd end = row.words->of(row.panel);
    while (column < row.columns) {
      Shorts total = {};
      const int64_t stop = std::min<int64_t>(row.columns, column + 128);  // bytes of so many columns fit
      for (; column + kColumns <= stop; column += kColumns) word_columns<K, S, kColumns>(row, g, end, column, total);
      if (column + 2 <= stop) word_columns<K, S, 2>(row, g, end, column, total), column += 2;
      if (column < stop) word_columns<K, S, 1>(row, g, end, column, total), ++column;
      if (row.ends.sums) add_shorts(total, row.ends.sums);
    }
    return;
  }
  for (; column + kColumns <= row.columns; column += kColumns) byte_columns<K, S, kColumns>(row, g, column);
  for (; column < row.columns; ++column) byte_columns<K, S, 1>(row, g, column);
}

using ByteRowFunction = void (*)(const ByteRow&, const Geometry&);

inline ByteRowFunction byte_row_function(const Geometry& g) {
  const int64_t size = g.size[0], stride = g.stride[1];
  if (size == g.size[1] && size == 3 && stride == 1) return byte_row<3, 1>;
  if (size == g.size[1] && size == 3 && stride == 2) return byte_row<3, 2>;
  if (size == g.size[1] && size == 5 && stride == 1) return byte_row<5, 1>;
  if (size == g.size[1] && size == 5 && stride == 2) return byte_row<5, 2>;
  return byte_row<0, 0>;
}

// Sixteen bytes, of which `some` are there; all of them where kWhole.
template <bool kWhole>
inline Pixel load_pixel(const uint8_t* from, int64_t some) {
  Pixel pixel = {};
  std::memcpy(&pixel, from, kWhole ? kPanel : some);
  return pixel;
}

inline void store_pair(Pixel own, Pixel next, uint8_t* to) {
#if defined(__SSE2__)
  const __m128i low = _mm_unpacklo_epi8((__m128i)own, (__m128i)next), high = _mm_unpackhi_epi8((__m128i)own, (__m128i)next);
#if defined(__AVX2__)
  const __m256i both = _mm256_set_m128i(high, low);  // as it will be read: two parts would have to reach the cache first
  std::memcpy(to, &both, 2 * kPanel);
#else
  std::memcpy(to, &low, kPanel);
  std::memcpy(to + kPanel, &high, kPanel);
#endif
#else
  for (int i = 0; i < kPanel; ++i) to[2 * i] = own[i], to[2 * i + 1] = next[i];
#endif
}

// A ring's rows: pairs of neighbours, (entries, 16, 2), `step` pixels apart, of rows of pixels `pitch` apart with `side`
// zeros before and after. Both pixels lie inside from entry `first` to `last`.
struct RingRow {
  int64_t columns, pitch, side, entries, step, first, last;

  RingRow(int64_t columns, int64_t pitch, int64_t side, int64_t entries, int64_t step)
      : columns(columns), pitch(pitch), side(side), entries(entries), step(step),
        first(std::min((side + step - 1) / step, entries)), last(first) {
    const int64_t reach = side + columns - 2;  // where the last pair begins, if there is one
    if (reach >= 0) last = std::clamp(reach / step + 1, first, entries);
  }

  int64_t size() const { return entries * 2 * kPanel; }

  // Of the first `some` channels of a row's pixels; no row: of zeros alone.
  template <bool kWhole>
  void fill(const uint8_t* row, int64_t some, uint8_t zero, uint8_t* to) const {
    const auto at = [&](int64_t j) {
      const bool inside = row && j >= side && j < side + columns;
      return inside ? load_pixel<kWhole>(row + (j - side) * pitch, some) : Pixel{} + zero;
    };
    const auto border = [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) store_pair(at(i * step), at(i * step + 1), to + i * 2 * kPanel);
    };
    if (!row) return border(0, entries);
    border(0, first);
    for (int64_t i = first; i < last; ++i) {
      const uint8_t* const from = row + (i * step - side) * pitch;
      store_pair(load_pixel<kWhole>(from, some), load_pixel<kWhole>(from + pitch, some), to + i * 2 * kPanel);
    }
    border(last, entries);
  }
};

// Panels whose rows are written one after the other, so that a line of the cache is written whole.
constexpr int64_t kPanelsTogether = 4;

// y = g(kernels * x + bias + shortcut) of one image, which comes in bytes or becomes them.
inline Image convolve_channel_bytes(const Image& input, const Geometry& g, const ByteTaps& taps, const Levels& levels,
                                    const Ends& ends) {
  const bool given = ends.from.in_bytes();
  const Image x = given ? input : in_bytes(input, levels);
  const Layout from(x, given ? ends.from : Form{kPixels, levels});
  const int64_t channels = x.channels, rows = ends.rows ? ends.rows : g.out(0, x.rows), columns = g.out(1, x.columns);
  const int64_t panels = panels_of(channels), kept = given && ends.from.rows ? ends.from.rows : x.rows;
  Image y = blank(channels, rows, columns, ends.to, ends.answer);
  const Layout to(y, ends.to);
  const float* const added = ends.added(y);
  std::vector<float> sums(panels * kPanel);
  const ByteRowFunction run = byte_row_function(g);
  const RingSteps step(g.stride[1]);
  const int64_t height = g.size[0], entries = (columns - 1) * step.output + (pairs_of(g.size[1]) - 1) * step.pair + 1;
  const auto zero = static_cast<uint8_t>(levels.zero);
  const uint8_t* const image = bytes_in(x);
  const bool bytes = ends.to.in_bytes();
  const ToBytes to_bytes(ends.to.levels, ends.activation);
  std::optional<WordEnds> words;
  if (bytes && !added && ends.activation != kHardswish) words.emplace(taps, ends.to.levels, ends.activation);
  if (words && !words->usable()) words.reset();
  const RingRow ring(x.columns, from.pixel, g.padding[1], entries, step.pixel);
  const int64_t groups = (panels + kPanelsTogether - 1) / kPanelsTogether, shift = g.stride[0] % height;
  parallel_for(0, groups, 1, [&](int64_t start, int64_t stop) {
    const auto rings = Spare::take(kPanelsTogether * height * ring.size() / static_cast<int64_t>(sizeof(float)));
    std::vector<const uint8_t*> lines(height);
    for (int64_t group = start; group < stop; ++group) {
      const int64_t first = group * kPanelsTogether, last = std::min(first + kPanelsTogether, panels);
      const int64_t above = ends.first * g.stride[0] - g.padding[0];
      int64_t filled = above, slot = 0;  // the first row that is in no ring yet, and where a ring's first one lies
      for (int64_t i = 0; i < rows; ++i, slot += slot + shift < height ? shift : shift - height) {
        const int64_t top = above + i * g.stride[0];
        filled = std::max(filled, top);
        for (int64_t panel = first; panel < last; ++panel) {
          const int64_t some = std::min(kPanel, channels - panel * kPanel);
          uint8_t* const own = reinterpret_cast<uint8_t*>(rings.get()) + (panel - first) * height * ring.size();
          for (int64_t a = 0; a < height; ++a) {
            const int64_t place = slot + a < height ? slot + a : slot + a - height, row = top + a;
            lines[a] = own + place * ring.size();
            if (row < filled) continue;
            const bool inside = row >= 0 && row < x.rows;
            const uint8_t* const values = inside ? image + panel * from.panel + row % kept * x.columns * from.pixel : nullptr;
            if (some == kPanel)
              ring.fill<true>(values, some, zero, own + place * ring.size());
            else
              ring.fill<false>(values, some, zero, own + place * ring.size());
          }
          const int64_t place = panel * to.panel + i * columns * to.pixel, channel = panel * kPanel;
          const SixteenEnds end = {bytes ? nullptr : y.data + place, bytes ? bytes_in(y) + place : nullptr,
                                   to_bytes, added ? added + place : nullptr,
                                   ends.averages ? sums.data() + channel : nullptr, to.pixel, some, ends.activation};
          run({lines.data(), taps.pairs.data() + panel * ByteTaps::size(g), taps.scale.data() + channel,
               taps.shift.data() + channel, columns, panel, end, words ? &*words : nullptr}, g);
        }
        filled = top + height;
      }
    }
  });
  if (ends.averages) {
    ends.averages->assign(sums.begin(), sums.begin() + channels);
    const float share = 1.0f / static_cast<float>(rows * columns);
    for (float& sum : *ends.averages) sum = words ? ends.to.levels.unit * (sum * share - ends.to.levels.zero) : sum * share;
  }
  return y;
}

}  // namespace pose
