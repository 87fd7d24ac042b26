// Depthwise convolution of a training step on a CPU, forward and backward: 3 x 3 or 5 x 5, stride 1 or 2, one kernel
// for all images or one for each. Images are channels_last float32; every image is a thread's.

#include <torch/library.h>

#include <optional>
#include <tuple>
#include <type_traits>

#include "normalized.h"

namespace {

using namespace pose;

struct Geometry {
  int64_t height, width, channels, rows, columns;  // of the image and of the answer
};

// One row of the answer: a K x K kernel, stride S, padding K / 2; `taps` are (K K, C).
template <int K, int S, typename Value>
void convolve_row(const Geometry& g, const float* image, const float* taps, int64_t row, float* out) {
  Value kernel[K * K];
  for (int i = 0; i < K * K; ++i) kernel[i] = load<Value>(taps + i * g.channels);
  const int64_t top = row * S - K / 2;
  const auto at = [&](int64_t y, int64_t x) { return load<Value>(image + (y * g.width + x) * g.channels); };
  for (int64_t column = 0; column < g.columns; ++column, out += g.channels) {
    const int64_t left = column * S - K / 2;
    Value sum = Value{};
    if (top >= 0 && top + K <= g.height && left >= 0 && left + K <= g.width) {
#pragma GCC unroll 25
      for (int i = 0; i < K * K; ++i) sum += kernel[i] * at(top + i / K, left + i % K);
    } else {
#pragma GCC unroll 25
      for (int i = 0; i < K * K; ++i) {
        const int64_t y = top + i / K, x = left + i % K;
        if (y >= 0 && y < g.height && x >= 0 && x < g.width) sum += kernel[i] * at(y, x);
      }
    }
    store(out, sum);
  }
}

// One row of the image's gradient, and what the row adds to the kernel's, (K K, C): both need the same gradients. Of image
// and its gradient it gets this row.
template <int K, int S, typename Value>
void convolve_back_row(const Geometry& g, const float* grad, const float* image, const float* taps, int64_t row,
                       float* grad_image, float* grad_taps) {
  Value kernel[K * K], sums[K * K] = {};
  for (int i = 0; i < K * K; ++i) kernel[i] = load<Value>(taps + i * g.channels);
  const int64_t low = row + K / 2;
  const auto at = [&](int64_t y, int64_t x) { return load<Value>(grad + (y * g.columns + x) * g.channels); };
  for (int64_t column = 0; column < g.width; ++column) {
    const int64_t right = column + K / 2, place = column * g.channels;
    const Value value = load<Value>(image + place);
    Value sum = Value{};
    if (S == 1 && low >= K - 1 && low < g.rows && right >= K - 1 && right < g.columns) {
#pragma GCC unroll 25
      for (int i = 0; i < K * K; ++i) {
        const Value above = at(low - i / K, right - i % K);
        sum += kernel[i] * above;
        sums[i] += value * above;
      }
    } else {
#pragma GCC unroll 25
      for (int i = 0; i < K * K; ++i) {
        const int64_t y = low - i / K, x = right - i % K;
        if (y < 0 || x < 0 || y % S || x % S || y / S >= g.rows || x / S >= g.columns) continue;
        const Value above = at(y / S, x / S);
        sum += kernel[i] * above;
        sums[i] += value * above;
      }
    }
    store(grad_image + place, sum);
  }
  for (int i = 0; i < K * K; ++i) {
    float* to = grad_taps + i * g.channels;
    store(to, load<Value>(to) + sums[i]);
  }
}

// Calls `run(Value, c)` for blocks of channels.
template <typename Run>
void by_block(int64_t channels, const Run& run) {
  int64_t c = 0;
  for (; c + kLanes <= channels; c += kLanes) run(Lanes{}, c);
  if constexpr (kLanes > 8)
    for (; c + 8 <= channels; c += 8) run(Eight{}, c);
  for (; c < channels; ++c) run(float{}, c);
}

// Calls `run` with kernel size and stride as constants of the compiler's.
template <typename Run>
void with_geometry(int64_t size, int64_t stride, const Run& run) {
  using std::integral_constant;
  TORCH_CHECK((size == 3 || size == 5) && (stride == 1 || stride == 2), "kernels are 3 x 3 or 5 x 5, strides 1 or 2");
  if (size == 3 && stride == 1) return run(integral_constant<int, 3>{}, integral_constant<int, 1>{});
  if (size == 3) return run(integral_constant<int, 3>{}, integral_constant<int, 2>{});
  if (stride == 1) return run(integral_constant<int, 5>{}, integral_constant<int, 1>{});
  return run(integral_constant<int, 5>{}, integral_constant<int, 2>{});
}

Geometry geometry_of(const Tensor& x, int64_t stride) {
  return {x.size(2), x.size(3), x.size(1), (x.size(2) - 1) / stride + 1, (x.size(3) - 1) / stride + 1};
}

// Rows of an image or a gradient, read from above to below and no earlier than they are needed.
template <typename Source>
class Falling {
 public:
  Falling(const Source& source, int64_t n, int64_t width, int64_t channels, std::vector<float>& scratch)
      : source_(source), n_(n), width_(width), channels_(channels), scratch_(scratch) {}

  // The whole, of which there are the rows above `stop`.
  const float* until(int64_t stop) {
    if (scratch_.empty()) return source_.read(n_, 0, 0, nullptr);
    if (stop > done_)
      source_.read(n_, done_ * width_, (stop - done_) * width_, scratch_.data() + done_ * width_ * channels_);
    done_ = std::max(done_, stop);
    return scratch_.data();
  }

