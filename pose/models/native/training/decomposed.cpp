// Pointwise decomposed convolution of a training step on a CPU: Lambda W x + P m, m = h + norm_out(Phi h),
// h = norm_in(Q^T x), forward and backward. Images are channels_last float32.
//
// What is L channels wide is one matrix and one shift of an image (latent.h); the backward pass reads each image twice,
// before and after the gradients of these are known. Where an image has many pixels for its channels they go into a kernel
// of its own (assembled.h), elsewhere they are applied to the pixels.

#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <optional>
#include <tuple>
#include <vector>

#include "decomposed_layer.h"

namespace {

using namespace pose;

// y, u (N, H W, width) counted from the origin, its moments (N, L + 1, L), and the batch's means (of u without origin) and
// variances of both normalisations, (4, L) in the order mean, variance, mean, variance.
// At last, if wanted, the moments of y.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> decomposed_forward(
    const Tensor& x, const std::optional<Tensor>& norm, int64_t activation, const Tensor& weight, const Tensor& p,
    const Tensor& q, const Tensor& scale, const Tensor& phi, const std::optional<Tensor>& norms, const Tensor& center,
    double eps, bool wants_moments, bool in_pairs, bool half) {
  Decomposed sizes(Features(x, norm, activation), weight, p, q, scale, phi, norms);
  const int64_t images = sizes.images, pixels = sizes.pixels, ins = sizes.ins, outs = sizes.outs;
  const int64_t size = sizes.size, width = sizes.width;
  const Output y({images, outs, x.size(2), x.size(3)}, sizes.like(), wants_moments, half);
  Tensor latent = plain({images, pixels, width}, sizes.like()), found = plain({4, size}, sizes.like());
  sizes.moments = at::zeros({images, size + 1, size}, sizes.like().options().dtype(at::kDouble).memory_format(std::nullopt));
  FloatLines from(panels_size(ins, size)), to(panels_size(size, outs)), main(panels_size(ins, outs));
  const FloatLines origin = sizes.origin(center);
  const Panels enter = sizes.padded_panels(pack(sizes.q.const_data_ptr<float>(), ins, size, 1, ins, from.data()));
  const Panels leave = pack(sizes.p.const_data_ptr<float>(), size, outs, 1, size, to.data());
  WordLines main_words;
  const Factor kernel =
      factor_of(pack(sizes.weight.const_data_ptr<float>(), ins, outs, 1, ins, main.data()), in_pairs, main_words);
  float* values = latent.mutable_data_ptr<float>();
  double* moments = sizes.moments.mutable_data_ptr<double>();
  at::parallel_for(0, images, 1, [&](int64_t begin, int64_t end) {
    FloatLines scratch;
    for (int64_t n = begin; n < end; ++n) {
      float* u = values + n * pixels * width;
      each_block(pixels, sizes.block(), [&](int64_t first, int64_t some) {
        multiply(sizes.x.read(n, first, some, scratch), ins, some, enter, u + first * width, width);
      });
      for (int64_t pixel = 0; pixel < pixels; ++pixel)
        for (int64_t i = 0; i < width; ++i) u[pixel * width + i] -= origin[i];
      add_moments(sizes, u, u, moments + n * (size + 1) * size);
    }
  });
  const Latent made = sizes.latent(eps);
  for (int64_t i = 0; i < size; ++i) {
    float* row = found.mutable_data_ptr<float>() + i;
    row[0] = made.in.mean[i] + origin[i], row[size] = made.in.variance[i];
    row[2 * size] = made.out.mean[i], row[3 * size] = made.out.variance[i];
  }
  at::parallel_for(0, images, 1, [&](int64_t begin, int64_t end) {
    FloatLines m(pixels * width), packed(size * width), factors(padded(outs)), turned(main.size());
    WordLines words;
    Scratch scratch;
    Factor assembled;
    Assembled own = sizes.assembled();
    for (int64_t n = begin; n < end; ++n) {
      const float* lambda = sizes.scale.const_data_ptr<float>() + n * outs;
      if (sizes.assembles()) {
        own.make(made.matrices.data() + n * size * size, made.shifts.data() + n * size, origin.data());
        each_panel(ins, outs, [&](int64_t first, int64_t columns, int64_t place) {
          for (int64_t i = 0; i < ins; ++i)
            for (int64_t o = 0; o < std::min(columns, outs - first); ++o)
              turned[place + i * columns + o] = lambda[first + o] * main[place + i * columns + o];
        });
        own.add_forward(turned.data());
        assembled = factor_of({ins, outs, turned.data()}, in_pairs, words);
      } else {
        sizes.middle(made, n, values + n * pixels * width, m.data(), packed);
        std::copy_n(lambda, outs, factors.begin());
      }
      Output::Image written(y, n);
      each_block(pixels, sizes.block(), [&](int64_t first, int64_t some) {
        const Left image = sizes.x.left(n, first, some, in_pairs, scratch);
        float* rows = written.block(first, some);
        if (sizes.assembles()) {
          multiply(image, some, assembled, rows, outs, false, nullptr, own.bias.data());
        } else {
          multiply(m.data() + first * width, width, some, leave, rows, outs);
          multiply(image, some, kernel, rows, outs, true, factors.data());
        }
        written.done(first, some, rows);
      });
      written.end();
    }
  });
  return {y.y, latent, sizes.moments, found, y.moments};
}

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
  Decomposed sizes(Features(x, norm, activation), weight, p, q, scale, phi, norms);
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
  FloatLines back_p(panels_size(outs, size)), back_q(panels_size(size, ins)), kernel(values);
  const Panels leave = sizes.padded_panels(pack(sizes.p.const_data_ptr<float>(), outs, size, size, 1, back_p.data()));
  const Panels enter = pack(sizes.q.const_data_ptr<float>(), size, ins, ins, 1, back_q.data());
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
    Scratch read_up, read_x;
    InputGradient::Writer writer(grad_x);
    Assembled kernels = sizes.assembled();
    for (int64_t part = begin; part < end; ++part) {
      Added& sums = added[part];
      sums.weight.assign(values, 0.0f), sums.p.assign(outs * width, 0.0f), sums.q.assign(panels_size(size, ins), 0.0f);
      for (int64_t n = part * images / parts; n < (part + 1) * images / parts; ++n) {
        float* inner = middle + n * pixels * width;
        const float *matrix = made.matrices.data() + n * square, *shift = made.shifts.data() + n * size;
        std::fill(own.begin(), own.end(), 0.0f), std::fill(grad_bias.begin(), grad_bias.end(), 0.0f);
        const Panels turned = early ? scaled(n, factors) : Panels{};
        if (sizes.assembles()) {
          kernels.make(matrix, shift, origin.data());
          kernels.add_backward(enter, factors.data());
        } else {
          sizes.middle(made, n, u + n * pixels * width, m.data(), packed);
        }
        const Factor back = early ? factor_of(turned, in_pairs, words) : Factor{};
        each_block(pixels, sizes.block(), [&](int64_t first, int64_t some) {
          const Left up = above.both(n, first, some, in_pairs, read_up);
          const float* rows = up.floats;
          multiply_outer(up, outs, sizes.x.left(n, first, some, in_pairs, read_x), ins, ins, some, own.data());
          if (sizes.assembles()) {
            for (int64_t pixel = 0; pixel < some; ++pixel)
              for (int64_t o = 0; o < outs; ++o) grad_bias[o] += rows[pixel * outs + o];
          } else {
            multiply_outer(rows, outs, outs, m.data() + first * width, width, width, some, sums.p.data());
            multiply(rows, outs, some, leave, inner + first * width, width);
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
    FloatLines read_x;
    Scratch read_up;
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
          const float* rows = du.data() + first * width;
          multiply_outer(rows, width, size, sizes.x.read(n, first, some, read_x), ins, ins, some, added[part].q.data());
          float* to = early ? writer.again(n, first, some) : writer.block(n, first, some);
          if (!early) multiply(above.left(n, first, some, in_pairs, read_up), some, turned, to, ins);
          multiply(rows, width, some, enter, to, ins, true);
          writer.done(n, first, some, to);
        });
        writer.end();
      }
  });
  Tensor grad_weight = at::empty_like(sizes.weight), grad_p = at::empty_like(sizes.p), grad_q = at::empty_like(sizes.q);
  const auto total = [&](FloatLines Added::*which, int64_t rows, int64_t columns, Tensor& to) {
    FloatLines& sum = added[0].*which;
    for (int64_t part = 1; part < parts; ++part)
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += (added[part].*which)[i];
    unpack({rows, columns, sum.data()}, to.mutable_data_ptr<float>());
  };
  total(&Added::weight, outs, ins, grad_weight);
  total(&Added::p, outs, size, grad_p);
  total(&Added::q, size, ins, grad_q);
  return {grad_x.grad, grad_weight, grad_p, grad_q, grad_scale, grad_phi, grad_norms, grad_x.sums};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(pose_training, library) {
  library.def(
      "decomposed_forward(Tensor x, Tensor? norm, int activation, Tensor weight, Tensor p, Tensor q, Tensor scale, "
      "Tensor phi, Tensor? norms, Tensor center, float eps, bool wants_moments, bool in_pairs, "
      "bool half) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  library.def(
      "decomposed_backward(Tensor grad, Tensor? shares, Tensor y, Tensor? y_norm, Tensor? y_slopes, int y_activation, "
      "Tensor x, Tensor? norm, int activation, Tensor weight, Tensor p, Tensor q, Tensor scale, Tensor phi, "
      "Tensor? norms, Tensor latent, Tensor moments, Tensor center, float eps, bool in_pairs) "
      "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(pose_training, CPU, library) {
  library.impl("decomposed_forward", &decomposed_forward);
  library.impl("decomposed_backward", &decomposed_backward);
}
