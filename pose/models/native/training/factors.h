// The small matrix of a product of many pixels by few channels, packed once for the pixels that are read where they lie.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "lanes.h"
#include "lines.h"

namespace pose {

// Registers that hold a tile's sums; the others hold what is multiplied.
constexpr int kSums = kLanes == 16 || (kLanes == 4 && kTile == 6) ? 24 : kLanes == 8 ? 12 : 9;

inline int64_t padded(int64_t columns) { return (columns + kLanes - 1) / kLanes * kLanes; }

// Vectors of the next panel, of so many that are left: three where a last one would be alone.
inline int64_t panel_vectors(int64_t left) { return left == 3 ? 3 : std::min<int64_t>(left, 2); }

// A small matrix (rows, columns) in panels of whole vectors, rows one after another in each; the last columns are filled
// up with zeros.
struct Panels {
  int64_t rows, columns;
  const float* values;
};

inline int64_t panels_size(int64_t rows, int64_t columns) { return rows * padded(columns); }

// Calls `run(first, width, place)` for each panel: its first column, its width, and where it lies.
template <typename Run>
inline void each_panel(int64_t rows, int64_t columns, const Run& run) {
  for (int64_t first = 0; first < columns;) {
    const int64_t width = panel_vectors((columns - first + kLanes - 1) / kLanes) * kLanes;
    run(first, width, first * rows);
    first += width;
  }
}

// The panel that a column lies in: its first column and its width.
struct PanelPlace {
  int64_t first, width;
};

inline PanelPlace panel_of(int64_t columns, int64_t column) {
  const int64_t count = padded(columns) / kLanes, at = column / kLanes;
  if (count % 2 && count > 1 && at >= count - 3) return {(count - 3) * kLanes, 3 * kLanes};
  return {at / 2 * 2 * kLanes, std::min<int64_t>(count, 2) * kLanes};
}

// Panels of a matrix whose value (row, column) lies at row * down + column * right.
Panels pack(const float* matrix, int64_t rows, int64_t columns, int64_t down, int64_t right, float* to);

// The matrix (rows, columns) itself.
void unpack(const Panels& panels, float* matrix);

// The small matrix of a product. In pairs its words are two neighbouring rows' values, as the kernels for this processor
// want them.
struct Factor {
  Panels panels;
  const uint32_t* pairs;  // none: a product of float32
};

// Words of a matrix in pairs, and these made of its panels.
int64_t pair_words(int64_t rows, int64_t columns);
void pack_pairs(const Panels& panels, uint32_t* to);

// A matrix for products; `words` takes what pairs need.
inline Factor factor_of(const Panels& panels, bool in_pairs, WordLines& words) {
  if (!in_pairs) return {panels, nullptr};
  pack_pairs(panels, grown(words, pair_words(panels.rows, panels.columns)));
  return {panels, words.data()};
}

}  // namespace pose
