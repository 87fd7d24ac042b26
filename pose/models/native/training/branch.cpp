// The dynamic branch of decomposed convolution in a training step on a CPU, forward and backward: averages over parts of an
// image, Lambda and Phi of them, and the kernels of depthwise layers.

#include <ATen/TensorOperators.h>
#include <ATen/ops/baddbmm.h>
#include <torch/library.h>

#include <tuple>
#include <vector>

#include "lanes.h"
#include "tensors.h"

namespace {

using namespace pose;
using at::Tensor;

// Calls `run(n, part, row, column, columns, share)` for each row of the parts of image n, whose pixels count `share` each:
// parts as torch's adaptive pooling has them, which overlap where they do not divide the sides.
template <typename Run>
void each_part(int64_t height, int64_t width, int64_t parts, const Run& run) {
  const auto begin = [&](int64_t i, int64_t size) { return i * size / parts; };
  const auto end = [&](int64_t i, int64_t size) { return ((i + 1) * size + parts - 1) / parts; };
  for (int64_t i = 0; i < parts; ++i)
    for (int64_t j = 0; j < parts; ++j) {
      const int64_t top = begin(i, height), bottom = end(i, height), left = begin(j, width), right = end(j, width);
      for (int64_t row = top; row < bottom; ++row)
        run(i * parts + j, row * width + left, right - left, 1.0f / ((bottom - top) * (right - left)));
    }
}

// Averages (N, C parts parts) over parts of an image.
Tensor pool_parts(const Tensor& input, int64_t parts) {
  const Tensor x = last(input);
  const int64_t channels = x.size(1), height = x.size(2), width = x.size(3), count = parts * parts;
  Tensor averages = plain({x.size(0), channels * count}, x).zero_();
  const float* from = x.const_data_ptr<float>();
  float* out = averages.mutable_data_ptr<float>();
  at::parallel_for(0, x.size(0), 1, [&](int64_t begin, int64_t end) {
    std::vector<float> sum(channels);
    for (int64_t n = begin; n < end; ++n)
      each_part(height, width, parts, [&](int64_t part, int64_t first, int64_t columns, float share) {
        std::fill(sum.begin(), sum.end(), 0.0f);
        const float* values = from + (n * height * width + first) * channels;
        for (int64_t column = 0; column < columns; ++column, values += channels)
          for (int64_t c = 0; c < channels; ++c) sum[c] += values[c];
        for (int64_t c = 0; c < channels; ++c) out[(n * channels + c) * count + part] += share * sum[c];
      });
  });
  return averages;
}

// Adds the gradient of the averages to that of the image, which is channels_last.
void pool_parts_backward(const Tensor& grad_x, const Tensor& grad, int64_t parts) {
  const int64_t channels = grad_x.size(1), height = grad_x.size(2), width = grad_x.size(3), count = parts * parts;
  const Tensor averages = grad.contiguous();
  const float* from = averages.const_data_ptr<float>();
  float* out = grad_x.mutable_data_ptr<float>();
  at::parallel_for(0, grad_x.size(0), 1, [&](int64_t begin, int64_t end) {
    std::vector<float> own(channels);
    for (int64_t n = begin; n < end; ++n)
      each_part(height, width, parts, [&](int64_t part, int64_t first, int64_t columns, float share) {
        for (int64_t c = 0; c < channels; ++c) own[c] = share * from[(n * channels + c) * count + part];
        float* values = out + (n * height * width + first) * channels;
        for (int64_t column = 0; column < columns; ++column, values += channels)
          for (int64_t c = 0; c < channels; ++c) values[c] += own[c];
      });
  });
}

// A hard sigmoid from 0 to 2, and its derivative.
Tensor hard_sigmoid(const Tensor& x) { return (x + 3).clamp_(0, 6).div_(3); }
Tensor hard_slope(const Tensor& x) { return (x > -3).logical_and_(x < 3).to(at::kFloat).div_(3); }

// Lambda (N, C_out) and Phi - I (N, L L) from averages, and what the backward pass wants.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> branch_forward(const Tensor& averages, const Tensor& reduce,
                                                                  const Tensor& gate, const Tensor& to_lambda,
                                                                  const Tensor& to_phi) {
  const Tensor reduced = averages.mm(reduce.t()), gates = reduced.mm(gate.t());
  const Tensor hidden = reduced * hard_sigmoid(gates), open = hidden.mm(to_lambda.t());
  return {hard_sigmoid(open), hidden.mm(to_phi.t()), reduced, gates, open};
}

