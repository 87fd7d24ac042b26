// What tests call of the arithmetic of native training; compiled for several processors.

#include "matrix_tiles.cpp"
#include "pair_products.cpp"
#include "row_products.cpp"
#include "rows.cpp"

using namespace pose;

namespace {

struct Rounded {
  HalfLines halves;

  Rounded(const float* values, int64_t pixels, int64_t channels) {
    convert({values, false}, pixels * channels, {left_of(halves, pixels, channels), true});
  }

  Left left() const { return {nullptr, halves.data()}; }
};

}  // namespace

extern "C" {
// Pixels (count, C) times a matrix (C, outputs) in pairs, times `factors` and plus `terms` (whole vectors) and what is there.
void multiply_in_pairs(const float* pixels, int64_t count, int64_t channels, const float* matrix, int64_t outputs,
                       const float* factors, const float* terms, float* y) {
  FloatLines packed(panels_size(channels, outputs));
  WordLines words;
  const Factor factor = factor_of(pack(matrix, channels, outputs, outputs, 1, packed.data()), true, words);
  multiply(Rounded(pixels, count, channels).left(), count, factor, y, outputs, true, factors, terms);
}

// (rows, columns) += a (count, rows)^T b (count, columns) in pairs of pixels.
void multiply_outer_in_pairs(const float* a, int64_t rows, const float* b, int64_t columns, int64_t count, float* out) {
  FloatLines panels(panels_size(rows, columns), 0.0f);
  const Rounded left(a, count, rows), right(b, count, columns);
  multiply_outer(left.left(), rows, right.left(), columns, columns, count, panels.data());
  std::vector<float> sums(rows * columns);
  unpack({rows, columns, panels.data()}, sums.data());
  for (int64_t i = 0; i < rows * columns; ++i) out[i] += sums[i];
}

// Whether the products are by matrix tiles.
int by_matrix_tiles() { return has_matrix_tiles(); }
int64_t lanes() { return kLanes; }
}
