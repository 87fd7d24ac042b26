// Convolutions in 8 bits or in bfloat16 of float32 images, whose values are rounded just before.
//
// In 8 bits an image's values become unsigned bytes, a kernel's panels blocks of signed ones.
//
// A block has a panel's sixteen scales and sixteen shifts, which take the place of a bias, then its bytes (words, 16, 4): four
// neighbouring inputs lie together, those of a tap filled up with zeros. A byte q of an image stands for unit (q - zero), so
// that what zeros around an image make of it is exact; what the offset adds to the sums is in the shifts.

#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "bytes.h"
#include "panels.h"

namespace pose {

constexpr float kLargestWeight = 64.0f;  // two neighbours are no more than kMostOfPair
constexpr int32_t kMostOfPair = 128;     // of two neighbours, the positive or the negative ones: then `dot` is exact

// Whether `dot` adds bytes (words, 16, 4) exactly on every processor.
inline bool are_exact(const int8_t* bytes, int64_t words) {
  int32_t most = 0;
  for (int64_t i = 0; i < words * 2 * kPanel; ++i) {
    const int32_t first = bytes[2 * i], second = bytes[2 * i + 1];
    const int32_t above = std::max(first, 0) + std::max(second, 0);
    most = std::max(most, std::max(above, above - first - second));
  }
  return most <= kMostOfPair;
}

// What a byte of an image stands for.
struct Levels {
  float unit = 0;
  float zero = 0;  // a whole number
};

// Values of a block, counted as float32; `words` are those of all taps.
inline int64_t block_size(int64_t words) { return 2 * kPanel + words * kPanel; }

inline int64_t words_of(int64_t channels) { return (channels + 3) / 4; }

// The head of a block whose bytes are there: `worth` is what a byte of each output is worth, `bias` what is added.
inline void finish_block(float* block, int64_t words, const Levels& levels, const float* worth, const float* bias) {
  const auto* bytes = reinterpret_cast<const int8_t*>(block + 2 * kPanel);
  int32_t sums[kPanel] = {};
  for (int64_t word = 0; word < words; ++word)
    for (int64_t i = 0; i < 4 * kPanel; ++i) sums[i / 4] += bytes[word * 4 * kPanel + i];
  for (int64_t o = 0; o < kPanel; ++o) {
    block[o] = levels.unit * worth[o];
    block[kPanel + o] = bias[o] - levels.zero * block[o] * static_cast<float>(sums[o]);
  }
}

// A panel of float32, (taps, C, 16), as a block: each output has a scale by its largest weight. `scale` is what the panel's
// values are worth, or null.
inline void make_block(const float* panel, int64_t taps, int64_t channels, const Levels& levels, const float* scale,
                       const float* bias, float* block) {
  const int64_t words = words_of(channels);
  auto* bytes = reinterpret_cast<int8_t*>(block + 2 * kPanel);
  for (int64_t part = 0; part < kPanel; part += kLanes) {
    Lanes most = {};
    for (int64_t row = 0; row < taps * channels; ++row) {
      const Lanes value = load<Lanes>(panel + row * kPanel + part), size = value < 0.0f ? -value : value;
      most = size > most ? size : most;
    }
    const Lanes none = {}, worth = most * (1.0f / kLargestWeight);
    const Lanes inverse = most > none ? kLargestWeight / most : none;
    const Lanes whole = none + 12582912.0f;  // added, it leaves a whole number in the lowest bits
    Counts base, sums = {};
    std::memcpy(&base, &whole, sizeof(base));
    for (int64_t tap = 0; tap < taps; ++tap)
      for (int64_t word = 0; word < words; ++word) {
        Counts four = {};
        for (int64_t i = 0; i < std::min<int64_t>(4, channels - 4 * word); ++i) {
          const Lanes value = load<Lanes>(panel + (tap * channels + 4 * word + i) * kPanel + part) * inverse + whole;
          Counts bits;
          std::memcpy(&bits, &value, sizeof(bits));
          sums += bits - base;
          four |= (bits & 255) << static_cast<int>(8 * i);
        }
        std::memcpy(bytes + ((tap * words + word) * kPanel + part) * 4, &four, sizeof(four));
      }
    const Lanes own = worth * levels.unit * (scale ? load<Lanes>(scale + part) : none + 1.0f);
    store(block + part, own);
    store(block + kPanel + part, load<Lanes>(bias + part) - own * levels.zero * __builtin_convertvector(sums, Lanes));
  }
}

// Those kernels of an image in blocks, each made of its panel just before its products.
inline Kernels in_blocks(const Kernels& kernels, int64_t taps, int64_t channels, const Levels& levels) {
  Kernels made = kernels;
  made.made = true;
  made.panel = [=](int64_t panel, float* scratch) {
    thread_local std::vector<float> floats;
    if (static_cast<int64_t>(floats.size()) < taps * channels * kPanel) floats.resize(taps * channels * kPanel);
    const float* const from = kernels.panel(panel, floats.data());
    const int64_t place = panel * kPanel;
    make_block(from, taps, channels, levels, kernels.scale ? kernels.scale + place : nullptr, kernels.bias + place, scratch);
    return scratch;
  };
  return made;
}

// Values (pixels, C) as bytes (pixels, words, 4).
inline void to_bytes(const float* from, int64_t pixels, int64_t channels, const Levels& levels, uint8_t* to) {
  const int64_t step = words_of(channels) * 4;
  const float inverse = 1.0f / levels.unit, zero = levels.zero + 0.5f;
  const bool whole = step == channels;
  const int64_t lines = whole ? 1 : pixels, length = whole ? pixels * channels : channels;
  for (int64_t line = 0; line < lines; ++line, from += length, to += step) {
    for (int64_t i = 0; i < length; ++i) {
      const float value = from[i] * inverse + zero, above = value > 0.0f ? value : 0.0f;
      to[i] = static_cast<uint8_t>(static_cast<int32_t>(above < 255.0f ? above : 255.0f));
    }
    for (int64_t i = length; !whole && i < step; ++i) to[i] = 0;
  }
}

// Those kernels of an image in bfloat16, each panel made just before its products.
inline Kernels in_pairs(const Kernels& kernels, int64_t taps, int64_t channels) {
  Kernels made = kernels;
  made.panel = [=](int64_t panel, float* scratch) {
    thread_local std::vector<float> floats;
    if (static_cast<int64_t>(floats.size()) < taps * channels * kPanel) floats.resize(taps * channels * kPanel);
    make_pairs(kernels.panel(panel, floats.data()), taps, channels, reinterpret_cast<uint16_t*>(scratch));
    return scratch;
  };
  return made;
}

// y = g(kernels * x + bias + shortcut), the kernels' panels being pairs.
inline Image convolve_pairs(const Image& input, const Geometry& g, const Kernels& kernels, const Ends& ends) {
  const Image x = g.padding[0] || g.padding[1] ? pad(input, g.padding[0], g.padding[1]) : input;
  const int64_t step = (x.channels + 1) / 2 * 2;
  const std::shared_ptr<float> memory = Spare::take(x.pixels() * step / 2);
  auto* const pairs = reinterpret_cast<uint16_t*>(memory.get());
  parallel_for(0, x.rows, 4, [&](int64_t begin, int64_t end) {
    const int64_t start = begin * x.columns;
    to_pairs(x.data + start * x.channels, (end - begin) * x.columns, x.channels, pairs + start * step);
  });
  return convolve_values<uint16_t>(input, pairs, step, g, kernels, ends);
}

// y = g(kernels * x + bias + shortcut), the kernels' panels being blocks.
inline Image convolve_bytes(const Image& input, const Geometry& g, const Kernels& kernels, const Levels& levels,
                            const Ends& ends) {
  const Image x = g.padding[0] || g.padding[1] ? pad(input, g.padding[0], g.padding[1]) : input;
  const int64_t step = words_of(x.channels) * 4;
  const std::shared_ptr<float> memory = Spare::take((x.pixels() * step + 3) / 4);
  auto* const bytes = reinterpret_cast<uint8_t*>(memory.get());
  parallel_for(0, x.rows, 4, [&](int64_t begin, int64_t end) {
    const int64_t start = begin * x.columns;
    to_bytes(x.data + start * x.channels, (end - begin) * x.columns, x.channels, levels, bytes + start * step);
  });
  return convolve_values<uint8_t>(input, bytes, step, g, kernels, ends);
}

}  // namespace pose
