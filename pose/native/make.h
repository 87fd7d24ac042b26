// Layers made of what a caller gives, by the name of their kind.

#pragma once

#include <algorithm>
#include <memory>
#include <string>

#include "convolutions.h"
#include "decomposed.h"
#include "given.h"
#include "program.h"
#include "sizes.h"
#include "squeeze.h"

namespace pose {

inline std::shared_ptr<const Layer> static_layer(const Given& given) {
  given.check(12, 2);
  const Shape shape = given.shape();
  return std::make_shared<StaticLayer>(shape, given.floats(0, shape.size()), given.floats(1, shape.panels() * kPanel));
}

// The levels of a layer's images, if it can work in 8 bits: its sums are then of 32, or of 16 by groups of taps.
inline Levels byte_levels(const Given& given, const Shape& shape, int64_t index) {
  const Geometry& g = shape.geometry;
  const bool can = shape.depthwise ? g.dilation[0] == 1 && g.dilation[1] == 1 && shape.taps() <= kMostByteTaps
                                   : shape.taps() * shape.inputs <= kMostByteProducts;
  if (!can) refuse("a layer in 8 bits has no such kernel");
  return given.levels(index);
}

// What a byte of each output is worth, and a bias.
inline std::pair<const float*, const float*> byte_ends(const Given& given, int64_t outputs, int64_t padded) {
  const float *worth = given.floats(1, outputs).floats(), *bias = given.floats(2, padded).floats();
  const auto is_worth = [](float value) { return std::isfinite(value) && value >= 0; };
  if (!std::all_of(worth, worth + outputs, is_worth)) refuse("a layer's scales are none");
  if (!std::all_of(bias, bias + padded, [](float value) { return std::isfinite(value); }))
    refuse("a layer's bias has values that are no finite numbers, which 8 bits would hide");
  return {worth, bias};
}

// Bytes (kh kw, C), what one of each channel is worth, a bias, and the levels of its images.
inline std::shared_ptr<const Layer> byte_channels_layer(const Given& given, const Shape& shape, const Levels& levels) {
  const int64_t channels = shape.outputs, width = shape.panels() * kPanel;
  const Constant& bytes = given.constant(0);
  if (!bytes.in_bytes() || bytes.size() != shape.size())
    refuse("a layer's constant has another size or type than its shape says");
  if (!are_exact(shape.geometry, channels, bytes.bytes())) refuse("a layer's bytes have sums of more than 16 bits");
  const auto [worth, bias] = byte_ends(given, channels, width);
  return std::make_shared<ByteChannelsLayer>(shape, levels, bytes.bytes(), worth, bias);
}

// Bytes, their scales, bias, and the levels of its images.
inline std::shared_ptr<const Layer> byte_layer(const Given& given) {
  given.check(12, 4);
  const Shape shape = given.shape();
  const Levels levels = byte_levels(given, shape, 3);
  if (shape.depthwise) return byte_channels_layer(given, shape, levels);
  const int64_t width = shape.panels() * kPanel, size = width * shape.taps() * words_of(shape.inputs) * 4;
  const Constant& bytes = given.constant(0);
  if (!bytes.in_bytes() || bytes.size() != size) refuse("a layer's constant has another size or type than its shape says");
  if (!are_exact(bytes.bytes(), size / (4 * kPanel))) refuse("a layer's bytes have sums of more than 16 bits");
  const int64_t words = words_of(shape.inputs), filled = 4 * words - shape.inputs;
  for (int64_t word = words - 1; filled && word < size / (4 * kPanel); word += words)
    for (int64_t i = 0; i < kPanel; ++i)
      for (int64_t j = 4 - filled; j < 4; ++j)  // what an image has there is never written
        if (bytes.bytes()[4 * (word * kPanel + i) + j]) refuse("a layer's bytes have weights of inputs that it lacks");
  const auto [worth, bias] = byte_ends(given, width, width);
  return std::make_shared<ByteLayer>(shape, levels, bytes.bytes(), worth, bias);
}

// Pairs of bfloat16, and a bias.
inline std::shared_ptr<const Layer> pair_layer(const Given& given) {
  given.check(12, 2);
  const Shape shape = given.shape();
  const int64_t width = shape.panels() * kPanel, size = width * shape.taps() * ((shape.inputs + 1) / 2 * 2);
  const Constant& pairs = given.constant(0);
  if (shape.depthwise || !pairs.in_words() || pairs.size() != size)
    refuse("a layer's constant has another size or type than its shape says");
  return std::make_shared<PairLayer>(shape, pairs, given.floats(1, width));
}

// w1 and b1 of the attention, which may be missing, w2, b2, bank, bias, and biases, which may be missing; then, where there
// are bytes, the scales of the bank and of w1; then the levels of the layer's images, where it works in 8 bits.
inline std::shared_ptr<const Layer> dynamic_layer(const Given& given, bool pairs) {
  given.check(12, given.constant_count == 7 || given.constant_count == 10 ? given.constant_count : 9);
  const Shape shape = given.shape();
  Attention attention = {given.constant(0, false), given.constant(1, false), given.constant(2), given.constant(3)};
  const Constant &bank = given.constant(4), &biases = given.constant(6, false);
  const int64_t count = attention.kernels(), width = shape.panels() * kPanel;
  if (attention.w1.defined()) {
    const int64_t hidden = given.floats(1, attention.b1.size()).size(), words = (shape.inputs + 3) / 4;
    if (attention.w1.in_bytes()) {
      if (shape.inputs > kMostByteProducts) refuse("an attention in bytes has too many inputs");
      if (given.constant_count == 7 || hidden % kPanel || attention.w1.size() != hidden * words * 4)
        refuse("an attention in bytes has scales and whole panels");
      attention.scales = given.floats(8, hidden);
      attention.inputs = shape.inputs;
      attention.columns = column_sums(attention.w1.bytes(), hidden / kPanel, words);
    } else {
      check_matrix(attention.w1, shape.inputs, hidden);
    }
  }
  check_matrix(attention.w2, attention.w1.defined() ? attention.b1.size() : shape.inputs, count);
  if (count < 1) refuse("a dynamic layer has no kernels");
  Constant scales = {};
  if (bank.in_bytes()) {
    if (given.constant_count == 7 || shape.depthwise) refuse("a bank in bytes has scales and is of no depthwise layer");
    scales = given.floats(7, width);
  }
  const int64_t size = bank.in_words() ? panels_of(shape.size()) * kPanel : shape.size();
  const int64_t filled = bank.in_bytes() ? (count + 3) / 4 * 4 : count;
  if (bank.size() != size * filled) refuse("a layer's constant has another size or type than its shape says");
  if (bank.in_bytes() && std::count(bank.bytes(), bank.bytes() + bank.size(), int8_t{-128}))
    refuse("a layer's bank has bytes of -128, whose sums are of more than 16 bits");
  if (biases.defined() && given.floats(6, count * width).rows != count) refuse("a layer's biases are not one row a kernel");
  given.floats(3, count);
  auto layer = std::make_shared<DynamicLayer>(shape, attention, bank, given.floats(5, width), biases, scales);
  if (pairs && (shape.depthwise || given.constant_count == 10)) refuse("a layer in bfloat16 is not depthwise nor in 8 bits");
  if (given.constant_count == 10) layer->levels = byte_levels(given, shape, 9);
  const int64_t stretches = bank.size() / (4 * kPanel * shape.inputs);
  layer->mixes_bytes = layer->levels && bank.in_bytes() && mixes_exactly(bank.bytes(), stretches, shape.inputs);
  layer->pairs = pairs;
  return layer;
}

// The size of what is pooled after the shape, and the constants of DcdLayer; the last one, Lambda's, may be missing.
inline std::shared_ptr<const Layer> decomposed_layer(const Given& given) {
  given.check(13, 11);
  const Shape shape = given.shape();
  for (int64_t i = 0; i < 10; ++i) given.constant(i);
  const Constant *c = given.constants, &identity = c[3];
  for (int i = 0; i < 2; ++i) {  // the factors meet the pixels under the kernel's center
    const Geometry& g = shape.geometry;
    if (g.size[i] % 2 == 0 || 2 * g.padding[i] != g.dilation[i] * (g.size[i] - 1))
      refuse("a decomposed layer has an odd kernel and 'same' padding");
  }
  const int64_t pool = given.numbers[12], latent = identity.rows, hidden = c[0].columns, width = shape.panels() * kPanel;
  if (shape.depthwise || pool < 1 || pool > kLargestSide || latent < 1 || identity.columns != panels_of(latent) * kPanel)
    refuse("a decomposed layer's shape is none");
  given.floats(3, identity.size());
  check_matrix(c[0], shape.inputs * pool * pool, hidden);
  check_matrix(c[1], hidden, hidden);
  check_matrix(c[2], hidden, identity.size());
  given.floats(4, shape.size());
  given.floats(5, width * latent);
  given.floats(6, panels_of(latent) * kPanel * shape.inputs);
  given.floats(7, shape.inputs * latent);
  given.floats(8, identity.columns);
  given.floats(9, width);
  if (c[10].defined()) check_matrix(c[10], hidden, width);
  return std::make_shared<DcdLayer>(shape, pool, c);
}

inline std::shared_ptr<const Layer> squeeze_layer(const Given& given, const Program& program) {
  given.check(0, 4);
  for (int64_t i = 0; i < 4; ++i) given.constant(i);
  const Constant* c = given.constants;
  given.floats(1, c[1].size());
  given.floats(3, c[2].columns);
  check_matrix(c[0], c[2].columns, c[1].size());
  check_matrix(c[2], c[1].size(), c[3].size());
  if (!program.follows_a_layer()) refuse("squeeze-and-excitation follows a layer, whose answer it scales in place");
  return std::make_shared<SqueezeExcitationLayer>(c[0], c[1], c[2], c[3]);
}

inline std::shared_ptr<const Layer> make_layer(const std::string& kind, const Given& given, const Program& program) {
  if (kind == "static") return static_layer(given);
  if (kind == "static_bytes") return byte_layer(given);
  if (kind == "static_pairs") return pair_layer(given);
  if (kind == "dynamic" || kind == "dynamic_pairs") return dynamic_layer(given, kind == "dynamic_pairs");
  if (kind == "decomposed") return decomposed_layer(given);
  if (kind == "squeeze") return squeeze_layer(given, program);
  if (kind == "max_pool") {
    given.check(8, 0);
    return std::make_shared<MaxPoolLayer>(given.geometry());
  }
  const bool bilinear = kind == "bilinear";
  if (!bilinear && kind != "nearest" && kind != "interleave")
    refuse("no kind of layer is called ", kind, "; a newer version of pose may have it");
  given.check(0, 0);
  if (kind == "interleave") return std::make_shared<InterleaveLayer>();
  return std::make_shared<UpsampleLayer>(bilinear);
}

}  // namespace pose
