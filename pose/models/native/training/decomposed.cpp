// Pointwise decomposed convolution of a training step on a CPU: Lambda W x + P m, m = h + norm_out(Phi h),
// h = norm_in(Q^T x), forward and backward. Images are channels_last float32.
//
// No kernel is made for an image. What is L channels wide is one matrix and one shift of an image (latent.h); the backward
// pass reads each image twice, before and after the gradients of these are known.

#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <optional>
#include <tuple>
#include <vector>

#include "latent.h"
#include "products.h"
#include "tensors.h"

namespace {

using namespace pose;
using at::Tensor;

constexpr int64_t kExact = 512;  // pixels that are added up in float before they go to a double

struct Decomposed {
  Tensor x, weight, p, q, scale, phi, norms, moments;
  int64_t images, pixels, ins, outs, size, width;  // width: of a pixel's latent values, whole vectors

  Decomposed(const Tensor& x_, const Tensor& weight_, const Tensor& p_, const Tensor& q_, const Tensor& scale_,
             const Tensor& phi_, const std::optional<Tensor>& norms_)
      : x(last(x_)), weight(weight_.contiguous()), p(p_.contiguous()), q(q_.contiguous()), scale(scale_.contiguous()),
        phi(phi_.contiguous()), norms(norms_ ? norms_->contiguous() : Tensor()), images(x.size(0)),
        pixels(x.size(2) * x.size(3)), ins(x.size(1)), outs(weight.size(0)), size(p.size(1)), width(padded(size)) {}

  const float* image(int64_t n) const { return x.const_data_ptr<float>() + n * pixels * ins; }
  int64_t block() const { return std::max<int64_t>(kCached / (ins + outs), 4 * kSums); }

  Latent latent(double eps) const {
    Latent made{images, size, pixels, {}, {}, moments.const_data_ptr<double>(), phi.const_data_ptr<float>()};
    made.in.eps = made.out.eps = eps;
    if (norms.defined()) {
      const float* values = norms.const_data_ptr<float>();
      made.in.weight = values, made.in.bias = values + size;
      made.out.weight = values + 2 * size, made.out.bias = values + 3 * size;
    }
    made.make();
    return made;
  }

  // m (pixels, width) of an image's u.
  void middle(const Latent& made, int64_t n, const float* u, float* m, std::vector<float>& packed) const {
    fill(made.shifts.data() + n * size, m);
    multiply(u, width, pixels, padded_panels(pack(made.matrices.data() + n * size * size, size, size, 1, size, packed.data())),
             m, width, true);
  }

  // Every pixel's latent values: a row.
  void fill(const float* row, float* to) const {
    for (int64_t pixel = 0; pixel < pixels; ++pixel, to += width) {
      std::copy(row, row + size, to);
      std::fill(to + size, to + width, 0.0f);
    }
  }

