// The dynamic layers of a deployed network on a CPU: one call from the input to the activated output.
//
// Images are channels_last float32. A bank is (K, values) float32 or bfloat16, its values ordered as the
// kernel in use: (kh, kw, channels) of depthwise layers, (C_out, kh, kw, C_in) of others.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using at::Tensor;

enum Activation { kNone, kRelu, kRelu6, kHardswish };

// Sixteen channels; compilers lower it to whatever vectors the processor has.
typedef float Lanes __attribute__((vector_size(64)));
typedef float HalfLanes __attribute__((vector_size(32)));

// The i-th value from an address that is aligned to a float only.
template <typename Value>
inline Value load(const float* from, int64_t i) {
  Value value;
  std::memcpy(&value, from + i * (sizeof(Value) / sizeof(float)), sizeof(value));
  return value;
}

template <typename Value>
inline void store(float* to, int64_t i, Value value) {
  std::memcpy(to + i * (sizeof(Value) / sizeof(float)), &value, sizeof(value));
}

// Of a float or of lanes.
template <int kActivation, typename Value>
inline Value activate(Value value) {
  const Value zero = Value{}, six = zero + 6.0f;
  if constexpr (kActivation == kRelu) return value > zero ? value : zero;
  if constexpr (kActivation == kRelu6 || kActivation == kHardswish) {
    const Value shifted = kActivation == kHardswish ? value + 3.0f : value;
    const Value above = shifted > zero ? shifted : zero;
    const Value gate = above < six ? above : six;
    return kActivation == kHardswish ? value * gate * (1.0f / 6.0f) : gate;
  }
  return value;
}

// Calls `run` with the activation as a constant of the compiler's.
template <typename Run>
void with_activation(int64_t activation, const Run& run) {
  switch (activation) {
    case kRelu: return run(std::integral_constant<int, kRelu>{});
    case kRelu6: return run(std::integral_constant<int, kRelu6>{});
    case kHardswish: return run(std::integral_constant<int, kHardswish>{});
    default: return run(std::integral_constant<int, kNone>{});
  }
}

// Activates channels_last pixels in place and adds them up by channel.
template <int kActivation>
void activate_and_add(float* __restrict__ values, int64_t pixels, int64_t channels, float* __restrict__ sums) {
  for (int64_t pixel = 0; pixel < pixels; ++pixel, values += channels) {
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) {
      const float value = activate<kActivation>(values[c]);
      values[c] = value;
      sums[c] += value;
    }
  }
}

template <int kActivation>
void activate_all(float* values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) values[i] = activate<kActivation>(values[i]);
}

// Activates images (N, C, H, W) channels_last; the averages of their channels (N, C), empty if not wanted.
Tensor finish(const Tensor& y, int64_t activation, bool wants_averages) {
  const int64_t images = y.size(0), channels = y.size(1), pixels = y.size(2) * y.size(3);
  float* values = y.mutable_data_ptr<float>();
  if (!wants_averages) {
    if (activation != kNone)
      at::parallel_for(0, y.numel(), 1 << 16, [&](int64_t begin, int64_t end) {
        with_activation(activation, [&](auto kind) { activate_all<decltype(kind)::value>(values + begin, end - begin); });
      });
    return at::empty({0}, y.options());
  }
  Tensor averages = at::zeros({images, channels}, y.options().memory_format(at::MemoryFormat::Contiguous));
  float* sums = averages.mutable_data_ptr<float>();
  at::parallel_for(0, images, 1, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n)
      with_activation(activation, [&](auto kind) {
        activate_and_add<decltype(kind)::value>(values + n * pixels * channels, pixels, channels, sums + n * channels);
      });
  });
  return averages.mul_(1.0 / static_cast<double>(pixels));
}

inline float widen(float value) { return value; }

inline float widen(at::BFloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.x) << 16;
  float wide;
  std::memcpy(&wide, &bits, sizeof(wide));
  return wide;
}

template <typename Value>
float dot(const Value* row, const float* values, int64_t count) {
  float sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += widen(row[i]) * values[i];
  return sum;
}

