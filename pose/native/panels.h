// Convolution of channels_last images as a product of pixels and panels of kernels.
//
// A panel is what sixteen outputs need, (kh kw C_in, 16), so that a row of it meets one value of every pixel. A kernel is
// its panels one after the other, the last one filled up with zeros. Panels may come from memory or be made for an image
// just before they are used, while they are in the cache: mixing kernels element by element keeps their order.

#pragma once

#include <algorithm>
#include <functional>
#include <vector>

#include "arrays.h"
#include "lanes.h"
#include "parallel.h"

namespace pose {

constexpr int64_t kPanel = 16;

inline int64_t panels_of(int64_t outputs) { return (outputs + kPanel - 1) / kPanel; }

// Values that are worked on at a time, so that they stay in the cache.
constexpr int64_t kCached = 32768;

// How an image (C, H, W) lies in memory between two layers: pixel by pixel, as channels_last has it, or by planes,
// (C / 16, H, W, 16), see planes.h.
enum Order { kPixels, kPlanes };

// How many values lie between neighbouring pixels, and between the first ones of neighbouring panels, of an image.
struct Layout {
  int64_t pixel, panel;

  Layout(const Image& x, Order order)
      : pixel(order == kPixels ? x.channels : kPanel), panel(order == kPixels ? kPanel : x.pixels() * kPanel) {
    if (order == kPlanes && x.channels % kPanel) refuse("planes are of whole panels, not of ", x.channels, " channels");
  }
};

// What is done with a convolution's sums, and how its images lie in memory.
struct Ends {
  int64_t activation = kNone;
  Image shortcut;                          // to be added, if defined
  std::vector<float>* averages = nullptr;  // (C) of the answer's channels, where wanted
  Order from = kPixels, to = kPixels;
  float* answer = nullptr;  // where it is to be written, if that is settled

  // The values to be added to an answer, which lie as it does; null where there are none.
  const float* added(const Image& y) const {
    if (shortcut.defined() && !shortcut.has_shape_of(y)) refuse("a shortcut has another shape than what it is added to");
    return shortcut.data;
  }
};

// Where a kernel meets an image.
struct Geometry {
  int64_t size[2], stride[2], padding[2], dilation[2];

  // Whether it is square, without dilation and with 'same' padding.
  bool same() const {
    return size[0] == size[1] && stride[0] == stride[1] && padding[0] == size[0] / 2 && padding[1] == size[0] / 2 &&
           dilation[0] == 1 && dilation[1] == 1;
  }

  int64_t out(int axis, int64_t length) const {
    if (length <= 0 || length + 2 * padding[axis] <= dilation[axis] * (size[axis] - 1))
      refuse("a kernel is larger than its image of ", length, " pixels a side");
    return (length + 2 * padding[axis] - dilation[axis] * (size[axis] - 1) - 1) / stride[axis] + 1;
  }
};

// Pixels times rows of a panel: `taps` stretches of `inner` neighbouring values for every pixel, whose addresses lie in
// `pixels` one after the other; `weights` are (taps inner, pitch).
struct Product {
  const float* const* pixels = nullptr;
  int64_t taps = 0, inner = 0;
  const float* weights = nullptr;
  int64_t pitch = kPanel;
};

// y = g(scale (pixels weights) + more + bias + shortcut) for up to sixteen outputs of neighbouring pixels.
struct Panel {
  Product main, more;
  const float *scale = nullptr, *bias = nullptr;  // by output, of sixteen; none if null
  const float* shortcut = nullptr;                // laid out as y
  float* y = nullptr;
  int64_t pitch = 0, width = kPanel;  // values between the pixels of y, and how many of them are written
  int64_t activation = kNone;
  float* sums = nullptr;  // of y by output, of sixteen; not wanted if null
  const char* ahead = nullptr;  // what will be needed next, so many bytes; as much as can be is fetched meanwhile
  int64_t ahead_bytes = 0;
};

// With each row of weights it fetches a line of memory at `ahead`, which goes on by `step` bytes: more at once would make
// the products wait.
template <int kRows, int kCount>
inline void accumulate(const Product& product, int64_t first, Lanes (&sums)[kRows][kCount], const char* ahead,
                       int64_t step) {
  const float* weights = product.weights;
  for (int64_t tap = 0; tap < product.taps; ++tap) {
    const float* from[kRows];
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) from[row] = product.pixels[(first + row) * product.taps + tap];
    int64_t i = 0;
    if constexpr (kRows == 1) {  // a single pixel's sums would wait for each other: four at a time
      Lanes others[3][kCount] = {};
      for (; i + 4 <= product.inner; i += 4, weights += 4 * product.pitch, ahead += 4 * step) {
        __builtin_prefetch(ahead, 0, 2);
#pragma GCC unroll 4
        for (int part = 0; part < kCount; ++part) {
          sums[0][part] += load<Lanes>(weights + part * kLanes) * from[0][i];
#pragma GCC unroll 3
          for (int j = 1; j < 4; ++j)
            others[j - 1][part] += load<Lanes>(weights + j * product.pitch + part * kLanes) * from[0][i + j];
        }
      }
      for (int part = 0; part < kCount; ++part) sums[0][part] += others[0][part] + others[1][part] + others[2][part];
    }
#pragma GCC unroll 2
    for (; i < product.inner; ++i, weights += product.pitch, ahead += step) {
      __builtin_prefetch(ahead, 0, 2);
      Lanes weight[kCount];
#pragma GCC unroll 4
      for (int part = 0; part < kCount; ++part) weight[part] = load<Lanes>(weights + part * kLanes);
#pragma GCC unroll 16
      for (int row = 0; row < kRows; ++row) {
        const float value = from[row][i];
#pragma GCC unroll 4
        for (int part = 0; part < kCount; ++part) sums[row][part] += weight[part] * value;
      }
    }
  }
}

