// A deployed network's layers on a CPU, run one after the other in one call, without gradients.
//
// Images are channels_last float32. Kernels are panels as panels.h has them, (panels, kh kw C_in, 16), or (kh kw, C) of
// depthwise layers; a bank holds the kernels of a panel one after the other, (panels, K, kh kw C_in, 16), or (K, kh kw, C),
// in float32 or bfloat16 as lanes.h has it. Biases are filled up to (panels, 16).

#include <torch/custom_class.h>
#include <torch/library.h>

#include <memory>
#include <optional>
#include <string>

#include "channels.h"
#include "decomposed.h"
#include "layer.h"
#include "peak.h"
#include "program.h"

namespace pose {
namespace {

struct StaticLayer : Layer {
  Shape shape;
  Tensor weight, bias;

  StaticLayer(const Shape& shape, Tensor weight, Tensor bias) : shape(shape), weight(weight), bias(bias) {}

  Order takes(int64_t pixels) const override { return shape.takes(pixels); }

  Tensor run(const Tensor& x, Flow& flow) const override {
    shape.check(x);
    const float *from = weight.const_data_ptr<float>(), *shift = bias.const_data_ptr<float>();
    if (shape.depthwise)
      return convolve_channels(x, shape.geometry, from, shift, flow.ends(shape.activation));
    const Kernels kernels = kernels_at(shape.outputs, from, weight.numel() / shape.panels(), shift);
    return convolve(x, shape.geometry, kernels, flow.ends(shape.activation));
  }
};

// W(x) is mixed from the bank by an attention; so is a part of the bias, `biases` (K, panels 16), if defined.
struct DynamicLayer : Layer {
  Shape shape;
  Attention attention;
  Tensor bank, bias, biases;

  DynamicLayer(const Shape& shape, Attention attention, Tensor bank, Tensor bias, Tensor biases)
      : shape(shape), attention(attention), bank(bank), bias(bias), biases(biases) {}

  bool wants_averages() const override { return true; }
  Order takes(int64_t pixels) const override { return shape.takes(pixels); }

  Tensor run(const Tensor& x, Flow& flow) const override {
    shape.check(x);
    std::vector<float> own, shifts;
    const std::vector<float> shares = attention.shares(averages_of(x, flow, 1, own));
    const float *share = shares.data(), *shift = bias.const_data_ptr<float>();
    if (biases.defined()) {
      shifts = affine(biases, bias, share);
      shift = shifts.data();
    }
    return bank.scalar_type() == kWords ? mixed(x, words_of(bank), share, shift, flow)
                                        : mixed(x, bank.const_data_ptr<float>(), share, shift, flow);
  }

  template <typename Value>
  Tensor mixed(const Tensor& x, const Value* from, const float* share, const float* shift, Flow& flow) const {
    const int64_t count = attention.kernels();
    if (shape.depthwise) {
      const int64_t size = bank.numel() / count;
      std::vector<float> kernels(size);
      mix(from, count, size, size, share, kernels.data());
      return convolve_channels(x, shape.geometry, kernels.data(), shift, flow.ends(shape.activation));
    }
    const int64_t size = bank.numel() / (shape.panels() * count);
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
  Tensor w1, b1, w2, b2;

  SqueezeExcitationLayer(Tensor w1, Tensor b1, Tensor w2, Tensor b2) : w1(w1), b1(b1), w2(w2), b2(b2) {}

  bool wants_averages() const override { return true; }
  bool convolves() const override { return false; }

  Tensor run(const Tensor& x, Flow& flow) const override {
    const int64_t channels = x.size(1), pixels = x.size(2) * x.size(3);
    std::vector<float> own;
    const float* averages = averages_of(x, flow, 1, own);
    std::vector<float> scale = affine(w2, b2, hidden_layer(w1, b1, averages).data());
    for (float& value : scale) value = 0.5f * hard_gate(value);
    std::vector<float> scaled(channels);
    for (int64_t c = 0; c < channels; ++c) scaled[c] = averages[c] * scale[c];
    flow.averages = std::move(scaled);
    flow.known = true;
    float* values = x.mutable_data_ptr<float>();
    at::parallel_for(0, pixels, 256, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        float* __restrict__ value = values + i * channels;
        for (int64_t c = 0; c < channels; ++c) value[c] *= scale[c];
      }
    });
    return x;
  }
};

using Self = c10::intrusive_ptr<Program>;

// Size, stride, padding, dilation, inputs, outputs, depthwise, activation.
Shape read(const std::vector<int64_t>& v) {
  TORCH_CHECK(v.size() == 12, "a shape has twelve numbers");
  return {{{v[0], v[1]}, {v[2], v[3]}, {v[4], v[5]}, {v[6], v[7]}}, v[8], v[9], v[10] != 0, v[11]};
}

void add_static(const Self& program, const std::vector<int64_t>& shape, const Tensor& weight, const Tensor& bias) {
  const Shape read_shape = read(shape);
  check_constant(weight, at::kFloat, read_shape.size());
  check_constant(bias, at::kFloat, read_shape.panels() * kPanel);
  program->add<StaticLayer>(read_shape, weight, bias);
}

void add_dynamic(const Self& program, const std::vector<int64_t>& shape, const std::optional<Tensor>& w1,
                 const std::optional<Tensor>& b1, const Tensor& w2, const Tensor& b2, const Tensor& bank,
                 const Tensor& bias, const std::optional<Tensor>& biases) {
  const Attention attention = {w1.value_or(Tensor()), b1.value_or(Tensor()), w2, b2};
  const Tensor mixed = biases.value_or(Tensor());
  const Shape read_shape = read(shape);
  const bool words = bank.scalar_type() == kWords;
  const int64_t size = words ? panels_of(read_shape.size()) * kPanel : read_shape.size();
  check_constant(bank, words ? kWords : at::kFloat, size * b2.size(0));
  check_constant(bias, at::kFloat, read_shape.panels() * kPanel);
  program->add<DynamicLayer>(read_shape, attention, bank, bias, mixed);
}

void add_dcd(const Self& program, const std::vector<int64_t>& shape, int64_t pool_size, const std::vector<Tensor>& tensors,
             const std::optional<Tensor>& to_lambda) {
  const Shape read_shape = read(shape);
  TORCH_CHECK(tensors.size() == 10, "a decomposed layer has ten constants");
  check_constant(tensors[4], at::kFloat, read_shape.size());
  program->add<DcdLayer>(read_shape, pool_size, tensors, to_lambda.value_or(Tensor()));
}

void add_squeeze(const Self& program, const Tensor& w1, const Tensor& b1, const Tensor& w2, const Tensor& b2) {
  TORCH_CHECK(program->follows_a_layer(),
              "squeeze-and-excitation follows a layer, whose answer it scales in place");
  program->add<SqueezeExcitationLayer>(w1, b1, w2, b2);
}

}  // namespace
}  // namespace pose

TORCH_LIBRARY(pose, library) {
  using pose::Program;
  library.def("native_peak(float seconds) -> float", &pose::peak);
  library.class_<Program>("Program")
      .def(torch::init<>())
      .def("add_static", &pose::add_static)
      .def("add_dynamic", &pose::add_dynamic)
      .def("add_dcd", &pose::add_dcd)
      .def("add_squeeze", &pose::add_squeeze)
      .def("begin_block", &Program::begin_block)
      .def("end_block", &Program::end_block)
      .def("run", &Program::run)
      .def("timed", &Program::timed);
}
