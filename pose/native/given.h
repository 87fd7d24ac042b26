// What a caller gives of a layer, and whether it fits: whatever a file could say is checked before it is used.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "arrays.h"
#include "blocks.h"
#include "layer.h"

namespace pose {

// Kernels and strides are no larger, so that no product of sizes overflows.
constexpr int64_t kLargestSide = 1024;

// What a caller gives of a layer: numbers, and constants that it keeps.
struct Given {
  const int64_t* numbers;
  int64_t number_count;
  const Constant* constants;
  int64_t constant_count;

  void check(int64_t numbers_wanted, int64_t constants_wanted) const {
    if (number_count != numbers_wanted || constant_count != constants_wanted)
      refuse("a layer has ", numbers_wanted, " numbers and ", constants_wanted, " constants, got ", number_count, " and ",
             constant_count);
  }

  const Constant& constant(int64_t index, bool needed = true) const {
    if (needed && !constants[index].defined()) refuse("a layer's constant ", index, " is missing");
    return constants[index];
  }

  // One of so many values, in float32.
  const Constant& floats(int64_t index, int64_t size) const {
    const Constant& found = constant(index);
    if (!found.in_floats() || found.size() != size)
      refuse("a layer's constant ", index, " has another size or type than its shape says");
    return found;
  }

  // What bytes of an image stand for: how much one does, and which is zero.
  Levels levels(int64_t index) const {
    const float* found = floats(index, 2).floats();
    const bool whole = found[1] >= 0 && found[1] <= 255 && found[1] == std::floor(found[1]);
    if (!std::isnormal(found[0]) || found[0] < 0 || !whole) refuse("a layer's levels are none: ", found[0], " and ", found[1]);
    return {found[0], found[1]};
  }

  // Size, stride, padding and dilation.
  Geometry geometry() const {
    const int64_t* v = numbers;
    for (int i = 0; i < 8; ++i)
      if (v[i] < (i / 2 == 2 ? 0 : 1) || v[i] > kLargestSide) refuse("a layer's geometry is none: ", v[i]);
    return {{v[0], v[1]}, {v[2], v[3]}, {v[4], v[5]}, {v[6], v[7]}};
  }

  // Those, then inputs, outputs, depthwise, activation.
  Shape shape() const {
    const int64_t* v = numbers + 8;
    const bool channels = v[0] >= 1 && v[1] >= 1 && std::max(v[0], v[1]) <= kMostChannels && (!v[2] || v[0] == v[1]);
    if (!channels || v[3] < kNone || v[3] > kHardswish)
      refuse("a layer's shape is none: ", v[0], " to ", v[1], " channels, activation ", v[3]);
    const Shape shape = {geometry(), v[0], v[1], v[2] != 0, v[3]};
    if (shape.size() > kMostValues) refuse("a layer's kernel has ", shape.size(), " values");
    return shape;
  }
};

// A matrix times a vector: it reads `rows` values and writes `columns`, or fewer where vectors are filled up to panels.
inline void check_matrix(const Constant& matrix, int64_t rows, int64_t columns) {
  if (matrix.in_bytes()) refuse("a layer's matrix is of bytes");
  if (matrix.in_words() && matrix.columns % kPanel) refuse("a layer's matrix in words has rows of ", matrix.columns);
  if (matrix.rows < 1 || matrix.rows > rows || matrix.columns > columns)
    refuse("a layer's matrix is ", matrix.rows, " x ", matrix.columns, ", not ", rows, " x ", columns);
}

}  // namespace pose