// The common end of a tile, in registers: full width, and an activation that is a pair of bounds.
template <int kRows, int kCount>
inline void finish_plain(const Panel& panel, int64_t first, Lanes (&sums)[kRows][kCount]) {
  const Lanes zero = {}, low = zero + lower_bound(panel.activation), high = zero + upper_bound(panel.activation);
  float* y = panel.y + first * panel.pitch;
  if (panel.shortcut) {
    const float* shortcut = panel.shortcut + first * panel.pitch;
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row, shortcut += panel.pitch)
#pragma GCC unroll 4
      for (int part = 0; part < kCount; ++part) sums[row][part] += load<Lanes>(shortcut + part * kLanes);
  }
#pragma GCC unroll 16
  for (int row = 0; row < kRows; ++row, y += panel.pitch) {
#pragma GCC unroll 4
    for (int part = 0; part < kCount; ++part) {
      sums[row][part] = between(sums[row][part], low, high);
      store(y + part * kLanes, sums[row][part]);
    }
  }
  if (!panel.sums) return;
#pragma GCC unroll 4
  for (int part = 0; part < kCount; ++part) {
    Lanes total = load<Lanes>(panel.sums + part * kLanes);
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) total += sums[row][part];
    store(panel.sums + part * kLanes, total);
  }
}

// Any end, through memory.
template <int kCount>
void finish_any(const Panel& panel, int64_t first, int64_t rows, const float* sums) {
  constexpr int64_t kWidth = kCount * kLanes;
  const int64_t width = std::min(kWidth, panel.width);
  with_activation(panel.activation, [&](auto kind) {
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t place = (first + row) * panel.pitch;
      for (int64_t o = 0; o < width; ++o) {
        const float sum = sums[row * kWidth + o] + (panel.shortcut ? panel.shortcut[place + o] : 0.0f);
        const float value = activate<decltype(kind)::value>(sum);
        panel.y[place + o] = value;
        if (panel.sums) panel.sums[o] += value;
      }
    }
  });
}

template <int kRows, int kCount>
void multiply_rows(const Panel& panel, int64_t first, const char* ahead, int64_t step) {
  Lanes sums[kRows][kCount], bias[kCount];
#pragma GCC unroll 4
  for (int part = 0; part < kCount; ++part) {
    bias[part] = panel.bias ? load<Lanes>(panel.bias + part * kLanes) : Lanes{};
    const Lanes start = panel.scale ? Lanes{} : bias[part];
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) sums[row][part] = start;
  }
  accumulate<kRows, kCount>(panel.main, first, sums, ahead, step);
  if (panel.scale) {
#pragma GCC unroll 4
    for (int part = 0; part < kCount; ++part) {
      const Lanes scale = load<Lanes>(panel.scale + part * kLanes);
#pragma GCC unroll 16
      for (int row = 0; row < kRows; ++row) sums[row][part] = sums[row][part] * scale + bias[part];
    }
  }
  if (panel.more.taps) accumulate<kRows, kCount>(panel.more, first, sums, ahead, 0);
  if (panel.width >= kCount * kLanes && panel.activation != kHardswish)
    return finish_plain<kRows, kCount>(panel, first, sums);
  float kept[kRows * kCount * kLanes];
#pragma GCC unroll 16
  for (int row = 0; row < kRows; ++row)
#pragma GCC unroll 4
    for (int part = 0; part < kCount; ++part) store(kept + (row * kCount + part) * kLanes, sums[row][part]);
  finish_any<kCount>(panel, first, kRows, kept);
}

