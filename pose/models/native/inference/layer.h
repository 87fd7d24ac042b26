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
  Tensor shortcut;  // to be added by this layer, if defined
  Order from = kPixels, to = kPixels;  // how the image lies, and is to lie for the next layer

  // Where a layer leaves its answer's averages, if the next one wants them.
  std::vector<float>* answer() { return (known = wanted) ? &averages : nullptr; }

  Ends ends(int64_t activation) { return {activation, shortcut, answer(), from, to}; }
};

class Layer {
 public:
  virtual ~Layer() = default;
  // One image (1, C, H, W) to the next; its values lie as the flow says.
  virtual Tensor run(const Tensor& x, Flow& flow) const = 0;
  virtual bool wants_averages() const { return false; }
  virtual bool convolves() const { return true; }  // so that it adds shortcuts
  virtual Order takes(int64_t) const { return kPixels; }  // how it would have an image of so many pixels lie
};

// How a layer meets an image and what follows.
struct Shape {
  Geometry geometry;
  int64_t inputs, outputs;
  bool depthwise;
  int64_t activation;

  int64_t panels() const { return panels_of(outputs); }

  // Values of a kernel in memory.
  int64_t size() const {
    const int64_t taps = geometry.size[0] * geometry.size[1];
    return depthwise ? taps * outputs : taps * inputs * panels() * kPanel;
  }

  // An image by planes serves whoever goes by planes; a 3 x 3 kernel would have it so where it is larger than the cache.
  Order takes(int64_t pixels) const {
    const bool large = pixels * inputs > 8 * kCached;
    return depthwise && inputs % kPanel == 0 && by_planes(geometry, large ? kPlanes : kPixels) ? kPlanes : kPixels;
  }

  void check(const Tensor& x) const {
    TORCH_CHECK(x.size(1) == inputs, "a layer takes ", inputs, " channels, got ", x.size(1));
  }
};

// Constants as they are read: contiguous, on the CPU, of the size that the layer's shape says.
inline void check_constant(const Tensor& tensor, at::ScalarType type, int64_t size) {
  TORCH_CHECK(tensor.device().is_cpu() && tensor.is_contiguous() && tensor.scalar_type() == type && tensor.numel() == size,
              "a layer's constant has another size or type than its shape says");
}

// Averages of the image's channels over size x size parts, (C size size): those that are known, or `own`.
inline const float* averages_of(const Tensor& x, const Flow& flow, int64_t size, std::vector<float>& own) {
  if (flow.known && size == 1) return flow.averages.data();
  own.resize(x.size(1) * size * size);
  pool(x.const_data_ptr<float>(), x.size(2), x.size(3), x.size(1), size, own.data());
  return own.data();
}

}  // namespace pose
