// A bank of kernels, and mixtures of them for a few images at a time; the way back from the mixtures' gradients.

#pragma once

#include <numeric>

#include "kept.h"
#include "row_products.h"

namespace pose {

// Kernels are mixed for so many images at a time.
constexpr int64_t kTogether = kLanes == 16 ? 8 : 4;

// A bank's kernels (K, C_out, C_in) packed as factors (rows, columns): to mix these is to mix kernels. What is mixed is all
// columns, or some of them, from the begin of a panel to the end of one.
class Bank {
 public:
  // A kernel's value (row, column) lies at row * down + column * right.
  Bank(const float* kernels, int64_t count, int64_t rows, int64_t columns, int64_t down, int64_t right, bool in_pairs)
      : count_(count), rows_(rows), columns_(columns), size_(panels_size(rows, columns)),
        words_(in_pairs ? pair_words(rows, columns) : 0), floats_(count * size_), pairs_(count * words_) {
    for (int64_t k = 0; k < count; ++k) {
      const Panels packed = pack(kernels + k * rows * columns, rows, columns, down, right, floats_.data() + k * size_);
      if (in_pairs) pack_pairs(packed, pairs_.data() + k * words_);
    }
  }

  // Columns that are mixed at a time, where a mixture lies, and how many values it has.
  struct Part {
    int64_t first, columns, place, size;
  };

  Part whole() const { return {0, columns_, 0, size_}; }

  // Calls `run(part)` for parts of columns whose kernels and mixtures stay in the second cache.
  template <typename Run>
  void each_part(const Run& run) const {
    constexpr int64_t most = 128 << 10, panel = 2 * kLanes;  // values
    const int64_t step = std::max(most / (rows_ * (2 * count_ + kTogether)) / panel * panel, panel);
    for (int64_t first = 0; first < columns_;) {
      const int64_t left = columns_ - first, some = left <= step + kLanes ? left : step;  // no vector alone
      run(Part{first, some, panels_size(rows_, first), panels_size(rows_, some)});
      first += some;
    }
  }

  // Mixtures of a few images.
  struct Mixed {
    FloatLines floats;
    WordLines pairs;
  };

  template <int J>
  void mix(const Part& part, const float* shares, Mixed& to) const {
    if (words_ > 0) return mix_pairs<J>(part, shares, to);
    float* const out = grown(to.floats, J * part.size);
    for (int64_t i = 0; i < part.size; i += kLanes) {
      Lanes sums[J] = {};
      for (int64_t k = 0; k < count_; ++k) {
        const Lanes values = load<Lanes>(floats_.data() + k * size_ + part.place + i);
#pragma GCC unroll 8
        for (int j = 0; j < J; ++j) sums[j] += shares[j * count_ + k] * values;
      }
#pragma GCC unroll 8
      for (int j = 0; j < J; ++j) store(out + j * part.size + i, sums[j]);
    }
  }

  // The j-th image's.
  Factor factor(const Part& part, const Mixed& mixed, int64_t j) const {
    if (words_ > 0) return {{rows_, part.columns, nullptr}, mixed.pairs.data() + j * pair_words(rows_, part.columns)};
    return {{rows_, part.columns, mixed.floats.data() + j * part.size}, nullptr};
  }

  // The gradients of shares (J, count) and of the kernels, (count, panels of all columns), from those of the mixtures (J,
  // part.size): added up, the first in lanes (count, J, kLanes).
  template <int J>
  void back(const Part& part, const float* shares, const float* own, float* along, float* grad_kernels) const {
    constexpr int64_t piece = 1024;  // values that stay in the first cache
    for (int64_t first = 0; first < part.size; first += piece) {
      const int64_t stop = std::min(part.size, first + piece);
      for (int64_t k = 0; k < count_; ++k) {
        const float* const kernel = floats_.data() + k * size_ + part.place;
        float *const grad = grad_kernels + k * size_ + part.place, *const to = along + k * J * kLanes;
        Lanes sums[J];
#pragma GCC unroll 8
        for (int j = 0; j < J; ++j) sums[j] = load<Lanes>(to + j * kLanes);
        for (int64_t i = first; i < stop; i += kLanes) {
          const Lanes values = load<Lanes>(kernel + i);
          Lanes sum = load<Lanes>(grad + i);
#pragma GCC unroll 8
          for (int j = 0; j < J; ++j) {
            const Lanes mixture = load<Lanes>(own + j * part.size + i);
            sums[j] += mixture * values;
            sum += shares[j * count_ + k] * mixture;
          }
          store(grad + i, sum);
        }
#pragma GCC unroll 8
        for (int j = 0; j < J; ++j) store(to + j * kLanes, sums[j]);
      }
    }
  }

  int64_t size() const { return size_; }

 private:
  template <int J>
  void mix_pairs(const Part& part, const float* shares, Mixed& to) const {
    const int64_t place = part.first ? pair_words(rows_, part.first) : 0, words = pair_words(rows_, part.columns);
    uint32_t* const out = grown(to.pairs, J * words);
    for (int64_t i = 0; i < words; i += kLanes) {
      Lanes low[J] = {}, high[J] = {};
      for (int64_t k = 0; k < count_; ++k) {
        Lanes first, second;
        widen(pairs_.data() + k * words_ + place + i, first, second);
#pragma GCC unroll 8
        for (int j = 0; j < J; ++j) low[j] += shares[j * count_ + k] * first, high[j] += shares[j * count_ + k] * second;
      }
#pragma GCC unroll 8
      for (int j = 0; j < J; ++j) put_words(out + j * words + i, low[j], high[j]);
    }
  }

  int64_t count_, rows_, columns_, size_, words_;
  FloatLines floats_;
  WordLines pairs_;
};

// What `along` of Bank::back comes to: (J, count).
inline void fold_shares(const FloatLines& along, int64_t count, int64_t images, float* shares) {
  for (int64_t k = 0; k < count; ++k)
    for (int64_t j = 0; j < images; ++j) {
      const float* const lanes = along.data() + (k * images + j) * kLanes;
      shares[j * count + k] = std::accumulate(lanes, lanes + kLanes, 0.0f);
    }
}

}  // namespace pose
