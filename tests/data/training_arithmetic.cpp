// What tests call of the arithmetic of native training; compiled for several processors.

#include "pair_products.h"

using namespace pose;

extern "C" {
// Pixels (count, C) times a matrix (C, outputs) in pairs, times `factors` and plus `terms` (whole vectors) and what is there.
void multiply_in_pairs(const float* pixels, int64_t count, int64_t channels, const float* matrix, int64_t outputs,
                       const float* factors, const float* terms, float* y) {
  std::vector<float> packed(panels_size(channels, outputs));
  std::vector<uint32_t> words;
  const Factor factor = factor_of(pack(matrix, channels, outputs, outputs, 1, packed.data()), true, words);
  multiply(pixels, count, factor, y, true, factors, terms);
}

// (rows, columns) += a (count, rows)^T b (count, columns) in pairs of pixels.
void multiply_outer_in_pairs(const float* a, int64_t rows, const float* b, int64_t columns, int64_t count, float* out) {
  std::vector<float> panels(panels_size(rows, columns));
  multiply_outer(a, rows, b, columns, count, panels.data(), true);
  std::vector<float> sums(rows * columns);
  unpack({rows, columns, panels.data()}, sums.data());
  for (int64_t i = 0; i < rows * columns; ++i) out[i] += sums[i];
}

int64_t lanes() { return kLanes; }
}
