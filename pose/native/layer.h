// What every native layer is, and what passes between layers.

#pragma once

#include <vector>

#include "attention.h"
#include "panels.h"
#include "planes.h"

namespace pose {

// What passes from layer to layer beside the image.
struct Flow {
  std::vector<float> averages;  // (C) of the image's channels, if known
  bool known = false, wanted = false;
  Image shortcut;  // to be added by this layer, if defined
  Form from = {}, to = {};  // of the image, and what the next layer would have
  float* answer = nullptr;  // where this layer is to write, if that is settled
  int64_t first = 0, rows = 0;  // which rows of its answer a depthwise layer makes; 0: all

  // Where a layer leaves its answer's averages, if the next one wants them.
  std::vector<float>* left() { return (known = wanted) ? &averages : nullptr; }

  Ends ends(int64_t activation) { return {activation, shortcut, left(), from, to, answer, first, rows}; }
};

class Layer {
 public:
  virtual ~Layer() = default;
  // One image to the next; its values lie as the flow says.
  virtual Image run(const Image& x, Flow& flow) const = 0;
  // The shape of its answer to an image, whose values are not read.
  virtual Image shape_after(const Image& x) const = 0;
  virtual bool wants_averages() const { return false; }
  virtual bool keeps_averages() const { return false; }  // its answer's averages are its image's
  virtual bool convolves() const { return true; }
  virtual bool adds() const { return convolves(); }  // a shortcut, so that it can end a block
  virtual Form takes(int64_t) const { return {}; }  // how it would have an image of so many pixels
  virtual bool gives_bytes() const { return false; }
  virtual bool is_point() const { return false; }  // a product of single pixels that needs no averages
  virtual const Geometry* channelwise() const { return nullptr; }  // of a depthwise layer that needs none
  virtual bool gives_planes(Order) const { return convolves(); }  // of an image that lies so
};

// How a layer meets an image and what follows.
struct Shape {
  Geometry geometry;
  int64_t inputs, outputs;
  bool depthwise;
  int64_t activation;

  int64_t panels() const { return panels_of(outputs); }

  int64_t taps() const { return geometry.size[0] * geometry.size[1]; }

  // Values of a kernel in memory.
  int64_t size() const {
    return depthwise ? taps() * outputs : taps() * inputs * panels() * kPanel;
  }

  // An image by planes serves whoever goes by planes; a 3 x 3 kernel would have it so where it is larger than the cache.
  Form takes(int64_t pixels) const {
    const bool large = pixels * inputs > 8 * kCached;
    return {depthwise && inputs % kPanel == 0 && by_planes(geometry, large ? kPlanes : kPixels) ? kPlanes : kPixels};
  }

  bool is_point() const { return !depthwise && geometry.is_point(); }

  const Geometry* channelwise() const { return depthwise && geometry.same() ? &geometry : nullptr; }

  // Whether a layer of float32 can leave planes of an image that lies so: a depthwise one where it goes by planes itself.
  bool gives_planes(Order from) const { return !depthwise || by_planes(geometry, from); }

  Image after(const Image& x) const {
    check(x);
    return {outputs, geometry.out(0, x.rows), geometry.out(1, x.columns), nullptr, nullptr};
  }

  void check(const Image& x) const {
    if (x.channels != inputs) refuse("a layer takes ", inputs, " channels, got ", x.channels);
  }
};

// Averages of the image's channels over size x size parts, (C size size): those that are known, or `own`.
inline const float* averages_of(const Image& x, const Flow& flow, int64_t size, std::vector<float>& own) {
  if (flow.known && size == 1) return flow.averages.data();
  own.resize(x.channels * size * size);
  pool(x.data, x.rows, x.columns, x.channels, size, own.data());
  return own.data();
}

}  // namespace pose