template <int kRows, int kCount>
inline void multiply_some(const Panel& panel, int64_t first, int64_t rows, const char* ahead, int64_t step) {
  if constexpr (kRows > 0) {
    if (rows == kRows) return multiply_rows<kRows, kCount>(panel, first, ahead, step);
    multiply_some<kRows - 1, kCount>(panel, first, rows, ahead, step);
  }
}

template <int kCount>
void multiply_tiles(const Panel& panel, int64_t count) {
  const int64_t tiles = (count + kTile - 1) / kTile, rows_of_weights = panel.main.taps * panel.main.inner;
  const int64_t step = panel.ahead_bytes / (tiles * rows_of_weights);
  const char* ahead = panel.ahead ? panel.ahead : reinterpret_cast<const char*>(panel.main.weights);
  for (int64_t tile = 0; tile < tiles; ++tile, ahead += step * rows_of_weights) {
    const int64_t first = tile * count / tiles, next = (tile + 1) * count / tiles;
    if (tile + 1 < tiles)  // where it will write, so that the first write need not wait
      for (int row = 0; row < kTile; ++row) __builtin_prefetch(panel.y + (next + row) * panel.pitch, 1, 2);
    multiply_some<kTile, kCount>(panel, first, next - first, ahead, step);
  }
}

// All of `count` pixels, in tiles as equal as can be.
inline void multiply(const Panel& panel, int64_t count) {
  constexpr int kAll = kPanel / kLanes;
  if constexpr (kAll > 2)
    if (panel.width > 2 * kLanes) return multiply_tiles<kAll>(panel, count);
  if constexpr (kAll > 1)
    if (panel.width > kLanes) return multiply_tiles<2>(panel, count);
  multiply_tiles<1>(panel, count);
}

// The kernels of a layer for one image.
struct Kernels {
  int64_t outputs = 0;
  // A panel, (kh kw C_in, pitch): from memory, or made in the scratch that is given.
  std::function<const float*(int64_t panel, float* scratch)> panel;
  int64_t pitch = kPanel;
  bool made = false;           // whether panels are made
  const char* bank = nullptr;  // where they lie or what they are made of, and its bytes a panel
  int64_t bank_bytes = 0;
  const float *bias = nullptr, *scale = nullptr;  // (panels, 16)
  // A second product that is added: pixels (H' W', inner) and panels (panels, inner, 16).
  const float *more = nullptr, *more_panels = nullptr;
  int64_t more_inner = 0;
};

// Kernels that lie in memory, from one panel to the next `step` values apart.
inline Kernels kernels_at(int64_t outputs, const float* panels, int64_t step, const float* bias) {
  Kernels kernels;
  kernels.outputs = outputs;
  kernels.panel = [=](int64_t panel, float*) { return panels + panel * step; };
  kernels.bank = reinterpret_cast<const char*>(panels);
  kernels.bank_bytes = step * static_cast<int64_t>(sizeof(float));
  kernels.bias = bias;
  return kernels;
}

// Zeros around an image.
inline Image pad(const Image& x, int64_t rows, int64_t columns) {
  const int64_t channels = x.channels, height = x.rows, lines = height + 2 * rows;
  const int64_t line = x.columns * channels, side = columns * channels, wide = line + 2 * side;
  Image padded = Image::blank(channels, lines, x.columns + 2 * columns);
  const float* from = x.data;
  float* to = padded.data;
  parallel_for(0, lines, 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* out = to + i * wide;
      const int64_t row = i - rows;
      if (row < 0 || row >= height) {
        std::fill(out, out + wide, 0.0f);
      } else {
        std::fill(out, out + side, 0.0f);
        std::memcpy(out + side, from + row * line, line * sizeof(float));
        std::fill(out + side + line, out + wide, 0.0f);
      }
    }
  });
  return padded;
}

