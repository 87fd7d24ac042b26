// Batch normalisation with its activation in a training step on a CPU, forward and backward, and averages over pixels: what
// a convolution neither counts nor applies itself.
//
// Images are channels_last. Every image is a thread's, and sums over images are added up in their order: the
// results do not depend on the number of threads.

#include <ATen/TensorOperators.h>
#include <torch/library.h>

#include <cmath>
#include <optional>
#include <tuple>
#include <vector>

#include "written.h"

namespace {

using namespace pose;

template <typename Run>
void each_image(int64_t images, const Run& run) {
  at::parallel_for(0, images, 1, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) run(n);
  });
}

// Each image's mean and squares around it, (N, 2, C).
Tensor moments(const Tensor& input) {
  const Features x(input);
  const Output found(x.x.sizes(), x.x);
  each_image(x.images, [&](int64_t n) {
    Output::Image own(found, n);
    own.add(static_cast<const float*>(x.raw(n, 0).values), x.pixels);
    own.end();
  });
  return found.moments;
}

// A batch's normalisation (4, C) from those; moves the running statistics.
Tensor norm_of(const Tensor& moments, int64_t pixels, const Tensor& weight, const Tensor& bias, const Tensor& running_mean,
               const Tensor& running_var, double momentum, double eps) {
  const int64_t images = moments.size(0), channels = moments.size(2);
  const double count = static_cast<double>(images * pixels);
  const double* parts = moments.const_data_ptr<double>();
  const std::vector<double> sums = added_up(moments);
  Tensor norm = plain({4, channels}, weight);
  float *to = norm.mutable_data_ptr<float>(), *running = running_mean.mutable_data_ptr<float>();
  float* variances = running_var.mutable_data_ptr<float>();
  const float *weights = weight.const_data_ptr<float>(), *biases = bias.const_data_ptr<float>();
  std::vector<double> squares(sums.begin() + channels, sums.end());
  for (int64_t n = 0; n < images; ++n, parts += 2 * channels)
    for (int64_t c = 0; c < channels; ++c) {
      const double apart = parts[c] - sums[c] / images;
      squares[c] += apart * apart * pixels;
    }
  for (int64_t c = 0; c < channels; ++c) {
    const double mean = sums[c] / images, inverse = 1.0 / std::sqrt(squares[c] / count + eps), factor = weights[c] * inverse;
    to[c] = factor, to[channels + c] = biases[c] - mean * factor;
    to[2 * channels + c] = mean, to[3 * channels + c] = inverse;
    running[c] = momentum * mean + (1 - momentum) * running[c];
    variances[c] = momentum * squares[c] / (count - 1) + (1 - momentum) * variances[c];
  }
  return norm;
}

// g(norm(x)) + shortcut, and the averages (N, C) of that, empty if not wanted.
std::tuple<Tensor, Tensor> normalize(const Tensor& input, const Tensor& norm, int64_t activation,
                                     const std::optional<Tensor>& shortcut, bool wants_averages) {
  const Features x(input, norm, activation);
  const Tensor added = shortcut ? last(*shortcut) : Tensor();
  Tensor y = at::empty(x.x.sizes(), x.x.options().dtype(at::kFloat), at::MemoryFormat::ChannelsLast);
  Tensor averages = plain({wants_averages ? x.images : 0, x.channels}, x.x);
  each_image(x.images, [&](int64_t n) {
    float* const out = y.mutable_data_ptr<float>() + n * x.pixels * x.channels;
    const float* const more = shortcut ? added.const_data_ptr<float>() + n * x.pixels * x.channels : nullptr;
    std::vector<double> pooled(x.channels);
    Sums<1> sum(x.rows);
    sum.to = pooled.data();
    const int64_t block = std::max<int64_t>(kPassValues / x.channels / x.rows.together, 1) * x.rows.together;
    each_block(x.pixels, block, [&](int64_t first, int64_t some) {
      float* to = out + first * x.channels;
      x.read(n, first, some, Place{to, false});
      if (more) add_rows(x.rows, more + first * x.channels, some, to);
      if (wants_averages) sum_rows(x.rows, to, some, sum);
    });
    sum.fold();
    float* const means = averages.mutable_data_ptr<float>() + n * x.channels;
    for (int64_t c = 0; c < x.channels && wants_averages; ++c) means[c] = pooled[c] / x.pixels;
  });
  return {y, averages};
}

// From the gradient of g(norm(x)), and shares (N, C) that are added to each pixel's, the sums (2, C) of Features::count.
Tensor norm_sums(const Tensor& grad, const std::optional<Tensor>& shares, const Tensor& input, const Tensor& norm,
                 int64_t activation) {
  const Features x(input, norm, activation);
  const Tensor above = last(grad), more = shares ? shares->contiguous() : Tensor();
  const Tensor parts = x.gradient_sums();
  each_image(x.images, [&](int64_t n) {
    Sums<2> sums(x.rows);
    sums.to = parts.mutable_data_ptr<double>() + n * 2 * x.channels;
    x.count(n, 0, x.pixels, above.const_data_ptr<float>() + n * x.pixels * x.channels,
            shares ? more.const_data_ptr<float>() + n * x.channels : nullptr, sums);
    sums.fold();
  });
  return parts;
}

