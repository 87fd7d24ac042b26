// A deployed network's layers on a CPU, run one after the other in one call, without gradients.
//
// It knows nothing of Python or torch: whoever loads it calls the functions at the end.
//
// Images are float32, (H, W, C). Kernels are panels as panels.h has them, (panels, kh kw C_in, 16), or (kh kw, C) of
// depthwise layers; a bank holds the kernels of a panel one after the other, (panels, K, kh kw C_in, 16), or (K, kh kw, C),
// in float32 or bfloat16 as lanes.h has it. Biases are filled up to (panels, 16).

#include <memory>
#include <string>

#include "channels.h"
#include "decomposed.h"
#include "layer.h"
#include "peak.h"
#include "program.h"
#include "sizes.h"

namespace pose {
namespace {

struct StaticLayer : Layer {
  Shape shape;
  Constant weight, bias;

  StaticLayer(const Shape& shape, Constant weight, Constant bias) : shape(shape), weight(weight), bias(bias) {}

  Image shape_after(const Image& x) const override { return shape.after(x); }
  Order takes(int64_t pixels) const override { return shape.takes(pixels); }

  Image run(const Image& x, Flow& flow) const override {
    shape.check(x);
    const float *from = weight.floats(), *shift = bias.floats();
    if (shape.depthwise)
      return convolve_channels(x, shape.geometry, from, shift, flow.ends(shape.activation));
    const Kernels kernels = kernels_at(shape.outputs, from, weight.size() / shape.panels(), shift);
    return convolve(x, shape.geometry, kernels, flow.ends(shape.activation));
  }
};

// W(x) is mixed from the bank by an attention; so is a part of the bias, `biases` (K, panels 16), if defined.
struct DynamicLayer : Layer {
  Shape shape;
  Attention attention;
  Constant bank, bias, biases;

  DynamicLayer(const Shape& shape, Attention attention, Constant bank, Constant bias, Constant biases)
      : shape(shape), attention(attention), bank(bank), bias(bias), biases(biases) {}

  bool wants_averages() const override { return true; }
  Image shape_after(const Image& x) const override { return shape.after(x); }
  Order takes(int64_t pixels) const override { return shape.takes(pixels); }

  Image run(const Image& x, Flow& flow) const override {
    shape.check(x);
    std::vector<float> own, shifts;
    const std::vector<float> shares = attention.shares(averages_of(x, flow, 1, own));
    const float *share = shares.data(), *shift = bias.floats();
    if (biases.defined()) {
      shifts = affine(biases, bias, share);
      shift = shifts.data();
    }
    return bank.in_words() ? mixed(x, bank.words(), share, shift, flow) : mixed(x, bank.floats(), share, shift, flow);
  }

  template <typename Value>
  Image mixed(const Image& x, const Value* from, const float* share, const float* shift, Flow& flow) const {
    const int64_t count = attention.kernels();
    if (shape.depthwise) {
      const int64_t size = bank.size() / count;
      std::vector<float> kernels(size);
      mix(from, count, size, size, share, kernels.data());
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
    return convolve(x, shape.geometry, kernels, flow.ends(shape.activation));
  }
};

// Squeeze-and-excitation, in place: W1 (C, hidden), W2 (hidden, C).
struct SqueezeExcitationLayer : Layer {
  Constant w1, b1, w2, b2;

  SqueezeExcitationLayer(Constant w1, Constant b1, Constant w2, Constant b2) : w1(w1), b1(b1), w2(w2), b2(b2) {}

  bool wants_averages() const override { return true; }
  bool convolves() const override { return false; }

  Image shape_after(const Image& x) const override {
    if (x.channels != b2.size()) refuse("a layer takes ", b2.size(), " channels, got ", x.channels);
    return x;
  }

  Image run(const Image& x, Flow& flow) const override {
    const int64_t channels = shape_after(x).channels, pixels = x.pixels();
    std::vector<float> own;
    const float* averages = averages_of(x, flow, 1, own);
    std::vector<float> scale = affine(w2, b2, hidden_layer(w1, b1, averages).data());
    for (float& value : scale) value = 0.5f * hard_gate(value);
    std::vector<float> scaled(channels);
    for (int64_t c = 0; c < channels; ++c) scaled[c] = averages[c] * scale[c];
    flow.averages = std::move(scaled);
    flow.known = true;
    float* values = x.data;
    parallel_for(0, pixels, 256, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        float* __restrict__ value = values + i * channels;
        for (int64_t c = 0; c < channels; ++c) value[c] *= scale[c];
      }
    });
    return x;
  }
};

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
    if (found.in_words() || found.size() != size) refuse("a layer's constant has another size or type than its shape says");
    return found;
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
    if (v[0] < 1 || v[1] < 1 || std::max(v[0], v[1]) > kMostChannels || v[3] < kNone || v[3] > kHardswish || (v[2] && v[0] != v[1]))
      refuse("a layer's shape is none: ", v[0], " to ", v[1], " channels, activation ", v[3]);
    const Shape shape = {geometry(), v[0], v[1], v[2] != 0, v[3]};
    if (shape.size() > kMostValues) refuse("a layer's kernel has ", shape.size(), " values");
    return shape;
  }
};