 private:
  const Source& source_;
  int64_t n_, width_, channels_, done_ = 0;
  std::vector<float>& scratch_;
};

// Depthwise convolution with 'same' padding; kernels (G, C, K, K), G 1 or N. With it, if wanted, the moments of y.
std::tuple<Tensor, Tensor> depthwise_forward(const Tensor& input, const std::optional<Tensor>& norm, int64_t activation,
                                             const Tensor& weight, int64_t stride, bool wants_moments) {
  const Features x(input, norm, activation);
  const Tensor taps = weight.flatten(2).transpose(1, 2).contiguous();  // (G, K K, C)
  const Geometry g = geometry_of(x.x, stride);
  Tensor y = at::empty({x.images, g.channels, g.rows, g.columns}, x.x.options(), at::MemoryFormat::ChannelsLast);
  const Moments moments(y, wants_moments);
  const int64_t step = taps.size(0) > 1 ? taps.stride(0) : 0;
  const float* kernels = taps.const_data_ptr<float>();
  float* out = y.mutable_data_ptr<float>();
  with_geometry(weight.size(3), stride, [&](auto size, auto jump) {
    constexpr int K = decltype(size)::value, S = decltype(jump)::value;
    at::parallel_for(0, x.images, 1, [&](int64_t begin, int64_t end) {
      std::vector<float> scratch(x.scratch(x.pixels));
      for (int64_t n = begin; n < end; ++n) {
        Falling image(x, n, g.width, g.channels, scratch);
        Moments::Image counted(moments, n);
        for (int64_t row = 0; row < g.rows; ++row) {
          const float* from = image.until(std::min(row * S + K / 2 + 1, g.height));
          float* to = out + (n * g.rows + row) * g.columns * g.channels;
          ask_for(to, g.columns * g.channels);
          by_block(g.channels, [&](auto value, int64_t c) {
            convolve_row<K, S, decltype(value)>(g, from + c, kernels + n * step + c, row, to + c);
          });
          counted.add(to, g.columns);
        }
        counted.finish();
      }
    });
  });
  return {y, moments.parts};
}

// The gradients of images and kernels, and the sums of the images' normalisation.
std::tuple<Tensor, Tensor, Tensor> depthwise_backward(const Tensor& grad, const std::optional<Tensor>& shares,
                                                      const Tensor& y, const std::optional<Tensor>& y_norm,
                                                      const std::optional<Tensor>& y_slopes, int64_t y_activation,
                                                      const Tensor& input, const std::optional<Tensor>& norm,
                                                      int64_t activation, const Tensor& weight, int64_t stride) {
  const Features x(input, norm, activation);
  const Gradient above(grad, shares, y, y_norm, y_slopes, y_activation);
  const Tensor taps = weight.flatten(2).transpose(1, 2).contiguous();
  const Geometry g = geometry_of(x.x, stride);
  const int64_t images = x.images, count = taps.size(1) * g.channels, step = taps.size(0) > 1 ? count : 0;
  Tensor grad_x = at::empty_like(x.x), grad_taps = plain({images, taps.size(1), g.channels}, x.x).zero_();
  const Tensor sums = x.gradient_sums();
  const float* kernels = taps.const_data_ptr<float>();
  float *out = grad_x.mutable_data_ptr<float>(), *to_taps = grad_taps.mutable_data_ptr<float>();
  with_geometry(weight.size(3), stride, [&](auto size, auto jump) {
    constexpr int K = decltype(size)::value, S = decltype(jump)::value;
    at::parallel_for(0, images, 1, [&](int64_t begin, int64_t end) {
      std::vector<float> gradients(above.scratch(above.y.pixels)), values(x.scratch(g.width));
      Sums<2> own(x.rows);
      for (int64_t n = begin; n < end; ++n) {
        if (x.normalizes()) own.to = sums.mutable_data_ptr<double>() + n * 2 * g.channels;
        Falling upper(above, n, g.columns, g.channels, gradients);
        for (int64_t row = 0; row < g.height; ++row) {
          const float* up = upper.until(std::min((row + K / 2) / S + 1, g.rows));
          const float* image = x.read(n, row * g.width, g.width, values.data());
          float* to = out + (n * g.height + row) * g.width * g.channels;
          ask_for(to, g.width * g.channels);
          by_block(g.channels, [&](auto value, int64_t c) {
            convolve_back_row<K, S, decltype(value)>(g, up + c, image + c, kernels + n * step + c, row, to + c,
                                                     to_taps + n * count + c);
          });
          if (x.normalizes()) x.count(n, row * g.width, g.width, to, nullptr, own);
        }
        own.fold();
      }
    });
  });
  if (weight.size(0) == 1) grad_taps = grad_taps.sum(0, true);
  return {grad_x, grad_taps.transpose(1, 2).contiguous().view(weight.sizes()), sums};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(pose_training, library) {
  library.def(
      "depthwise_forward(Tensor x, Tensor? norm, int activation, Tensor weight, int stride, bool wants_moments) "
      "-> (Tensor, Tensor)");
  library.def(
      "depthwise_backward(Tensor grad, Tensor? shares, Tensor y, Tensor? y_norm, Tensor? y_slopes, int y_activation, "
      "Tensor x, Tensor? norm, int activation, Tensor weight, int stride) -> (Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(pose_training, CPU, library) {
  library.impl("depthwise_forward", &depthwise_forward);
  library.impl("depthwise_backward", &depthwise_backward);
}
