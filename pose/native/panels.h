// Convolution of channels_last images as a product of pixels and panels of kernels.
//
// A kernel is its panels one after the other, see products.h, the last one filled up with zeros. Panels may come from
// memory or be made for an image just before they are used, while they are in the cache: mixing kernels element by element
// keeps their order.

#pragma once

#include <algorithm>
#include <cstring>
#include <functional>
#include <type_traits>
#include <vector>

#include "amx.h"
#include "arrays.h"
#include "parallel.h"
#include "products.h"

namespace pose {

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

// Zeros around `height` rows of an image, so many rows and values of a row on each side.
template <typename Value>
inline void pad(const Value* from, int64_t height, int64_t line, int64_t rows, int64_t side, Value zero, Value* to) {
  const int64_t lines = height + 2 * rows, wide = line + 2 * side;
  parallel_for(0, lines, 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      Value* out = to + i * wide;
      const int64_t row = i - rows;
      if (row < 0 || row >= height) {
        std::fill(out, out + wide, zero);
      } else {
        std::fill(out, out + side, zero);
        std::memcpy(out + side, from + row * line, line * sizeof(Value));
        std::fill(out + side + line, out + wide, zero);
      }
    }
  });
}

inline Image pad(const Image& x, int64_t rows, int64_t columns) {
  Image padded = Image::blank(x.channels, x.rows + 2 * rows, x.columns + 2 * columns);
  pad(x.data, x.rows, x.columns * x.channels, rows, columns * x.channels, 0.0f, padded.data);
  return padded;
}

// Pixels at one distance times one or two panels; in `parts` by AMX, if there are any.
template <typename Value>
inline void multiply_near([[maybe_unused]] const Strided& product, [[maybe_unused]] int64_t count,
                          [[maybe_unused]] int64_t pixels, [[maybe_unused]] int64_t parts,
                          [[maybe_unused]] TileRegisters& registers) {
  constexpr bool kBytes = std::is_same_v<Value, uint8_t>, kPairs = std::is_same_v<Value, uint16_t>;
#if defined(POSE_AMX)
  if constexpr (kBytes || kPairs)
    if (parts) return multiply_amx<kBytes>(product, count, pixels, parts, registers);
#endif
#if defined(__AVX512BW__)
  using Words = std::conditional_t<kBytes, ByteWords, std::conditional_t<kPairs, PairWords, FloatWords>>;
  multiply_tiles_strided<Words>(product, count, pixels);
#endif
}