  // The zeros beyond the columns are columns, too.
  Panels padded_panels(Panels panels) const { return {panels.rows, width, panels.values}; }
};

// Sums over pixels of a (pixels, L) and of a^T b, added to (L + 1, L).
void add_moments(const Decomposed& sizes, const float* a, const float* b, double* to) {
  const int64_t size = sizes.size, width = sizes.width;
  std::vector<float> product(size * width), rows(size * width), sum(width);
  for (int64_t first = 0; first < sizes.pixels; first += kExact) {
    const int64_t some = std::min(kExact, sizes.pixels - first);
    std::fill(product.begin(), product.end(), 0.0f), std::fill(sum.begin(), sum.end(), 0.0f);
    multiply_outer(a + first * width, width, size, b + first * width, width, width, some, product.data());
    unpack({size, width, product.data()}, rows.data());
    for (int64_t pixel = first; pixel < first + some; ++pixel)
      for (int64_t i = 0; i < width; ++i) sum[i] += a[pixel * width + i];
    for (int64_t i = 0; i < size; ++i) {
      for (int64_t j = 0; j < size; ++j) to[i * size + j] += rows[i * width + j];
      to[size * size + i] += sum[i];
    }
  }
}

// y, u (N, H W, width) counted from the origin, its moments (N, L + 1, L), and the batch's means (of u without origin) and
// variances of both normalisations, (4, L) in the order mean, variance, mean, variance.
std::tuple<Tensor, Tensor, Tensor, Tensor> decomposed_forward(const Tensor& x, const Tensor& weight, const Tensor& p,
                                                              const Tensor& q, const Tensor& scale, const Tensor& phi,
                                                              const std::optional<Tensor>& norms, const Tensor& center,
                                                              double eps) {
  Decomposed sizes(x, weight, p, q, scale, phi, norms);
  const int64_t images = sizes.images, pixels = sizes.pixels, ins = sizes.ins, outs = sizes.outs;
  const int64_t size = sizes.size, width = sizes.width;
  Tensor y = at::empty({images, outs, x.size(2), x.size(3)}, sizes.x.options(), at::MemoryFormat::ChannelsLast);
  Tensor latent = plain({images, pixels, width}, sizes.x), found = plain({4, size}, sizes.x);
  sizes.moments = at::zeros({images, size + 1, size}, sizes.x.options().dtype(at::kDouble).memory_format(std::nullopt));
  std::vector<float> from(panels_size(ins, size)), to(panels_size(size, outs)), main(panels_size(ins, outs)), origin(width);
  const Panels enter = sizes.padded_panels(pack(sizes.q.const_data_ptr<float>(), ins, size, 1, ins, from.data()));
  const Panels leave = pack(sizes.p.const_data_ptr<float>(), size, outs, 1, size, to.data());
  const Panels kernel = pack(sizes.weight.const_data_ptr<float>(), ins, outs, 1, ins, main.data());
  if (norms) multiply(center.const_data_ptr<float>(), ins, 1, enter, origin.data(), width);
  float *values = latent.mutable_data_ptr<float>(), *out = y.mutable_data_ptr<float>();
  double* moments = sizes.moments.mutable_data_ptr<double>();
  at::parallel_for(0, images, 1, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      float* u = values + n * pixels * width;
      multiply(sizes.image(n), ins, pixels, enter, u, width);
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
    std::vector<float> m(pixels * width), packed(size * width), factors(padded(outs));
    for (int64_t n = begin; n < end; ++n) {
      sizes.middle(made, n, values + n * pixels * width, m.data(), packed);
      std::copy_n(sizes.scale.const_data_ptr<float>() + n * outs, outs, factors.begin());
      for (int64_t first = 0; first < pixels; first += sizes.block()) {
        const int64_t some = std::min(sizes.block(), pixels - first);
        float* rows = out + (n * pixels + first) * outs;
        multiply(m.data() + first * width, width, some, leave, rows, outs);
        multiply(sizes.image(n) + first * ins, ins, some, kernel, rows, outs, true, factors.data());
      }
    }
  });
  return {y, latent, sizes.moments, found};
}

// What a part of the images adds to the gradients of all images' matrices, in panels.
struct Added {
  std::vector<float> weight, p, q;
};