// Averages of one image's channels.
void pool(const float* image, int64_t pixels, int64_t channels, float* averages) {
  constexpr int64_t kBlock = 64;
  const float share = 1.0f / static_cast<float>(pixels);
  int64_t first = 0;
  for (; first + kBlock <= channels; first += kBlock) {
    float sums[kBlock] = {};
    for (int64_t pixel = 0; pixel < pixels; ++pixel) {
      const float* from = image + pixel * channels + first;
      for (int64_t c = 0; c < kBlock; ++c) sums[c] += from[c];
    }
    for (int64_t c = 0; c < kBlock; ++c) averages[first + c] = sums[c] * share;
  }
  if (first == channels) return;
  const int64_t rest = channels - first;
  float sums[kBlock] = {};
  for (int64_t pixel = 0; pixel < pixels; ++pixel) {
    const float* from = image + pixel * channels + first;
    for (int64_t c = 0; c < rest; ++c) sums[c] += from[c];
  }
  for (int64_t c = 0; c < rest; ++c) averages[first + c] = sums[c] * share;
}

// The attention over K kernels of one image; `hidden` is scratch.
template <typename Value>
void attend(const float* averages, int64_t channels, const std::optional<Tensor>& w1, const std::optional<Tensor>& b1,
            const Tensor& w2, const Tensor& b2, std::vector<float>& hidden, float* shares) {
  const float* inputs = averages;
  int64_t count = channels;
  if (w1) {
    count = w1->size(0);
    hidden.resize(count);
    const Value* rows = w1->const_data_ptr<Value>();
    const float* biases = b1->const_data_ptr<float>();
    for (int64_t h = 0; h < count; ++h)
      hidden[h] = std::max(dot(rows + h * channels, averages, channels) + biases[h], 0.0f);
    inputs = hidden.data();
  }
  const int64_t kernels = w2.size(0);
  const float* rows = w2.const_data_ptr<float>();
  const float* biases = b2.const_data_ptr<float>();
  for (int64_t k = 0; k < kernels; ++k) shares[k] = dot(rows + k * count, inputs, count) + biases[k];
  if (!w1) {  // CondConv
    for (int64_t k = 0; k < kernels; ++k) shares[k] = 1.0f / (1.0f + std::exp(-shares[k]));
    return;
  }
  const float largest = *std::max_element(shares, shares + kernels);
  float total = 0;
  for (int64_t k = 0; k < kernels; ++k) total += shares[k] = std::exp(shares[k] - largest);
  for (int64_t k = 0; k < kernels; ++k) shares[k] /= total;
}

// `count` values of one image's kernel; `stride` values lie between those of one kernel of the bank and the next's.
template <typename Value>
void mix(const Value* bank, int64_t kernels, int64_t stride, int64_t count, const float* shares, float* out) {
  int64_t k = 0;
  if (kernels >= 4) {
    const Value *a = bank, *b = bank + stride, *c = bank + 2 * stride, *d = bank + 3 * stride;
    const float p = shares[0], q = shares[1], r = shares[2], s = shares[3];
    for (int64_t i = 0; i < count; ++i)
      out[i] = p * widen(a[i]) + q * widen(b[i]) + r * widen(c[i]) + s * widen(d[i]);
    k = 4;
  } else {
    for (int64_t i = 0; i < count; ++i) out[i] = shares[0] * widen(bank[i]);
    k = 1;
  }
  for (; k < kernels; ++k) {
    const Value* kernel = bank + k * stride;
    for (int64_t i = 0; i < count; ++i) out[i] += shares[k] * widen(kernel[i]);
  }
}