// y = g(kernels * x + bias + shortcut) of one image, which lies pixel by pixel.
//
// Its values `from` have their zeros around them already, `channels` a pixel. They are float32; or bytes, whose panels are
// blocks as blocks.h has them; or of bfloat16, whose panels pairs.h has.
template <typename Value>
Image convolve_values(const Image& input, const Value* from, int64_t channels, const Geometry& g, const Kernels& kernels,
                      const Ends& ends) {
  constexpr bool kBytes = std::is_same_v<Value, uint8_t>;
  constexpr int64_t kTogether = sizeof(float) / sizeof(Value);
  const int64_t outputs = kernels.outputs;
  std::vector<float>* const averages = ends.averages;
  const int64_t height = g.out(0, input.rows), width = g.out(1, input.columns), pixels = height * width;
  const int64_t line = (input.columns + 2 * g.padding[1]) * channels;
  // Neighbouring taps of a row are neighbours in memory.
  const bool rows_at_once = g.dilation[1] == 1;
  const int64_t taps = rows_at_once ? g.size[0] : g.size[0] * g.size[1];
  const int64_t inner = rows_at_once ? g.size[1] * channels : channels;
  std::vector<int64_t> offsets(taps);
  for (int64_t t = 0; t < taps; ++t)
    offsets[t] = rows_at_once ? t * g.dilation[0] * line
                              : t / g.size[1] * g.dilation[0] * line + t % g.size[1] * g.dilation[1] * channels;
  const bool plain = inner == channels && taps == 1 && g.stride[0] == 1 && g.stride[1] == 1;
  const int64_t words = taps * inner / kTogether;
  const int64_t parts = kTogether > 1 && has_amx() ? tile_parts(words) : 0;  // by AMX, if there are any
  const bool worth_copying = parts || (kTogether == 1 && outputs > kPanel);
  const bool strided = kHasStrided && (plain || worth_copying) && kernels.pitch == kPanel && !kernels.more;
  const int64_t panel_size = (kBytes ? 2 * kPanel : 0) + words * kPanel;
  const int64_t panels = panels_of(outputs), padded = panels * kPanel;

  const bool to_bytes = ends.to.in_bytes();
  Image y = blank(outputs, height, width, ends.to, ends.answer);
  const Layout to(y, ends.to);
  const float* added = ends.added(y);
  float* const out = to_bytes ? nullptr : y.data;

  // So many pixels at a time that they stay in the cache while the panels pass, and so many panels while pixels do.
  const int64_t values_each = strided && !plain ? taps * inner : channels * g.stride[1];
  const auto bytes_each = static_cast<int64_t>(values_each * sizeof(Value) + outputs * (to_bytes ? 1 : 4));
  const int64_t most = std::max<int64_t>(4 * kCached / bytes_each, 16 * kTile);
  const int64_t blocks = (pixels + most - 1) / most, block = (pixels + blocks - 1) / blocks;
  const int64_t share = std::max<int64_t>(panels / threads(), 1);
  // Two panels at once, as many as that are worth copying pixels for where they do not lie at one distance.
  const int64_t pair = strided ? 2 : 1, fitting = plain || !strided ? kCached : 16 * kCached;
  const int64_t few = blocks == 1 && (plain || !strided) ? 1 : std::clamp<int64_t>(fitting / panel_size, 1, share);
  const int64_t together = (few + pair - 1) / pair * pair;
  const int64_t groups = (panels + together - 1) / together;
  const int64_t chunks = groups >= threads() ? 1 : std::min(threads(), (pixels + kTile - 1) / kTile);

  std::vector<float> sums(averages ? chunks * padded : 0);
  parallel_for(0, groups * chunks, 1, [&](int64_t begin, int64_t end) {
    thread_local std::vector<float> scratch;
    thread_local std::vector<const Value*> addresses;
    thread_local std::vector<const float*> more_addresses, weights;
    thread_local std::vector<float> copied;
    TileRegisters registers;
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
            const Value* corner = from + row * g.stride[0] * line + column * g.stride[1] * channels;
            for (int64_t t = 0; t < taps; ++t) addresses[i * taps + t] = corner + offsets[t];
            if (++column == width) column = 0, ++row;
          }
        }
        const Value* source = from + first * channels;  // of pixels at one distance
        int64_t stride = channels;
        if (strided && !plain) {
          stride = taps * inner;
          copied.resize((count * stride + kTogether - 1) / kTogether);
          auto* const to_copy = reinterpret_cast<Value*>(copied.data());
          for (int64_t i = 0; i < count * taps; ++i)
            copy_bytes(addresses[i], inner * static_cast<int64_t>(sizeof(Value)), to_copy + i * inner);
          source = to_copy;
        }
        Panel panel;
        if constexpr (kBytes)
          panel.bytes = {addresses.data(), taps, inner / kTogether, nullptr};
        else if constexpr (kTogether == 2)
          panel.pairs = {addresses.data(), taps, inner / kTogether, nullptr};
        else
          panel.main = {addresses.data(), taps, inner, nullptr, kernels.pitch};
        if (kernels.more) {
          more_addresses.resize(count);
          for (int64_t i = 0; i < count; ++i) more_addresses[i] = kernels.more + (first + i) * kernels.more_inner;
          panel.more = {more_addresses.data(), 1, kernels.more_inner, nullptr, kPanel};
        }
        panel.pitch = to.pixel;
        panel.activation = ends.activation;
        const auto set = [&](Panel& panel, int64_t p) {
          const int64_t place = p * kPanel, offset = first * to.pixel + p * to.panel;
          const float* const own = weights[p - first_panel];
          if constexpr (kBytes) {
            panel.scale = own;
            panel.bias = own + kPanel;
            panel.bytes.weights = reinterpret_cast<const int8_t*>(own + 2 * kPanel);
          } else {
            if constexpr (kTogether == 2)
              panel.pairs.weights = reinterpret_cast<const uint16_t*>(own);
            else
              panel.main.weights = own;
            if (kernels.bias) panel.bias = kernels.bias + place;
            if (kernels.scale) panel.scale = kernels.scale + place;
          }
          if (kernels.more) panel.more.weights = kernels.more_panels + place * kernels.more_inner;
          if (added) panel.shortcut = added + offset;
          if (to_bytes)
            panel.y_bytes = bytes_in(y) + offset, panel.to_bytes = ToBytes(ends.to.levels, ends.activation);
          else
            panel.y = out + offset;
          panel.width = std::min(kPanel, outputs - place);
          if (averages) panel.sums = sums.data() + chunk * padded + place;
        };
        for (int64_t p = first_panel; p < last_panel; p += pair) {
          const int64_t some = std::min(pair, last_panel - p), next = p + together;
          if (first == start && next < panels) {  // what the next group's kernels are or will be made of
            panel.ahead = kernels.bank + next * kernels.bank_bytes;
            panel.ahead_bytes = std::min(pair, panels - next) * kernels.bank_bytes;
          } else {  // the pixels of the next tile, and of the next block
            const bool pixels_ahead = plain && p == first_panel;
            panel.ahead = pixels_ahead ? reinterpret_cast<const char*>(from + (first + kTile) * channels) : nullptr;
            panel.ahead_bytes = pixels_ahead ? count * channels * static_cast<int64_t>(sizeof(Value)) : 0;
          }
          set(panel, p);
          if (!strided) {
            multiply(panel, count);
            continue;
          }
          Panel both[2] = {panel, panel};
          if (some == 2) set(both[1], p + 1);
          const float *const own = weights[p - first_panel], *const other = some == 2 ? weights[p + 1 - first_panel] : own;
          const auto* lying = reinterpret_cast<const char*>(own + (kBytes ? 2 * kPanel : 0));
          const int64_t apart = reinterpret_cast<const char*>(other) - reinterpret_cast<const char*>(own);
          const Strided product = {both, reinterpret_cast<const char*>(source), lying,
                                   stride * static_cast<int64_t>(sizeof(Value)), words, apart};
          multiply_near<Value>(product, some, count, parts, registers);
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

inline Image convolve(const Image& input, const Geometry& g, const Kernels& kernels, const Ends& ends) {
  const Image x = g.padding[0] || g.padding[1] ? pad(input, g.padding[0], g.padding[1]) : input;
  return convolve_values<float>(input, x.data, input.channels, g, kernels, ends);
}

}  // namespace pose
