// Pointwise decomposed convolution of a training step on a CPU: Lambda W x + P m, m = h + norm_out(Phi h),
// h = norm_in(Q^T x); the way back is in decomposed_backward.cpp. Images are channels_last.
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
  Decomposed sizes(Features(x, norm, activation), weight, p, q, scale, phi, norms, in_pairs);
  const int64_t images = sizes.images, pixels = sizes.pixels, ins = sizes.ins, outs = sizes.outs;
  const int64_t size = sizes.size, width = sizes.width;
  const Output y({images, outs, x.size(2), x.size(3)}, sizes.like(), wants_moments, half);
  Tensor latent = plain({images, pixels, width}, sizes.like()), found = plain({4, size}, sizes.like());
  sizes.moments = at::zeros({images, size + 1, size}, sizes.like().options().dtype(at::kDouble).memory_format(std::nullopt));
  FloatLines from(panels_size(ins, size)), to, main(panels_size(ins, outs));
  const FloatLines origin = sizes.origin(center);
  WordLines from_words, to_words, main_words;
  const Factor enter = factor_of(
      sizes.padded_panels(pack(sizes.q.const_data_ptr<float>(), ins, size, 1, ins, from.data())), in_pairs, from_words);
  const Factor leave = factor_of(sizes.filled(sizes.p.const_data_ptr<float>(), outs, 1, size, to), in_pairs, to_words);
  const Factor kernel =
      factor_of(pack(sizes.weight.const_data_ptr<float>(), ins, outs, 1, ins, main.data()), in_pairs, main_words);
  float* values = latent.mutable_data_ptr<float>();
  double* moments = sizes.moments.mutable_data_ptr<double>();
  at::parallel_for(0, images, 1, [&](int64_t begin, int64_t end) {
    Scratch scratch;
    for (int64_t n = begin; n < end; ++n) {
      float* u = values + n * pixels * width;
      each_block(pixels, sizes.block(), [&](int64_t first, int64_t some) {
        multiply(sizes.x.left(n, first, some, in_pairs, scratch), some, enter, u + first * width, width);
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
    Scratch scratch, latents;
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
          const Left middles = sizes.latents(m.data() + first * width, some, in_pairs, latents);
          sizes.multiply_latents(middles, some, leave, rows, outs, false);
          multiply(image, some, kernel, rows, outs, true, factors.data());
        }
        written.done(first, some, rows);
      });
      written.end();
    }
  });
  return {y.y, latent, sizes.moments, found, y.moments};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(pose_training, library) {
  library.def(
      "decomposed_forward(Tensor x, Tensor? norm, int activation, Tensor weight, Tensor p, Tensor q, Tensor scale, "
      "Tensor phi, Tensor? norms, Tensor center, float eps, bool wants_moments, bool in_pairs, "
      "bool half) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(pose_training, CPU, library) {
  library.impl("decomposed_forward", &decomposed_forward);
}
