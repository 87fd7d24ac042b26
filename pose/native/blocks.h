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

// What two neighbours are together: the positive ones or the negative ones, whichever are more.
inline int32_t pair_sum(int32_t own, int32_t next) {
  const int32_t above = std::max(own, 0) + std::max(next, 0);
  return std::max(above, above - own - next);
}

// Whether `dot` adds bytes (words, 16, 4) exactly on every processor.
inline bool are_exact(const int8_t* bytes, int64_t words) {
  int32_t most = 0;
  for (int64_t i = 0; i < words * 2 * kPanel; ++i) {
    const int32_t first = bytes[2 * i], second = bytes[2 * i + 1];
    most = std::max(most, pair_sum(first, second));
  }
  return most <= kMostTogether;
}

// Values of a block, counted as float32; `words` are those of all taps.
inline int64_t block_size(int64_t words) { return 2 * kPanel + words * kPanel; }

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
    const Lanes none = {};
    Lanes most = {};
    for (int64_t tap = 0; tap < taps; ++tap)
      for (int64_t c = 0; c < channels; c += 2) {
        const float* const row = panel + (tap * channels + c) * kPanel + part;
        const Lanes first = load<Lanes>(row), second = c + 1 < channels ? load<Lanes>(row + kPanel) : none;
        const Lanes above = (first > none ? first : none) + (second > none ? second : none);
        const Lanes both = first + second, below = above - both, size = above > below ? above : below;
        most = size > most ? size : most;
      }
    constexpr float kAim = kMostTogether - 1;  // both may be rounded up
    const Lanes worth = most * (1.0f / kAim), inverse = most > none ? kAim / most : none;
    const Lanes whole = none + kToWhole;
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

// Whether mixtures of kernels of bytes, (panels, words of shares, taps, inputs, 16, 4), are such that `dot` adds them exactly
// when they have been divided by 256: rounding makes a pair one more.
inline bool mixes_exactly(const int8_t* bank, int64_t stretches, int64_t inputs) {
  int32_t most = 0;
  for (int64_t stretch = 0; stretch < stretches; ++stretch)
    for (int64_t c = 0; c < inputs; c += 2) {
      const int8_t* const first = bank + (stretch * inputs + c) * 4 * kPanel;
      for (int64_t i = 0; i < 4 * kPanel; ++i) {
        const int32_t own = first[i], next = c + 1 < inputs ? first[i + 4 * kPanel] : 0;
        most = std::max(most, pair_sum(own, next));
      }
    }
  return most < kMostTogether;
}

// A block mixed from a panel's kernels of bytes, (words of shares, taps, inputs, 16, 4), without leaving whole numbers:
// `scale` is what a byte of each output of the bank is worth.
inline void mix_block(const int8_t* bank, int64_t taps, int64_t inputs, const ByteParts& parts, const Levels& levels,
                      const float* scale, const float* bias, float* block) {
  auto* to = reinterpret_cast<char*>(block + 2 * kPanel);
  const size_t words = parts.words.size();
  const int64_t size = taps * inputs * 4 * kPanel;
  Counts sums[kPanel / kLanes] = {};
  for (int64_t tap = 0; tap < taps; ++tap)
    for (int64_t c = 0; c < inputs; c += 4)
      for (int part = 0; part < kPanel / kLanes; ++part, to += 4 * kLanes) {
        Counts four = {};
        const int8_t* from = bank + (tap * inputs + c) * 4 * kPanel + 4 * part * kLanes;
        const int count = static_cast<int>(std::min<int64_t>(4, inputs - c));
#pragma GCC unroll 4
        for (int i = 0; i < count; ++i, from += 4 * kPanel) {
          Counts mixed = Counts{} + 128;
          for (size_t word = 0; word < words; ++word) mixed = dot(mixed, parts.words[word], from + word * size);
          mixed >>= 8;
          sums[part] += mixed;
          four |= (mixed & 255) << 8 * i;
        }
        std::memcpy(to, &four, sizeof(four));
      }
  for (int part = 0; part < kPanel / kLanes; ++part) {
    const int place = part * kLanes;
    const Lanes own = load<Lanes>(scale + place) * (parts.unit * levels.unit);
    store(block + place, own);
    const Lanes zero = own * levels.zero * __builtin_convertvector(sums[part], Lanes);
    store(block + kPanel + place, load<Lanes>(bias + place) - zero);
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

// An image of float32, pixel by pixel, in bytes by these levels.
inline Image in_bytes(const Image& x, const Levels& levels) {
  Image y = blank(x.channels, x.rows, x.columns, {kPixels, levels});
  const Layout to(y, {kPixels, levels});
  parallel_for(0, x.rows, 4, [&](int64_t begin, int64_t end) {
    const int64_t start = begin * x.columns;
    ToBytes(levels).pixels(x.data + start * x.channels, (end - begin) * x.columns, x.channels, to.pixel, to.panel,
                           bytes_in(y) + start * to.pixel);
  });
  return y;
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

// y = g(kernels * x + bias + shortcut), the kernels' panels being blocks; the image comes in bytes or becomes them.
inline Image convolve_bytes(const Image& input, const Geometry& g, const Kernels& kernels, const Levels& levels,
                            const Ends& ends) {
  const Image x = ends.from.in_bytes() ? input : in_bytes(input, levels);
  const int64_t step = bytes_of(x.channels), rows = g.padding[0], columns = g.padding[1];
  if (!rows && !columns) return convolve_values<uint8_t>(input, bytes_in(x), step, g, kernels, ends);
  const Image padded = blank(x.channels, x.rows + 2 * rows, x.columns + 2 * columns, {kPixels, levels});
  const auto zero = static_cast<uint8_t>(levels.zero);
  pad(bytes_in(x), x.rows, x.columns * step, rows, columns * step, zero, bytes_in(padded));
  return convolve_values<uint8_t>(input, bytes_in(padded), step, g, kernels, ends);
}

}  // namespace pose