// y = g(kernels * x + bias + shortcut) of one image, which lies pixel by pixel.
inline Image convolve(const Image& input, const Geometry& g, const Kernels& kernels, const Ends& ends) {
  const int64_t channels = input.channels, outputs = kernels.outputs;
  std::vector<float>* const averages = ends.averages;
  const int64_t height = g.out(0, input.rows), width = g.out(1, input.columns), pixels = height * width;
  const Image x = g.padding[0] || g.padding[1] ? pad(input, g.padding[0], g.padding[1]) : input;
  const int64_t line = x.columns * channels;
  // Neighbouring taps of a row are neighbours in memory.
  const bool rows_at_once = g.dilation[1] == 1;
  const int64_t taps = rows_at_once ? g.size[0] : g.size[0] * g.size[1];
  const int64_t inner = rows_at_once ? g.size[1] * channels : channels;
  std::vector<int64_t> offsets(taps);
  for (int64_t t = 0; t < taps; ++t)
    offsets[t] = rows_at_once ? t * g.dilation[0] * line
                              : t / g.size[1] * g.dilation[0] * line + t % g.size[1] * g.dilation[1] * channels;
  const bool plain = inner == channels && taps == 1 && g.stride[0] == 1 && g.stride[1] == 1;
  const int64_t panel_size = taps * inner * kPanel, panels = panels_of(outputs), padded = panels * kPanel;

  Image y = Image::blank(outputs, height, width, ends.answer);
  const Layout to(y, ends.to);
  const float* from = x.data;
  const float* added = ends.added(y);
  float* out = y.data;

  // So many pixels at a time that they stay in the cache while the panels pass, and so many panels while pixels do.
  const int64_t most = std::max<int64_t>(kCached / (channels * g.stride[1] + outputs), 16 * kTile);
  const int64_t blocks = (pixels + most - 1) / most, block = (pixels + blocks - 1) / blocks;
  const int64_t share = std::max<int64_t>(panels / threads(), 1);
  const int64_t together = blocks == 1 ? 1 : std::clamp<int64_t>(kCached / panel_size, 1, share);
  const int64_t groups = (panels + together - 1) / together;
  const int64_t chunks = groups >= threads() ? 1 : std::min(threads(), (pixels + kTile - 1) / kTile);

  std::vector<float> sums(averages ? chunks * padded : 0);
  parallel_for(0, groups * chunks, 1, [&](int64_t begin, int64_t end) {
    thread_local std::vector<float> scratch;
    thread_local std::vector<const float*> addresses, more_addresses, weights;
    if (kernels.made && static_cast<int64_t>(scratch.size()) < together * panel_size) scratch.resize(together * panel_size);
    weights.resize(together);
    for (int64_t item = begin; item < end; ++item) {
      const int64_t group = item / chunks, chunk = item % chunks;
      const int64_t first_panel = group * together, last_panel = std::min(panels, first_panel + together);
      for (int64_t p = first_panel; p < last_panel; ++p)
        weights[p - first_panel] = kernels.panel(p, scratch.data() + (p - first_panel) * panel_size);
      const int64_t start = chunk * pixels / chunks, last = (chunk + 1) * pixels / chunks;
      for (int64_t first = start; first < last; first += block) {
        const int64_t count = std::min(block, last - first);
        addresses.resize(count * taps);
        if (plain) {
          for (int64_t i = 0; i < count; ++i) addresses[i] = from + (first + i) * channels;
        } else {
          for (int64_t i = 0, row = first / width, column = first % width; i < count; ++i) {
            const float* corner = from + row * g.stride[0] * line + column * g.stride[1] * channels;
            for (int64_t t = 0; t < taps; ++t) addresses[i * taps + t] = corner + offsets[t];
            if (++column == width) column = 0, ++row;
          }
        }
        Panel panel;
        panel.main = {addresses.data(), taps, inner, nullptr, kernels.pitch};
        if (kernels.more) {
          more_addresses.resize(count);
          for (int64_t i = 0; i < count; ++i) more_addresses[i] = kernels.more + (first + i) * kernels.more_inner;
          panel.more = {more_addresses.data(), 1, kernels.more_inner, nullptr, kPanel};
        }
        panel.pitch = to.pixel;
        panel.activation = ends.activation;
        for (int64_t p = first_panel; p < last_panel; ++p) {
          const int64_t place = p * kPanel, offset = first * to.pixel + p * to.panel;
          panel.main.weights = weights[p - first_panel];
          if (kernels.more) panel.more.weights = kernels.more_panels + place * kernels.more_inner;
          if (kernels.bias) panel.bias = kernels.bias + place;
          if (kernels.scale) panel.scale = kernels.scale + place;
          if (added) panel.shortcut = added + offset;
          panel.y = out + offset;
          panel.width = std::min(kPanel, outputs - place);
          if (averages) panel.sums = sums.data() + chunk * padded + place;
          if (first == start && p + together < panels) {  // what the next group's kernels are or will be made of
            panel.ahead = kernels.bank + (p + together) * kernels.bank_bytes;
            panel.ahead_bytes = kernels.bank_bytes;
          } else {  // the pixels of the next tile, and of the next block
            const bool pixels_ahead = plain && p == first_panel;
            panel.ahead = pixels_ahead ? reinterpret_cast<const char*>(from + (first + kTile) * channels) : nullptr;
            panel.ahead_bytes = pixels_ahead ? count * channels * static_cast<int64_t>(sizeof(float)) : 0;
          }
          multiply(panel, count);
        }
      }
    }
  });
  if (averages) {
    averages->assign(outputs, 0.0f);
    for (int64_t chunk = 0; chunk < chunks; ++chunk)
      for (int64_t o = 0; o < outputs; ++o) (*averages)[o] += sums[chunk * padded + o];
    for (float& sum : *averages) sum *= 1.0f / static_cast<float>(pixels);
  }
  return y;
}

}  // namespace pose
