// Depthwise convolution of a training step on a CPU, forward and backward: 3 x 3 or 5 x 5, stride 1 or 2, one kernel
// for all images or one for each. Images are channels_last, products float32; every image is a thread's.

#include <torch/library.h>

#include <optional>
#include <tuple>
#include <type_traits>

#include "depthwise_rows.h"
#include "written.h"

namespace {

using namespace pose;

struct Sides {
  int64_t height, width, channels, rows, columns;  // of the image and of the answer
};

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
void with_kernel(int64_t size, int64_t stride, const Run& run) {
  using std::integral_constant;
  TORCH_CHECK((size == 3 || size == 5) && (stride == 1 || stride == 2), "kernels are 3 x 3 or 5 x 5, strides 1 or 2");
  if (size == 3 && stride == 1) return run(integral_constant<int, 3>{}, integral_constant<int, 1>{});
  if (size == 3) return run(integral_constant<int, 3>{}, integral_constant<int, 2>{});
  if (stride == 1) return run(integral_constant<int, 5>{}, integral_constant<int, 1>{});
  return run(integral_constant<int, 5>{}, integral_constant<int, 2>{});
}

Sides sides_of(const Tensor& x, int64_t stride) {
  return {x.size(2), x.size(3), x.size(1), (x.size(2) - 1) / stride + 1, (x.size(3) - 1) / stride + 1};
}

// The rows of an image or a gradient that are needed at a time, read from above to below, with zeros on both sides.
template <typename Source>
class Ring {
 public:
  Ring(const Source& source, int64_t height, int64_t width, int64_t channels, int64_t zeros)
      : source_(source), height_(height), width_(width), inside_(zeros * channels), size_((width + 2 * zeros) * channels),
        values_((kRows + 1) * size_, 0.0f) {}

  void begin(int64_t n) { n_ = n, done_ = 0; }

  void until(int64_t stop) {
    for (; done_ < std::min(stop, height_); ++done_)
      source_.read(n_, done_ * width_, width_, Place{values_.data() + done_ % kRows * size_ + inside_, false});
  }

  // A row from its zeros on, one of zeros where there is none.
  const float* row(int64_t y) const { return values_.data() + (y < 0 || y >= height_ ? kRows : y % kRows) * size_; }
  const float* inside(int64_t y) const { return row(y) + inside_; }

 private:
  static constexpr int64_t kRows = 8;  // more than a kernel has
  const Source& source_;
  int64_t height_, width_, inside_, size_, n_ = 0, done_ = 0;
  FloatLines values_;
};

// Depthwise convolution with 'same' padding; kernels (G, C, K, K), G 1 or N. y is in bfloat16 if `half`; with it, if wanted,
// its moments.
std::tuple<Tensor, Tensor> depthwise_forward(const Tensor& input, const std::optional<Tensor>& norm, int64_t activation,
                                             const Tensor& weight, int64_t stride, bool wants_moments, bool half) {
  const Features x(input, norm, activation);
  const Tensor taps = weight.flatten(2).transpose(1, 2).contiguous();  // (G, K K, C)
  const Sides g = sides_of(x.x, stride);
  const Output y({x.images, g.channels, g.rows, g.columns}, x.x, wants_moments, half);
  const int64_t step = taps.size(0) > 1 ? taps.stride(0) : 0;
  const float* kernels = taps.const_data_ptr<float>();
  with_kernel(weight.size(3), stride, [&](auto size, auto jump) {
    constexpr int K = decltype(size)::value, S = decltype(jump)::value;
    at::parallel_for(0, x.images, 1, [&](int64_t begin, int64_t end) {
      Ring ring(x, g.height, g.width, g.channels, K / 2);
      for (int64_t n = begin; n < end; ++n) {
        ring.begin(n);
        Output::Image image(y, n);
        for (int64_t row = 0; row < g.rows; ++row) {
          const int64_t top = row * S - K / 2;
          ring.until(top + K);
          float* to = image.block(row * g.columns, g.columns);
          by_block(g.channels, [&](auto value, int64_t c) {
            const float* rows[K];
            for (int i = 0; i < K; ++i) rows[i] = ring.row(top + i) + c;
            convolve_row<K, S, decltype(value)>(rows, kernels + n * step + c, g.channels, g.columns, to + c);
          });
          image.done(row * g.columns, g.columns, to);
        }
        image.end();
      }
    });
  });
  return {y.y, y.moments};
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
  const Sides g = sides_of(x.x, stride);
  const int64_t images = x.images, count = taps.size(1) * g.channels, step = taps.size(0) > 1 ? count : 0;
  const InputGradient grad_x(x);
  Tensor grad_taps = plain({images, taps.size(1), g.channels}, x.x).zero_();
  const float* kernels = taps.const_data_ptr<float>();
  float* to_taps = grad_taps.mutable_data_ptr<float>();
  with_kernel(weight.size(3), stride, [&](auto size, auto jump) {
    constexpr int K = decltype(size)::value, S = decltype(jump)::value;
    at::parallel_for(0, images, 1, [&](int64_t begin, int64_t end) {
      FloatLines values;
      InputGradient::Writer writer(grad_x);
      Ring ring(above, g.rows, g.columns, g.channels, K / 2);
      for (int64_t n = begin; n < end; ++n) {
        writer.begin(n), ring.begin(n);
        for (int64_t row = 0; row < g.height; ++row) {
          const int64_t low = row + K / 2, first = row * g.width;
          ring.until(low / S + 1);
          const float* image = x.read(n, first, g.width, values);
          float* to = writer.block(n, first, g.width);
          by_block(g.channels, [&](auto value, int64_t c) {
            const float* rows[K];
            for (int i = 0; i < K; ++i) rows[i] = ring.inside((low - i - (S - 1) * (low < i)) / S) + c;
            const auto back = [&](auto phase) {
              convolve_back_row<K, S, decltype(phase)::value, decltype(value)>(rows, image + c, kernels + n * step + c,
                                                                               g.channels, g.width, to + c,
                                                                               to_taps + n * count + c);
            };
            if (low % S == 0) back(std::integral_constant<int, 0>{});
            if constexpr (S == 2)
              if (low % S) back(std::integral_constant<int, 1>{});
          });
          writer.done(n, first, g.width, to);
        }
        writer.end();
      }
    });
  });
  if (weight.size(0) == 1) grad_taps = grad_taps.sum(0, true);
  return {grad_x.grad, grad_taps.transpose(1, 2).contiguous().view(weight.sizes()), grad_x.sums};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(pose_training, library) {
  library.def(
      "depthwise_forward(Tensor x, Tensor? norm, int activation, Tensor weight, int stride, bool wants_moments, "
      "bool half) -> (Tensor, Tensor)");
  library.def(
      "depthwise_backward(Tensor grad, Tensor? shares, Tensor y, Tensor? y_norm, Tensor? y_slopes, int y_activation, "
      "Tensor x, Tensor? norm, int activation, Tensor weight, int stride) -> (Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(pose_training, CPU, library) {
  library.impl("depthwise_forward", &depthwise_forward);
  library.impl("depthwise_backward", &depthwise_backward);
}
