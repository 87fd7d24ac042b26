// Where a kernel meets an image, how images lie in memory between layers, and what is done with a convolution's sums.

#pragma once

#include <cstdint>
#include <vector>

#include "arrays.h"
#include "lanes.h"
#include "levels.h"

namespace pose {

inline int64_t panels_of(int64_t outputs) { return (outputs + kPanel - 1) / kPanel; }

// Values that are worked on at a time, so that they stay in the cache.
constexpr int64_t kCached = 32768;

// How an image (C, H, W) lies in memory between two layers: pixel by pixel, as channels_last has it, or by planes,
// (C / 16, H, W, 16), see planes.h.
enum Order { kPixels, kPlanes };

// That, and what its values are: float32, or bytes that have levels.
struct Form {
  Order order = kPixels;
  Levels levels = {};
  int64_t rows = 0;  // of memory, where they are not those of the image: its row i lies at i % rows

  bool in_bytes() const { return static_cast<bool>(levels); }
};

// How many values lie between neighbouring pixels, and between the first ones of neighbouring panels, of an image.
struct Layout {
  int64_t pixel, panel;

  Layout(const Image& x, const Form& form)
      : pixel(form.order == kPlanes ? kPanel : form.in_bytes() ? bytes_of(x.channels) : x.channels),
        panel(form.order == kPlanes ? (form.rows ? form.rows * x.columns : x.pixels()) * kPanel : kPanel) {
    if (form.order == kPlanes && x.channels % kPanel) refuse("planes are of whole panels, not of ", x.channels, " channels");
  }
};

// An image that is to be written, in a form, at `to` if given.
inline Image blank(int64_t channels, int64_t rows, int64_t columns, const Form& form, float* to = nullptr) {
  if (!form.in_bytes() || to) return Image::blank(channels, rows, columns, to);
  Image image = {channels, rows, columns, nullptr, Spare::take(bytes_of(channels) * rows * columns / 4)};
  image.data = image.memory.get();
  return image;
}

inline uint8_t* bytes_in(const Image& x) { return reinterpret_cast<uint8_t*>(x.data); }

// What is done with a convolution's sums, and how its images lie in memory.
struct Ends {
  int64_t activation = kNone;
  Image shortcut;                          // to be added, if defined
  std::vector<float>* averages = nullptr;  // (C) of the answer's channels, where wanted
  Form from = {}, to = {};
  float* answer = nullptr;  // where it is to be written, if that is settled
  int64_t first = 0, rows = 0;  // which rows of it a depthwise layer makes; 0: all

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

  // Whether it takes each pixel alone.
  bool is_point() const {
    return size[0] == 1 && size[1] == 1 && stride[0] == 1 && stride[1] == 1 && !padding[0] && !padding[1];
  }

  int64_t out(int axis, int64_t length) const {
    if (length <= 0 || length + 2 * padding[axis] <= dilation[axis] * (size[axis] - 1))
      refuse("a kernel is larger than its image of ", length, " pixels a side");
    return (length + 2 * padding[axis] - dilation[axis] * (size[axis] - 1) - 1) / stride[axis] + 1;
  }
};

}  // namespace pose
