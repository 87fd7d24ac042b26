// A pointwise decomposed layer and a batch, and what both passes do with each image.

#pragma once

#include <optional>
#include <vector>

#include "assembled.h"
#include "latent.h"
#include "row_products.h"
#include "written.h"

namespace pose {

constexpr int64_t kExact = 512;  // pixels that are added up in float before they go to a double

struct Decomposed {
  Features x;
  Tensor weight, p, q, scale, phi, norms, moments;
  int64_t images, pixels, ins, outs, size, width, depth;  // width: of a pixel's latent values, whole vectors; depth: so many
                                                          // of them are multiplied, in pairs all

  Decomposed(const Features& x_, const Tensor& weight_, const Tensor& p_, const Tensor& q_, const Tensor& scale_,
             const Tensor& phi_, const std::optional<Tensor>& norms_, bool in_pairs)
      : x(x_), weight(weight_.contiguous()), p(p_.contiguous()), q(q_.contiguous()), scale(scale_.contiguous()),
        phi(phi_.contiguous()), norms(norms_ ? norms_->contiguous() : Tensor()), images(x.images),
        pixels(x.pixels), ins(x.channels), outs(weight.size(0)), size(p.size(1)), width(padded(size)),
        depth(in_pairs ? width : size) {}

  const Tensor& like() const { return x.x; }
  // What Q^T x is counted from: its average over the batch, more or less, where a normalisation takes it out again.
  FloatLines origin(const Tensor& center) const {
    FloatLines values(width, 0.0f);
    const float *matrix = q.const_data_ptr<float>(), *averages = center.const_data_ptr<float>();
    for (int64_t l = 0; l < size && norms.defined(); ++l)
      for (int64_t i = 0; i < ins; ++i) values[l] += matrix[l * ins + i] * averages[i];
    return values;
  }

  // Multiply-adds: applied to the pixels they are 3 outs L a pixel in both passes, in kernels 4 outs (ins + L) L an image.
  bool assembles() const { return 3 * pixels > 4 * (ins + width); }
  Assembled assembled() const { return {ins, outs, size, depth, p.const_data_ptr<float>(), q.const_data_ptr<float>()}; }
  int64_t block() const { return block_of(ins, outs, pixels); }

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
  void middle(const Latent& made, int64_t n, const float* u, float* m, FloatLines& packed) const {
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

  // A matrix (L, columns) for rows of latent values, with rows of zeros as far as they are multiplied.
  Panels filled(const float* matrix, int64_t columns, int64_t down, int64_t right, FloatLines& to) const {
    FloatLines rows(depth * columns, 0.0f);
    for (int64_t l = 0; l < size; ++l)
      for (int64_t i = 0; i < columns; ++i) rows[l * columns + i] = matrix[l * down + i * right];
    return pack(rows.data(), depth, columns, columns, 1, grown(to, panels_size(depth, columns)));
  }

  // Latent values as products want them.
  Left latents(const float* values, int64_t some, bool in_pairs, Scratch& scratch) const {
    return {values, in_pairs ? rounded(values, some, width, scratch) : nullptr};
  }

  // Products of those, as `multiply` and `multiply_outer` have them.
  void multiply_latents(const Left& a, int64_t some, const Factor& b, float* out, int64_t apart, bool add) const {
    if (b.pairs) return multiply(a, some, b, out, apart, add);
    multiply(a.floats, width, some, b.panels, out, apart, add);
  }

  void multiply_latents_outer(const Left& a, const Left& b, int64_t some, float* out) const {
    if (a.halves) return multiply_outer(a, width, b, ins, ins, some, out);
    multiply_outer(a.floats, width, size, b.floats, ins, ins, some, out);
  }

  // The zeros beyond the columns are columns, too.
  Panels padded_panels(Panels panels) const { return {panels.rows, width, panels.values}; }
};

// Sums over pixels of a (pixels, L) and of a^T b, added to (L + 1, L).
inline void add_moments(const Decomposed& sizes, const float* a, const float* b, double* to) {
  const int64_t size = sizes.size, width = sizes.width;
  FloatLines product(size * width), rows(size * width), sum(width);
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

}  // namespace pose