// The gradients of the averages and of the four matrices.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> branch_backward(const Tensor& grad_scale, const Tensor& grad_phi,
                                                                   const Tensor& averages, const Tensor& reduce,
                                                                   const Tensor& gate, const Tensor& to_lambda,
                                                                   const Tensor& to_phi, const Tensor& reduced,
                                                                   const Tensor& gates, const Tensor& open) {
  const Tensor through = hard_sigmoid(gates), hidden = reduced * through, before = grad_scale * hard_slope(open);
  const Tensor grad_hidden = before.mm(to_lambda).addmm_(grad_phi, to_phi);
  const Tensor grad_gates = grad_hidden * reduced * hard_slope(gates);
  const Tensor grad_reduced = (grad_hidden * through).addmm_(grad_gates, gate);
  return {grad_reduced.mm(reduce), grad_reduced.t().mm(averages), grad_gates.t().mm(reduced), before.t().mm(hidden),
          grad_phi.t().mm(hidden)};
}

// Kernels (N, C, 1, K, K) of depthwise layers: Lambda W + P (Phi R); and Phi R (N, L, K K).
std::tuple<Tensor, Tensor> depthwise_kernels(const Tensor& weight, const Tensor& p, const Tensor& r, const Tensor& scale,
                                             const Tensor& phi) {
  const int64_t images = scale.size(0), channels = p.size(0), count = r.size(1);
  const Tensor mixed = at::baddbmm(r.unsqueeze(0).expand({images, -1, -1}), phi, r.unsqueeze(0).expand({images, -1, -1}));
  const Tensor own = weight.reshape({1, channels, count}) * scale.unsqueeze(2);
  const Tensor kernels = own.baddbmm_(p.unsqueeze(0).expand({images, -1, -1}), mixed);
  return {kernels.view({images, channels, 1, weight.size(2), weight.size(3)}), mixed};
}

// The gradients of weight, P, R, Lambda and Phi.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> depthwise_kernels_backward(const Tensor& grad, const Tensor& weight,
                                                                             const Tensor& p, const Tensor& r,
                                                                             const Tensor& scale, const Tensor& phi,
                                                                             const Tensor& mixed) {
  const int64_t images = scale.size(0), channels = p.size(0), count = r.size(1), size = r.size(0);
  const Tensor own = grad.reshape({images, channels, count}), kernel = weight.reshape({1, channels, count});
  const Tensor rows = own.transpose(0, 1).reshape({channels, images * count});  // as one image
  const Tensor grad_p = rows.mm(mixed.transpose(1, 2).reshape({images * count, size}));
  const Tensor inner = p.t().mm(rows).view({size, images, count}).transpose(0, 1);
  const Tensor grad_r = inner.sum(0) + phi.transpose(1, 2).bmm(inner).sum(0);
  return {(own * scale.unsqueeze(2)).sum(0).view(weight.sizes()), grad_p, grad_r, (own * kernel).sum(2),
          inner.bmm(r.t().unsqueeze(0).expand({images, -1, -1}))};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(pose_training, library) {
  library.def("pool_parts(Tensor x, int parts) -> Tensor");
  library.def("pool_parts_backward(Tensor(a!) grad_x, Tensor grad, int parts) -> ()");
  library.def(
      "branch_forward(Tensor averages, Tensor reduce, Tensor gate, Tensor to_lambda, Tensor to_phi) "
      "-> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  library.def(
      "branch_backward(Tensor grad_scale, Tensor grad_phi, Tensor averages, Tensor reduce, Tensor gate, Tensor to_lambda, "
      "Tensor to_phi, Tensor reduced, Tensor gates, Tensor open) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  library.def("depthwise_kernels(Tensor weight, Tensor p, Tensor r, Tensor scale, Tensor phi) -> (Tensor, Tensor)");
  library.def(
      "depthwise_kernels_backward(Tensor grad, Tensor weight, Tensor p, Tensor r, Tensor scale, Tensor phi, Tensor mixed) "
      "-> (Tensor, Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(pose_training, CPU, library) {
  library.impl("pool_parts", &pool_parts);
  library.impl("pool_parts_backward", &pool_parts_backward);
  library.impl("branch_forward", &branch_forward);
  library.impl("branch_backward", &branch_backward);
  library.impl("depthwise_kernels", &depthwise_kernels);
  library.impl("depthwise_kernels_backward", &depthwise_kernels_backward);
}
