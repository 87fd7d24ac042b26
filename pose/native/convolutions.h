// Convolutions with a kernel of their own or one that is mixed for each image.

#pragma once

#include <vector>

#include "blocks.h"
#include "bytes.h"
#include "channel_bytes.h"
#include "channels.h"
#include "layer.h"

namespace pose {

// How a depthwise layer in 8 bits would have its image.
inline Form byte_channels_form(const Shape& shape, const Levels& levels) {
  return {shape.inputs % kPanel == 0 ? kPlanes : kPixels, levels};
}

struct StaticLayer : Layer {
  Shape shape;
  Constant weight, bias;

  StaticLayer(const Shape& shape, Constant weight, Constant bias) : shape(shape), weight(weight), bias(bias) {}

  Image shape_after(const Image& x) const override { return shape.after(x); }
  Form takes(int64_t pixels) const override { return shape.takes(pixels); }
  bool gives_bytes() const override { return !shape.depthwise; }
  bool gives_planes(Order from) const override { return shape.gives_planes(from); }
  bool is_point() const override { return shape.is_point(); }
  const Geometry* channelwise() const override { return shape.channelwise(); }

  Image run(const Image& x, Flow& flow) const override {
    shape.check(x);
    const float *from = weight.floats(), *shift = bias.floats();
    if (shape.depthwise)
      return convolve_channels(x, shape.geometry, from, shift, flow.ends(shape.activation));
    const Kernels kernels = kernels_at(shape.outputs, from, weight.size() / shape.panels(), shift);
    return convolve(x, shape.geometry, kernels, flow.ends(shape.activation));
  }
};

// A static kernel in 8 bits, and what the bytes of its images stand for: bytes (panels, words, 16, 4), what one of each output
// is worth, and a bias.
struct ByteLayer : Layer {
  Shape shape;
  Levels levels;
  std::vector<float> blocks;

  ByteLayer(const Shape& shape, const Levels& levels, const int8_t* bytes, const float* worth, const float* bias)
      : shape(shape), levels(levels), blocks(shape.panels() * size()) {
    for (int64_t panel = 0; panel < shape.panels(); ++panel) {
      float* const block = blocks.data() + panel * size();
      std::memcpy(block + 2 * kPanel, bytes + panel * words() * 4 * kPanel, words() * 4 * kPanel);
      finish_block(block, words(), levels, worth + panel * kPanel, bias + panel * kPanel);
    }
  }

  int64_t words() const { return shape.taps() * words_of(shape.inputs); }
  int64_t size() const { return block_size(words()); }
  Image shape_after(const Image& x) const override { return shape.after(x); }
  Form takes(int64_t) const override { return {kPixels, levels}; }
  bool gives_bytes() const override { return true; }
  bool is_point() const override { return shape.is_point(); }

  Image run(const Image& x, Flow& flow) const override {
    shape.check(x);
    const Kernels kernels = kernels_at(shape.outputs, blocks.data(), size(), nullptr);
    return convolve_bytes(x, shape.geometry, kernels, levels, flow.ends(shape.activation));
  }
};

// A static depthwise kernel in 8 bits.
struct ByteChannelsLayer : Layer {
  Shape shape;
  Levels levels;
  ByteTaps taps;

  ByteChannelsLayer(const Shape& shape, const Levels& levels, const int8_t* bytes, const float* worth, const float* bias)
      : shape(shape), levels(levels), taps(shape.geometry, shape.outputs, bytes, worth, bias, levels) {}

  Image shape_after(const Image& x) const override { return shape.after(x); }
  Form takes(int64_t) const override { return byte_channels_form(shape, levels); }
  bool gives_bytes() const override { return true; }
  const Geometry* channelwise() const override { return shape.channelwise(); }

  Image run(const Image& x, Flow& flow) const override {
    shape.check(x);
    return convolve_channel_bytes(x, shape.geometry, taps, levels, flow.ends(shape.activation));
  }
};

// A static kernel in bfloat16: pairs (panels, words, 16, 2) and a bias.
struct PairLayer : Layer {
  Shape shape;
  Constant pairs, bias;

  PairLayer(const Shape& shape, Constant pairs, Constant bias) : shape(shape), pairs(pairs), bias(bias) {}

  Image shape_after(const Image& x) const override { return shape.after(x); }
  bool gives_bytes() const override { return true; }
  bool is_point() const override { return shape.is_point(); }

  Image run(const Image& x, Flow& flow) const override {
    shape.check(x);
    const auto* from = reinterpret_cast<const float*>(pairs.words());
    const Kernels kernels = kernels_at(shape.outputs, from, pairs.size() / 2 / shape.panels(), bias.floats());
    return convolve_pairs(x, shape.geometry, kernels, flow.ends(shape.activation));
  }
};

// W(x) is mixed from the bank by an attention; so is a part of the bias, `biases` (K, panels 16), if defined. A bank in bytes
// has `scales` (panels 16), what a byte of each output is worth.
struct DynamicLayer : Layer {
  Shape shape;
  Attention attention;
  Constant bank, bias, biases, scales;
  Levels levels = {};  // of its images' bytes, if it works in 8 bits
  bool pairs = false;  // whether it works in bfloat16
  bool mixes_bytes = false;  // whether it mixes bytes to bytes: it works in 8 bits, and the bank's bytes are such

