// The way back of decomposed.cpp.
//
// Each image is read twice, before and after the gradients of its matrix and shift (latent.h) are known.

#include <torch/library.h>

#include <optional>
#include <tuple>
#include <vector>

#include "decomposed_layer.h"

namespace {

using namespace pose;

// What a part of the images adds to the gradients of all images' matrices, in panels.
struct Added {
  FloatLines weight, p, q;
};

// The gradients of x, weight, p, q, scale, phi and norms, and the sums of x's normalisation.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> decomposed_backward(
    const Tensor& grad, const std::optional<Tensor>& shares, const Tensor& y, const std::optional<Tensor>& y_norm,
    const std::optional<Tensor>& y_slopes, int64_t y_activation, const Tensor& x, const std::optional<Tensor>& norm,
    int64_t activation, const Tensor& weight, const Tensor& p, const Tensor& q, const Tensor& scale, const Tensor& phi,
    const std::optional<Tensor>& norms, const Tensor& latent, const Tensor& moments, const Tensor& center, double eps,
    bool in_pairs) {
  Decomposed sizes(Features(x, norm, activation), weight, p, q, scale, phi, norms, in_pairs);
  const Gradient above(grad, shares, y, y_norm, y_slopes, y_activation);
  sizes.moments = moments;
  const int64_t images = sizes.images, pixels = sizes.pixels, ins = sizes.ins, outs = sizes.outs;
  const int64_t size = sizes.size, width = sizes.width, square = size * size, values = panels_size(outs, ins);
  const Latent made = sizes.latent(eps);
  const FloatLines origin = sizes.origin(center);
  const InputGradient grad_x(sizes.x);
  Tensor grad_scale = plain({images, outs}, sizes.like());
  Tensor grad_phi = plain(phi.sizes(), sizes.like()), grad_norms = plain({4, size}, sizes.like());
  Tensor inside = plain({sizes.assembles() ? 0 : images, pixels, width}, sizes.like());  // the gradient of m
  FloatLines back_p(panels_size(outs, size)), back_q, kernel(values);
  WordLines p_words, q_words;
  const Factor leave = factor_of(
      sizes.padded_panels(pack(sizes.p.const_data_ptr<float>(), outs, size, size, 1, back_p.data())), in_pairs, p_words);
  const Factor enter = factor_of(sizes.filled(sizes.q.const_data_ptr<float>(), ins, ins, 1, back_q), in_pairs, q_words);
  pack(sizes.weight.const_data_ptr<float>(), outs, ins, ins, 1, kernel.data());
  const float* lambda = sizes.scale.const_data_ptr<float>();
  const float* u = latent.const_data_ptr<float>();
  float* middle = inside.mutable_data_ptr<float>();
  float* grad_lambda = grad_scale.mutable_data_ptr<float>();
  const int64_t parts = std::min<int64_t>(images, at::get_num_threads());
  std::vector<Added> added(parts);
  Doubles grad_moments(images * (square + size), 0.0);
  const bool early = outs > ins || sizes.assembles();  // the larger of both is read or written once
  const auto scaled = [&](int64_t n, FloatLines& to) {
    each_panel(outs, ins, [&](int64_t, int64_t columns, int64_t place) {
      for (int64_t o = 0; o < outs; ++o)
        for (int64_t i = 0; i < columns; ++i)
          to[place + o * columns + i] = lambda[n * outs + o] * kernel[place + o * columns + i];
    });
    return Panels{outs, ins, to.data()};
  };
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    FloatLines m(pixels * width), packed(size * width), own(values), factors(values), grad_bias(outs);
    WordLines words;
    Scratch read_up, read_x, latents;
    InputGradient::Writer writer(grad_x);
    Assembled kernels = sizes.assembled();
    for (int64_t part = begin; part < end; ++part) {
      Added& sums = added[part];
      sums.weight.assign(values, 0.0f), sums.p.assign(outs * width, 0.0f), sums.q.assign(panels_size(sizes.depth, ins), 0.0f);
      for (int64_t n = part * images / parts; n < (part + 1) * images / parts; ++n) {
        float* inner = middle + n * pixels * width;
        const float *matrix = made.matrices.data() + n * square, *shift = made.shifts.data() + n * size;
        std::fill(own.begin(), own.end(), 0.0f), std::fill(grad_bias.begin(), grad_bias.end(), 0.0f);
        const Panels turned = early ? scaled(n, factors) : Panels{};
        if (sizes.assembles()) {
          kernels.make(matrix, shift, origin.data());
          kernels.add_backward(enter.panels, factors.data());
        } else {
          sizes.middle(made, n, u + n * pixels * width, m.data(), packed);
        }
        const Factor back = early ? factor_of(turned, in_pairs, words) : Factor{};
        each_block(pixels, sizes.block(), [&](int64_t first, int64_t some) {
          const Left up = sizes.assembles() ? above.both(n, first, some, in_pairs, read_up)
                                            : above.left(n, first, some, in_pairs, read_up);
          multiply_outer(up, outs, sizes.x.left(n, first, some, in_pairs, read_x), ins, ins, some, own.data());
          if (sizes.assembles()) {
            for (int64_t pixel = 0; pixel < some; ++pixel)
              for (int64_t o = 0; o < outs; ++o) grad_bias[o] += up.floats[pixel * outs + o];
          } else {
            const Left middles = sizes.latents(m.data() + first * width, some, in_pairs, latents);
            multiply_outer(up, outs, middles, width, width, some, sums.p.data());
            multiply(up, some, leave, inner + first * width, width);
          }
          if (!early) return;
          float* to = writer.block(n, first, some);
          multiply(up, some, back, to, ins);
          writer.keep(n, first, some, to);
        });
        double* grad_moment = grad_moments.data() + n * (square + size);
        if (sizes.assembles())
          kernels.back(own.data(), grad_bias.data(), matrix, shift, origin.data(), grad_moment, sums.p.data(),
                       sums.q.data());
        else
          add_moments(sizes, inner, u + n * pixels * width, grad_moment);
        std::fill_n(grad_lambda + n * outs, outs, 0.0f);
        each_panel(outs, ins, [&](int64_t, int64_t columns, int64_t place) {
          for (int64_t o = 0; o < outs; ++o) {
            float sum = 0.0f;
            for (int64_t i = place + o * columns; i < place + (o + 1) * columns; ++i) {
              sum += own[i] * kernel[i];
              sums.weight[i] += lambda[n * outs + o] * own[i];
            }
            grad_lambda[n * outs + o] += sum;
          }
        });
      }
    }
  });
  Doubles grad_matrices(images * square), grad_shifts(images * size);
  for (int64_t n = 0; n < images; ++n) {
    std::copy_n(grad_moments.data() + n * (square + size), square, grad_matrices.data() + n * square);
    std::copy_n(grad_moments.data() + n * (square + size) + square, size, grad_shifts.data() + n * size);
  }
  FloatLines along, constant;
  made.back(grad_matrices, grad_shifts, grad_phi.mutable_data_ptr<float>(), grad_norms.mutable_data_ptr<float>(), along,
            constant);
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    FloatLines du(pixels * width), left(size * width), right(size * width), factors(values);
    WordLines words;
    Scratch read_up, read_x, latents;
    InputGradient::Writer writer(grad_x);
    for (int64_t part = begin; part < end; ++part)
      for (int64_t n = part * images / parts; n < (part + 1) * images / parts; ++n) {
        writer.begin(n);
        const float* matrix = made.matrices.data() + n * square;
        sizes.fill(constant.data() + n * size, du.data());
        const Panels own = sizes.padded_panels(pack(along.data() + n * square, size, size, size, 1, right.data()));
        if (!sizes.assembles()) {
          const Panels mixed = sizes.padded_panels(pack(matrix, size, size, size, 1, left.data()));
          multiply(middle + n * pixels * width, width, pixels, mixed, du.data(), width, true);
        }
        multiply(u + n * pixels * width, width, pixels, own, du.data(), width, true);
        const Factor turned = early ? Factor{} : factor_of(scaled(n, factors), in_pairs, words);
        each_block(pixels, sizes.block(), [&](int64_t first, int64_t some) {
          const Left rows = sizes.latents(du.data() + first * width, some, in_pairs, latents);
          sizes.multiply_latents_outer(rows, sizes.x.left(n, first, some, in_pairs, read_x), some, added[part].q.data());
          float* to = early ? writer.again(n, first, some) : writer.block(n, first, some);
          if (!early) multiply(above.left(n, first, some, in_pairs, read_up), some, turned, to, ins);
          sizes.multiply_latents(rows, some, enter, to, ins, true);
          writer.done(n, first, some, to);
        });
        writer.end();
      }
  });
  Tensor grad_weight = at::empty_like(sizes.weight), grad_p = at::empty_like(sizes.p);
  Tensor grad_q = plain({sizes.depth, ins}, sizes.like());
  const auto total = [&](FloatLines Added::*which, int64_t rows, int64_t columns, Tensor& to) {
    FloatLines& sum = added[0].*which;
    for (int64_t part = 1; part < parts; ++part)
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += (added[part].*which)[i];
    unpack({rows, columns, sum.data()}, to.mutable_data_ptr<float>());
  };
  total(&Added::weight, outs, ins, grad_weight);
  total(&Added::p, outs, size, grad_p);
  total(&Added::q, sizes.depth, ins, grad_q);
  return {grad_x.grad, grad_weight, grad_p, grad_q.narrow(0, 0, size), grad_scale, grad_phi, grad_norms, grad_x.sums};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(pose_training, library) {
  library.def(
      "decomposed_backward(Tensor grad, Tensor? shares, Tensor y, Tensor? y_norm, Tensor? y_slopes, int y_activation, "
      "Tensor x, Tensor? norm, int activation, Tensor weight, Tensor p, Tensor q, Tensor scale, Tensor phi, "
      "Tensor? norms, Tensor latent, Tensor moments, Tensor center, float eps, bool in_pairs) "
      "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(pose_training, CPU, library) {
  library.impl("decomposed_backward", &decomposed_backward);
}