// A matrix times a vector: it reads `rows` values and writes `columns`, or fewer where vectors are filled up to panels.
void check_matrix(const Constant& matrix, int64_t rows, int64_t columns) {
  if (matrix.in_words() && matrix.columns % kPanel) refuse("a layer's matrix in words has rows of ", matrix.columns);
  if (matrix.rows < 1 || matrix.rows > rows || matrix.columns > columns)
    refuse("a layer's matrix is ", matrix.rows, " x ", matrix.columns, ", not ", rows, " x ", columns);
}

std::shared_ptr<const Layer> static_layer(const Given& given) {
  given.check(12, 2);
  const Shape shape = given.shape();
  return std::make_shared<StaticLayer>(shape, given.floats(0, shape.size()), given.floats(1, shape.panels() * kPanel));
}

// w1 and b1 of the attention, which may be missing, w2, b2, bank, bias, and biases, which may be missing.
std::shared_ptr<const Layer> dynamic_layer(const Given& given) {
  given.check(12, 7);
  const Shape shape = given.shape();
  const Attention attention = {given.constant(0, false), given.constant(1, false), given.constant(2), given.constant(3)};
  const Constant &bank = given.constant(4), &biases = given.constant(6, false);
  const int64_t count = attention.kernels(), width = shape.panels() * kPanel;
  if (attention.w1.defined()) {
    given.floats(1, attention.b1.size());
    check_matrix(attention.w1, shape.inputs, attention.b1.size());
  }
  check_matrix(attention.w2, attention.w1.defined() ? attention.b1.size() : shape.inputs, count);
  if (count < 1) refuse("a dynamic layer has no kernels");
  const int64_t size = bank.in_words() ? panels_of(shape.size()) * kPanel : shape.size();
  if (bank.size() != size * count) refuse("a layer's constant has another size or type than its shape says");
  if (biases.defined() && given.floats(6, count * width).rows != count) refuse("a layer's biases are not one row a kernel");
  given.floats(3, count);
  return std::make_shared<DynamicLayer>(shape, attention, bank, given.floats(5, width), biases);
}

// The size of what is pooled after the shape, and the constants of DcdLayer; the last one, Lambda's, may be missing.
std::shared_ptr<const Layer> decomposed_layer(const Given& given) {
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

std::shared_ptr<const Layer> squeeze_layer(const Given& given, const Program& program) {
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

std::shared_ptr<const Layer> make_layer(const std::string& kind, const Given& given, const Program& program) {
  if (kind == "static") return static_layer(given);
  if (kind == "dynamic") return dynamic_layer(given);
  if (kind == "decomposed") return decomposed_layer(given);
  if (kind == "squeeze") return squeeze_layer(given, program);
  if (kind == "max_pool") {
    given.check(8, 0);
    return std::make_shared<MaxPoolLayer>(given.geometry());
  }
  const bool bilinear = kind == "bilinear";
  if (!bilinear && kind != "nearest" && kind != "interleave") refuse("no kind of layer is called ", kind);
  given.check(0, 0);
  if (kind == "interleave") return std::make_shared<InterleaveLayer>();
  return std::make_shared<UpsampleLayer>(bilinear);
}

thread_local std::string error;

// 0, or 1 where it throws: then `pose_error` says what.
template <typename Run>
int attempt(const Run& run) {
  try {
    run();
    return 0;
  } catch (const std::exception& thrown) {
    error = thrown.what();
    return 1;
  }
}

}  // namespace
}  // namespace pose

// What Python calls: functions that answer with a number answer 0, or 1 where `pose_error` has a line.
extern "C" {
using Handle = std::shared_ptr<pose::Program>*;

const char* pose_error() { return pose::error.c_str(); }

double pose_peak(double seconds) { return pose::peak(seconds); }

Handle pose_program() { return new std::shared_ptr<pose::Program>(std::make_shared<pose::Program>()); }

void pose_free(Handle program) { delete program; }

int64_t pose_layers(Handle program) { return (*program)->layers(); }

int pose_add(Handle program, const char* kind, const int64_t* numbers, int64_t number_count, const pose::Constant* constants,
             int64_t constant_count) {
  return pose::attempt([&] {
    (*program)->add(pose::make_layer(kind, {numbers, number_count, constants, constant_count}, **program));
  });
}

// `shortcut` may be null.
int pose_begin_block(Handle program, Handle shortcut) {
  return pose::attempt([&] { (*program)->begin_block(shortcut ? *shortcut : nullptr); });
}

int pose_end_block(Handle program) {
  return pose::attempt([&] { (*program)->end_block(); });
}

// Rows, columns and channels of the answer to an image of such a shape.
int pose_shape(Handle program, const int64_t* shape, int64_t* after) {
  return pose::attempt([&] {
    const pose::Image y = (*program)->shape_after({shape[2], shape[0], shape[1], nullptr, nullptr});
    after[0] = y.rows, after[1] = y.columns, after[2] = y.channels;
  });
}

// Images (N, H, W, C) to answers, which have the shape that `pose_shape` says. `times`, if not null, has room for seven
// numbers a layer, of one image.
int pose_run(Handle program, const float* images, int64_t count, const int64_t* shape, float* answers, int64_t threads,
             double* times) {
  return pose::attempt([&] {
    const pose::Image x = {shape[2], shape[0], shape[1], const_cast<float*>(images), nullptr};
    pose::Image y = (*program)->shape_after(x);
    y.data = answers;
    const pose::WithThreads all(std::clamp<int64_t>(threads, 1, 1024));
    std::vector<double> found;
    (*program)->run(x, count, y, times ? &found : nullptr);
    if (times) std::copy(found.begin(), found.end(), times);
  });
}
}