  DynamicLayer(const Shape& shape, Attention attention, Constant bank, Constant bias, Constant biases, Constant scales)
      : shape(shape), attention(attention), bank(bank), bias(bias), biases(biases), scales(scales) {}

  bool wants_averages() const override { return true; }
  Image shape_after(const Image& x) const override { return shape.after(x); }
  bool gives_bytes() const override { return levels || !shape.depthwise; }
  bool gives_planes(Order from) const override { return levels || shape.gives_planes(from); }

  Form takes(int64_t pixels) const override {
    if (!levels) return shape.takes(pixels);
    return shape.depthwise ? byte_channels_form(shape, levels) : Form{kPixels, levels};
  }

  Image run(const Image& x, Flow& flow) const override {
    shape.check(x);
    std::vector<float> own, shifts;
    const std::vector<float> shares = attention.shares(averages_of(x, flow, 1, own));
    const float *share = shares.data(), *shift = bias.floats();
    if (biases.defined()) {
      shifts = affine(biases, bias, share);
      shift = shifts.data();
    }
    if (mixes_bytes) return mixed_blocks(x, ByteParts(shares), shift, flow);
    if (bank.in_bytes()) return mixed_bytes(x, ByteShares(shares), shift, flow);
    return bank.in_words() ? mixed(x, bank.words(), share, shift, flow) : mixed(x, bank.floats(), share, shift, flow);
  }

  template <typename Value>
  Image mixed(const Image& x, const Value* from, const float* share, const float* shift, Flow& flow) const {
    const int64_t count = attention.kernels();
    if (shape.depthwise) {
      const int64_t size = bank.size() / count;
      std::vector<float> kernels(size);
      mix(from, count, size, size, share, kernels.data());
      if (levels) {
        const ByteTaps taps = to_taps(shape.geometry, shape.outputs, kernels.data(), shift, levels);
        return convolve_channel_bytes(x, shape.geometry, taps, levels, flow.ends(shape.activation));
      }
      return convolve_channels(x, shape.geometry, kernels.data(), shift, flow.ends(shape.activation));
    }
    const int64_t size = bank.size() / (shape.panels() * count);
    Kernels kernels;
    kernels.outputs = shape.outputs;
    kernels.bias = shift;
    kernels.made = true;
    kernels.bank = reinterpret_cast<const char*>(from);
    kernels.bank_bytes = count * size * static_cast<int64_t>(sizeof(Value));
    kernels.panel = [=](int64_t panel, float* scratch) {
      mix(from + panel * count * size, count, size, size, share, scratch);
      return scratch;
    };
    return convolved(x, kernels, flow);
  }

  Image convolved(const Image& x, const Kernels& kernels, Flow& flow) const {
    const Ends ends = flow.ends(shape.activation);
    if (pairs) return convolve_pairs(x, shape.geometry, in_pairs(kernels, shape.taps(), shape.inputs), ends);
    if (!levels) return convolve(x, shape.geometry, kernels, ends);
    const Kernels blocks = in_blocks(kernels, shape.taps(), shape.inputs, levels);
    return convolve_bytes(x, shape.geometry, blocks, levels, ends);
  }

  // Bytes are mixed to bytes.
  Image mixed_blocks(const Image& x, const ByteParts& parts, const float* shift, Flow& flow) const {
    Kernels kernels;
    kernels.outputs = shape.outputs;
    kernels.made = true;
    kernels.bank = reinterpret_cast<const char*>(bank.bytes());
    kernels.bank_bytes = bank.size() / shape.panels();
    kernels.panel = [&, shift](int64_t panel, float* scratch) {
      const int64_t place = panel * kPanel;
      mix_block(bank.bytes() + panel * kernels.bank_bytes, shape.taps(), shape.inputs, parts, levels,
                scales.floats() + place, shift + place, scratch);
      return scratch;
    };
    return convolve_bytes(x, shape.geometry, kernels, levels, flow.ends(shape.activation));
  }

  // Whole numbers are mixed, and the sums of their products scaled.
  Image mixed_bytes(const Image& x, const ByteShares& shares, const float* shift, Flow& flow) const {
    std::vector<float> scale(scales.floats(), scales.floats() + scales.size());
    for (float& value : scale) value *= shares.unit;
    const int64_t size = shape.size() / shape.panels(), bytes = bank.size() / shape.panels();
    Kernels kernels;
    kernels.outputs = shape.outputs;
    kernels.bias = shift;
    kernels.scale = scale.data();
    kernels.made = true;
    kernels.bank = reinterpret_cast<const char*>(bank.bytes());
    kernels.bank_bytes = bytes;
    kernels.panel = [&, size, bytes](int64_t panel, float* scratch) {
      mix(bank.bytes() + panel * bytes, size, shares, scratch);
      return scratch;
    };
    return convolved(x, kernels, flow);
  }
};

}  // namespace pose