// From the sums (N, 2, C) of gradients the gradients of weight and bias, and the slopes (2, C) of Gradient. Shares that
// were not in the sums come with what the derivatives of each image (N, 2, C) are in sum.
std::tuple<Tensor, Tensor, Tensor> norm_slopes(const Tensor& parts, const Tensor& norm, int64_t pixels,
                                               const std::optional<Tensor>& shares, const std::optional<Tensor>& derivatives) {
  const int64_t channels = norm.size(1), images = parts.size(0);
  std::vector<double> sums = added_up(parts);
  if (shares && derivatives) {
    const Tensor added = shares->contiguous();
    const float* more = added.const_data_ptr<float>();
    const double* steep = derivatives->const_data_ptr<double>();
    for (int64_t row = 0; row < 2 * images; ++row, steep += channels)
      for (int64_t c = 0; c < channels; ++c)
        sums[row % 2 * channels + c] += more[row / 2 * channels + c] * steep[c];
  }
  Tensor grad_weight = plain({channels}, norm), grad_bias = plain({channels}, norm), slopes = plain({2, channels}, norm);
  const float *factors = norm.const_data_ptr<float>(), *inverses = factors + 3 * channels;
  float *to_weight = grad_weight.mutable_data_ptr<float>(), *to_bias = grad_bias.mutable_data_ptr<float>();
  float* to = slopes.mutable_data_ptr<float>();
  const double count = static_cast<double>(images * pixels);
  for (int64_t c = 0; c < channels; ++c) {
    const double along = sums[channels + c] * inverses[c];
    to_weight[c] = along, to_bias[c] = sums[c];
    to[c] = -factors[c] * along * inverses[c] / count, to[channels + c] = -factors[c] * sums[c] / count;
  }
  return {grad_weight, grad_bias, slopes};
}

// The gradient of x from that of g(norm(x)).
Tensor norm_backward(const Tensor& grad, const std::optional<Tensor>& shares, const Tensor& x, const Tensor& norm,
                     const Tensor& slopes, int64_t activation) {
  const Gradient above(grad, shares, x, norm, slopes, activation);
  const Tensor grad_x = at::empty_like(above.y.x);
  const int64_t pixels = above.y.pixels, values = pixels * above.y.channels;
  each_image(above.y.images, [&](int64_t n) { above.read(n, 0, pixels, place(grad_x).from(n * values)); });
  return grad_x;
}

// Averages (N, C) of an image's channels and, of normalised ones, the sums of their derivatives and of these times x - mean,
// (N, 2, C), else nothing.
std::tuple<Tensor, Tensor> pool(const Tensor& input, const std::optional<Tensor>& norm, int64_t activation) {
  const Features x(input, norm, activation);
  Tensor averages = plain({x.images, x.channels}, x.x), derivatives = x.gradient_sums();
  each_image(x.images, [&](int64_t n) {
    std::vector<double> found(3 * x.channels);
    if (x.normalizes()) {
      Sums<3> sums(x.rows);
      sums.to = found.data();
      pool_rows(x.rows, x.own, x.raw(n, 0), x.pixels, sums);
      sums.fold();
      std::copy(found.begin() + x.channels, found.end(), derivatives.mutable_data_ptr<double>() + n * 2 * x.channels);
    } else {
      Sums<1> sum(x.rows);
      sum.to = found.data();
      sum_rows(x.rows, static_cast<const float*>(x.raw(n, 0).values), x.pixels, sum);
      sum.fold();
    }
    float* const means = averages.mutable_data_ptr<float>() + n * x.channels;
    for (int64_t c = 0; c < x.channels; ++c) means[c] = found[c] / x.pixels;
  });
  return {averages, derivatives};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(pose_training, library) {
  library.def("moments(Tensor x) -> Tensor");
  library.def(
      "norm_of(Tensor moments, int pixels, Tensor weight, Tensor bias, Tensor(a!) running_mean, Tensor(b!) running_var, "
      "float momentum, float eps) -> Tensor");
  library.def(
      "normalize(Tensor x, Tensor norm, int activation, Tensor? shortcut, bool wants_averages) -> (Tensor, Tensor)");
  library.def("norm_sums(Tensor grad, Tensor? shares, Tensor x, Tensor norm, int activation) -> Tensor");
  library.def(
      "norm_slopes(Tensor sums, Tensor norm, int pixels, Tensor? shares, Tensor? derivatives) -> (Tensor, Tensor, Tensor)");
  library.def(
      "norm_backward(Tensor grad, Tensor? shares, Tensor x, Tensor norm, Tensor slopes, int activation) -> Tensor");
  library.def("pool(Tensor x, Tensor? norm, int activation) -> (Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(pose_training, CPU, library) {
  library.impl("moments", &moments);
  library.impl("norm_of", &norm_of);
  library.impl("normalize", &normalize);
  library.impl("norm_sums", &norm_sums);
  library.impl("norm_slopes", &norm_slopes);
  library.impl("norm_backward", &norm_backward);
  library.impl("pool", &pool);
}