// The kernels of all images, (N, values), and their attention, (N, K).
template <typename Value>
std::pair<Tensor, Tensor> kernels_of(const Tensor& x, const std::optional<Tensor>& averages,
                                     const std::optional<Tensor>& w1, const std::optional<Tensor>& b1, const Tensor& w2,
                                     const Tensor& b2, const Tensor& bank) {
  const int64_t images = x.size(0), channels = x.size(1), pixels = x.size(2) * x.size(3);
  const int64_t kernels = bank.size(0), count = bank.size(1);
  Tensor weight = at::empty({images, count}, x.options());
  Tensor attention = at::empty({images, kernels}, x.options());
  const float* from = x.const_data_ptr<float>();
  float* shares = attention.mutable_data_ptr<float>();
  float* out = weight.mutable_data_ptr<float>();
  at::parallel_for(0, images, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> own(channels), hidden;
    for (int64_t n = begin; n < end; ++n) {
      if (!averages) pool(from + n * pixels * channels, pixels, channels, own.data());
      const float* pooled = averages ? averages->const_data_ptr<float>() + n * channels : own.data();
      attend<Value>(pooled, channels, w1, b1, w2, b2, hidden, shares + n * kernels);
    }
  });
  constexpr int64_t kChunk = 4096;  // read from memory once for all images
  const Value* values = bank.const_data_ptr<Value>();
  at::parallel_for(0, (count + kChunk - 1) / kChunk, 8, [&](int64_t begin, int64_t end) {
    for (int64_t first = begin * kChunk; first < std::min(count, end * kChunk); first += kChunk)
      for (int64_t n = 0; n < images; ++n)
        mix(values + first, kernels, count, std::min(kChunk, count - first), shares + n * kernels, out + n * count + first);
  });
  return {weight, attention};
}

// Where the kernel of a depthwise layer meets the image.
struct Geometry {
  int64_t height, width, channels, rows, columns;  // of the image and of the answer
  int64_t size[2], stride[2], padding[2], dilation[2];
};

// kCount neighbouring values of one row of a depthwise convolution, activated; adds the answers to `total`.
template <int kActivation, typename Value, int kCount>
void depthwise_block(const Geometry& g, const float* image, const float* kernel, const float* bias, int64_t row,
                     float* out, float* total) {
  const int64_t top = row * g.stride[0] - g.padding[0];
  Value added[kCount] = {};
  for (int64_t column = 0; column < g.columns; ++column) {
    const int64_t left = column * g.stride[1] - g.padding[1];
    Value sums[kCount];
    for (int i = 0; i < kCount; ++i) sums[i] = load<Value>(bias, i);
    for (int64_t a = 0; a < g.size[0]; ++a) {
      const int64_t y = top + a * g.dilation[0];
      if (y < 0 || y >= g.height) continue;
      for (int64_t b = 0; b < g.size[1]; ++b) {
        const int64_t x = left + b * g.dilation[1];
        if (x < 0 || x >= g.width) continue;
        const float* from = image + (y * g.width + x) * g.channels;
        const float* tap = kernel + (a * g.size[1] + b) * g.channels;
        for (int i = 0; i < kCount; ++i) sums[i] += load<Value>(from, i) * load<Value>(tap, i);
      }
    }
    float* to = out + column * g.channels;
    for (int i = 0; i < kCount; ++i) {
      const Value value = activate<kActivation>(sums[i]);
      store(to, i, value);
      added[i] += value;
    }
  }
  for (int i = 0; i < kCount; ++i) store(total, i, load<Value>(total, i) + added[i]);
}