// The gradients of x, weight, p, q, scale, phi and norms.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> decomposed_backward(
    const Tensor& grad, const Tensor& x, const Tensor& weight, const Tensor& p, const Tensor& q, const Tensor& scale,
    const Tensor& phi, const std::optional<Tensor>& norms, const Tensor& latent, const Tensor& moments, double eps) {
  Decomposed sizes(x, weight, p, q, scale, phi, norms);
  sizes.moments = moments;
  const int64_t images = sizes.images, pixels = sizes.pixels, ins = sizes.ins, outs = sizes.outs;
  const int64_t size = sizes.size, width = sizes.width, square = size * size, values = panels_size(outs, ins);
  const Latent made = sizes.latent(eps);
  const Tensor above = last(grad);
  Tensor grad_x = at::empty_like(sizes.x), grad_scale = plain({images, outs}, sizes.x);
  Tensor grad_phi = plain(phi.sizes(), sizes.x), grad_norms = plain({4, size}, sizes.x);
  Tensor inside = plain({images, pixels, width}, sizes.x);  // the gradient of m
  std::vector<float> back_p(panels_size(outs, size)), back_q(panels_size(size, ins)), kernel(values);
  const Panels leave = sizes.padded_panels(pack(sizes.p.const_data_ptr<float>(), outs, size, size, 1, back_p.data()));
  const Panels enter = pack(sizes.q.const_data_ptr<float>(), size, ins, ins, 1, back_q.data());
  pack(sizes.weight.const_data_ptr<float>(), outs, ins, ins, 1, kernel.data());
  const float *up = above.const_data_ptr<float>(), *lambda = sizes.scale.const_data_ptr<float>();
  const float* u = latent.const_data_ptr<float>();
  float *out = grad_x.mutable_data_ptr<float>(), *middle = inside.mutable_data_ptr<float>();
  float* grad_lambda = grad_scale.mutable_data_ptr<float>();
  const int64_t parts = std::min<int64_t>(images, at::get_num_threads());
  std::vector<Added> added(parts);
  Doubles grad_moments(images * (square + size), 0.0);
  const bool early = outs > ins;  // the larger of both is read or written once
  const auto scaled = [&](int64_t n, std::vector<float>& to) {
    each_panel(outs, ins, [&](int64_t, int64_t columns, int64_t place) {
      for (int64_t o = 0; o < outs; ++o)
        for (int64_t i = 0; i < columns; ++i)
          to[place + o * columns + i] = lambda[n * outs + o] * kernel[place + o * columns + i];
    });
    return Panels{outs, ins, to.data()};
  };
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> m(pixels * width), packed(size * width), own(values), factors(values);
    for (int64_t part = begin; part < end; ++part) {
      Added& sums = added[part];
      sums.weight.assign(values, 0.0f), sums.p.assign(outs * width, 0.0f), sums.q.assign(panels_size(size, ins), 0.0f);
      for (int64_t n = part * images / parts; n < (part + 1) * images / parts; ++n) {
        const float* gradients = up + n * pixels * outs;
        float* inner = middle + n * pixels * width;
        sizes.middle(made, n, u + n * pixels * width, m.data(), packed);
        std::fill(own.begin(), own.end(), 0.0f);
        const Panels turned = early ? scaled(n, factors) : Panels{};
        for (int64_t first = 0; first < pixels; first += sizes.block()) {
          const int64_t some = std::min(sizes.block(), pixels - first);
          const float* rows = gradients + first * outs;
          multiply_outer(rows, outs, outs, sizes.image(n) + first * ins, ins, ins, some, own.data());
          multiply_outer(rows, outs, outs, m.data() + first * width, width, width, some, sums.p.data());
          multiply(rows, outs, some, leave, inner + first * width, width);
          if (early) multiply(rows, outs, some, turned, out + (n * pixels + first) * ins, ins);
        }
        add_moments(sizes, inner, u + n * pixels * width, grad_moments.data() + n * (square + size));
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
  std::vector<float> along, constant;
  made.back(grad_matrices, grad_shifts, grad_phi.mutable_data_ptr<float>(), grad_norms.mutable_data_ptr<float>(), along,
            constant);
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> du(pixels * width), first(size * width), second(size * width), factors(values);
    for (int64_t part = begin; part < end; ++part)
      for (int64_t n = part * images / parts; n < (part + 1) * images / parts; ++n) {
        const float *matrix = made.matrices.data() + n * square, *image = sizes.image(n);
        sizes.fill(constant.data() + n * size, du.data());
        const Panels mixed = sizes.padded_panels(pack(matrix, size, size, size, 1, first.data()));
        const Panels own = sizes.padded_panels(pack(along.data() + n * square, size, size, size, 1, second.data()));
        multiply(middle + n * pixels * width, width, pixels, mixed, du.data(), width, true);
        multiply(u + n * pixels * width, width, pixels, own, du.data(), width, true);
        multiply_outer(du.data(), width, size, image, ins, ins, pixels, added[part].q.data());
        if (!early) multiply(up + n * pixels * outs, outs, pixels, scaled(n, factors), out + n * pixels * ins, ins);
        multiply(du.data(), width, pixels, enter, out + n * pixels * ins, ins, true);
      }
  });
  Tensor grad_weight = at::empty_like(sizes.weight), grad_p = at::empty_like(sizes.p), grad_q = at::empty_like(sizes.q);
  const auto total = [&](std::vector<float> Added::*which, int64_t rows, int64_t columns, Tensor& to) {
    std::vector<float>& sum = added[0].*which;
    for (int64_t part = 1; part < parts; ++part)
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += (added[part].*which)[i];
    unpack({rows, columns, sum.data()}, to.mutable_data_ptr<float>());
  };
  total(&Added::weight, outs, ins, grad_weight);
  total(&Added::p, outs, size, grad_p);
  total(&Added::q, size, ins, grad_q);
  return {grad_x, grad_weight, grad_p, grad_q, grad_scale, grad_phi, grad_norms};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(pose_training, library) {
  library.def(
      "decomposed_forward(Tensor x, Tensor weight, Tensor p, Tensor q, Tensor scale, Tensor phi, Tensor? norms, "
      "Tensor center, float eps) -> (Tensor, Tensor, Tensor, Tensor)");
  library.def(
      "decomposed_backward(Tensor grad, Tensor x, Tensor weight, Tensor p, Tensor q, Tensor scale, Tensor phi, "
      "Tensor? norms, Tensor latent, Tensor moments, float eps) "
      "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(pose_training, CPU, library) {
  library.impl("decomposed_forward", &decomposed_forward);
  library.impl("decomposed_backward", &decomposed_backward);
}