// A depthwise convolution of channels_last images, activated: kernels (N, kh, kw, C), biases (C) or (N, C).
std::pair<Tensor, Tensor> depthwise(const Tensor& x, const Tensor& weight, const Tensor& bias, bool bias_per_image,
                                    at::IntArrayRef size, at::IntArrayRef stride, at::IntArrayRef padding,
                                    at::IntArrayRef dilation, int64_t activation) {
  const int64_t images = x.size(0), channels = x.size(1), height = x.size(2), width = x.size(3);
  const int64_t rows = (height + 2 * padding[0] - dilation[0] * (size[0] - 1) - 1) / stride[0] + 1;
  const int64_t columns = (width + 2 * padding[1] - dilation[1] * (size[1] - 1) - 1) / stride[1] + 1;
  const Geometry g = {height, width, channels, rows, columns, {size[0], size[1]}, {stride[0], stride[1]},
                      {padding[0], padding[1]}, {dilation[0], dilation[1]}};
  Tensor y = at::empty({images, channels, rows, columns}, x.options(), at::MemoryFormat::ChannelsLast);
  Tensor averages = at::zeros({images, channels}, x.options().memory_format(at::MemoryFormat::Contiguous));
  const float* from = x.const_data_ptr<float>();
  const float* kernels = weight.const_data_ptr<float>();
  const float* biases = bias.const_data_ptr<float>();
  float* out = y.mutable_data_ptr<float>();
  float* sums = averages.mutable_data_ptr<float>();
  // Pieces of channels, not of rows: no two threads add to the same sum.
  constexpr int64_t kBlock = 64;
  const int64_t pieces = (channels + kBlock - 1) / kBlock;
  at::parallel_for(0, images * pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t piece = begin; piece < end; ++piece) {
      const int64_t n = piece / pieces, last = std::min(channels, (piece % pieces + 1) * kBlock);
      with_activation(activation, [&](auto kind) {
        for (int64_t row = 0; row < rows; ++row) {
          int64_t c = piece % pieces * kBlock;
          const auto blocks = [&](auto value, auto count) {
            using Value = decltype(value);
            constexpr int kCount = decltype(count)::value;
            constexpr int64_t kWidth = kCount * sizeof(Value) / sizeof(float);
            for (; c + kWidth <= last; c += kWidth)
              depthwise_block<decltype(kind)::value, Value, kCount>(
                  g, from + n * height * width * channels + c, kernels + n * weight.size(1) + c,
                  biases + (bias_per_image ? n * channels : 0) + c, row, out + (n * rows + row) * columns * channels + c,
                  sums + n * channels + c);
          };
          blocks(Lanes{}, std::integral_constant<int, 4>{});
          blocks(Lanes{}, std::integral_constant<int, 2>{});
          blocks(Lanes{}, std::integral_constant<int, 1>{});
          blocks(HalfLanes{}, std::integral_constant<int, 1>{});
          blocks(float{}, std::integral_constant<int, 1>{});
        }
      });
    }
  });
  return {y, averages.mul_(1.0 / static_cast<double>(rows * columns))};
}

// y = g(W(x) * x + b(x)) and the averages of its channels, empty if not wanted. `averages` are those of x, if known;
// `biases` (K, C_out) is mixed like the kernels and added to the shared `bias` (C_out).
std::tuple<Tensor, Tensor> dynamic_conv2d(
                      const Tensor& input, const std::optional<Tensor>& averages, const std::optional<Tensor>& w1, const std::optional<Tensor>& b1,
                      const Tensor& w2, const Tensor& b2, const Tensor& bank, const Tensor& bias,
                      const std::optional<Tensor>& biases, at::IntArrayRef size, at::IntArrayRef stride,
                      at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups, int64_t activation,
                      bool wants_averages) {
  const Tensor x = input.contiguous(at::MemoryFormat::ChannelsLast);
  TORCH_CHECK(x.scalar_type() == at::kFloat && x.device().is_cpu(), "images must be float32 on a CPU");
  const int64_t images = x.size(0), channels = x.size(1);
  auto [weight, attention] = bank.scalar_type() == at::kBFloat16
                                 ? kernels_of<at::BFloat16>(x, averages, w1, b1, w2, b2, bank)
                                 : kernels_of<float>(x, averages, w1, b1, w2, b2, bank);
  const Tensor shift = biases ? at::addmm(bias, attention, *biases) : bias;
  const int64_t out_channels = bias.size(0);
  if (groups > 1) return depthwise(x, weight, shift, biases.has_value(), size, stride, padding, dilation, activation);
  const std::vector<int64_t> strides = {bank.size(1) / out_channels, 1, size[1] * channels, channels};
  // Small kernels in one batched product, larger ones image by image: measured, the latter pays from 4 million on.
  const bool plain = size[0] * size[1] == 1 && stride[0] * stride[1] == 1 && padding[0] + padding[1] == 0;
  if (images > 1 && plain && x.size(2) * x.size(3) * channels * out_channels < 4000000) {
    const Tensor pixels = x.permute({0, 2, 3, 1}).view({images, -1, channels});
    const Tensor kernels = weight.view({images, out_channels, channels}).transpose(1, 2);
    const Tensor y = at::baddbmm(shift.view({-1, 1, out_channels}), pixels, kernels)
                         .view({images, x.size(2), x.size(3), out_channels})
                         .permute({0, 3, 1, 2});
    return {y, finish(y, activation, wants_averages)};
  }
  const auto convolve = [&](int64_t n) {
    const Tensor image = x.narrow(0, n, 1);
    const Tensor kernel = weight[n].as_strided({out_channels, channels, size[0], size[1]}, strides);
    const Tensor own = biases ? shift[n] : shift;
    // A single image goes where torch sends a static layer of this size; one of many would be sent there too, and slower.
    if (images == 1 || !at::hasMKLDNN()) return at::conv2d(image, kernel, own, stride, padding, dilation);
    return at::mkldnn_convolution(image, kernel, own, padding, stride, dilation, 1);
  };
  Tensor y = convolve(0);
  if (images > 1) {
    const Tensor first = y;
    y = at::empty({images, out_channels, first.size(2), first.size(3)}, x.options(), at::MemoryFormat::ChannelsLast);
    y.narrow(0, 0, 1).copy_(first);
    for (int64_t n = 1; n < images; ++n) y.narrow(0, n, 1).copy_(convolve(n));
  }
  return {y, finish(y, activation, wants_averages)};
}

inline float hard_gate(float value) { return std::min(std::max(value + 3.0f, 0.0f), 6.0f) * (1.0f / 3.0f); }

// Averages over size x size parts of a channels_last image, (C, size, size), as adaptive_avg_pool2d has them.
void pool_parts(const float* image, int64_t height, int64_t width, int64_t channels, int64_t size, float* averages) {
  if (size == 1) return pool(image, height * width, channels, averages);
  std::vector<float> part(channels);
  for (int64_t a = 0; a < size; ++a) {
    const int64_t top = a * height / size, bottom = ((a + 1) * height + size - 1) / size;
    for (int64_t b = 0; b < size; ++b) {
      const int64_t left = b * width / size, right = ((b + 1) * width + size - 1) / size;
      std::fill(part.begin(), part.end(), 0.0f);
      for (int64_t y = top; y < bottom; ++y) {
        for (int64_t x = left; x < right; ++x) {
          const float* from = image + (y * width + x) * channels;
          for (int64_t c = 0; c < channels; ++c) part[c] += from[c];
        }
      }
      const float share = 1.0f / static_cast<float>((bottom - top) * (right - left));
      for (int64_t c = 0; c < channels; ++c) averages[(c * size + a) * size + b] = part[c] * share;
    }
  }
}

// One image through a pointwise layer W(x) = Lambda(x) W_0 + P Phi(x) Q^T; see pose/models/folded_dcd.py.
// Without Lambda `w_lambda` is none.
Tensor dcd_conv2d(const Tensor& input, const Tensor& w_reduce, const Tensor& w_gate,
                  const std::optional<Tensor>& w_lambda, const Tensor& w_phi, const Tensor& weight, const Tensor& p,
                  const Tensor& q, const Tensor& latent_bias, const Tensor& bias, int64_t pool_size,
                  at::IntArrayRef stride, bool assemble, int64_t activation) {
  const Tensor x = input.contiguous(at::MemoryFormat::ChannelsLast);
  TORCH_CHECK(x.scalar_type() == at::kFloat && x.device().is_cpu(), "images must be float32 on a CPU");
  TORCH_CHECK(x.size(0) == 1, "one image at a time");
  const int64_t channels = x.size(1), outputs = p.size(0), latent = p.size(1), hidden = w_reduce.size(0);
  std::vector<float> averages(channels * pool_size * pool_size), inside(hidden), gated(hidden);
  pool_parts(x.const_data_ptr<float>(), x.size(2), x.size(3), channels, pool_size, averages.data());
  const int64_t inputs = averages.size();
  const float* rows = w_reduce.const_data_ptr<float>();
  for (int64_t h = 0; h < hidden; ++h) inside[h] = dot(rows + h * inputs, averages.data(), inputs);
  rows = w_gate.const_data_ptr<float>();
  for (int64_t h = 0; h < hidden; ++h) gated[h] = inside[h] * hard_gate(dot(rows + h * hidden, inside.data(), hidden));

  Tensor phi = at::empty({latent, latent}, x.options());
  float* core = phi.mutable_data_ptr<float>();
  rows = w_phi.const_data_ptr<float>();
  for (int64_t i = 0; i < latent * latent; ++i) core[i] = dot(rows + i * hidden, gated.data(), hidden);
  for (int64_t i = 0; i < latent; ++i) core[i * latent + i] += 1.0f;

  std::vector<float> scales(w_lambda ? outputs : 0);
  if (w_lambda) {
    rows = w_lambda->const_data_ptr<float>();
    for (int64_t o = 0; o < outputs; ++o) scales[o] = hard_gate(dot(rows + o * hidden, gated.data(), hidden));
  }
  const std::vector<int64_t> kernel = {outputs, channels, 1, 1}, strides = {channels, 1, channels, channels};
  const auto convolve = [&](const Tensor& matrix, const std::optional<Tensor>& shift) {
    return at::conv2d(x, matrix.as_strided(kernel, strides), shift, stride);
  };
  Tensor y;
  if (assemble) {  // the kernel is scaled, and the residual added to it
    const Tensor mixed = at::mm(p, phi);  // (C_out, L)
    Tensor whole = at::mm(mixed, q);
    float* to = whole.mutable_data_ptr<float>();
    const float* from = weight.const_data_ptr<float>();
    for (int64_t o = 0; o < outputs; ++o, to += channels, from += channels) {
      const float scale = w_lambda ? scales[o] : 1.0f;
      for (int64_t c = 0; c < channels; ++c) to[c] += scale * from[c];
    }
    y = convolve(whole, at::addmv(bias, mixed, latent_bias));
  } else {  // the answer is scaled, and the residual's answer added to it
    y = convolve(weight, w_lambda ? std::nullopt : std::optional<Tensor>(bias));
    if (w_lambda) {
      float* to = y.mutable_data_ptr<float>();
      const float* shift = bias.const_data_ptr<float>();
      for (int64_t pixel = y.size(2) * y.size(3); pixel > 0; --pixel, to += outputs)
        for (int64_t o = 0; o < outputs; ++o) to[o] = to[o] * scales[o] + shift[o];
    }
    const Tensor pixels = x.slice(2, 0, std::nullopt, stride[0]).slice(3, 0, std::nullopt, stride[1]);
    const Tensor small = at::addmm(latent_bias, pixels.permute({0, 2, 3, 1}).reshape({-1, channels}), q.t());
    y.permute({0, 2, 3, 1}).view({-1, outputs}).addmm_(at::mm(small, phi.t()), p.t());
  }
  finish(y, activation, false);
  return y;
}

}  // namespace

TORCH_LIBRARY(pose, library) {
  library.def(
      "dynamic_conv2d(Tensor x, Tensor? averages, Tensor? w1, Tensor? b1, Tensor w2, Tensor b2, Tensor bank, Tensor bias, "
      "Tensor? biases, int[2] size, int[2] stride, int[2] padding, int[2] dilation, int groups, int activation, "
      "bool wants_averages) -> (Tensor, Tensor)");
  library.def(
      "dcd_conv2d(Tensor x, Tensor w_reduce, Tensor w_gate, Tensor? w_lambda, Tensor w_phi, Tensor weight, Tensor p, "
      "Tensor q, Tensor latent_bias, Tensor bias, int pool_size, int[2] stride, bool assemble, int activation) "
      "-> Tensor");
}

TORCH_LIBRARY_IMPL(pose, CPU, library) {
  library.impl("dynamic_conv2d", &dynamic_conv2d);
  library.impl("dcd_conv2d", &dcd_conv2d);
}
