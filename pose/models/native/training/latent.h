// What decomposed convolution does in its latent space, as a matrix and a shift of each image, and the way back.
//
// With u = Q^T x the latent values are m = h + norm_out(Phi h), h = norm_in(u), and both normalisations are of the whole
// batch. Their statistics follow from each image's sums of u and u u^T, so that no pass over the pixels waits for another:
// m = M u + d. All of this is small and in double. u may be counted from any origin, which norm_in takes out again.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "lines.h"

namespace pose {

using Doubles = std::vector<double>;

// A normalisation of L channels: value times `scale` plus `shift`.
struct LatentNorm {
  const float *weight = nullptr, *bias = nullptr;  // none: values stay what they are
  double eps = 0;
  Doubles mean, variance, inverse, scale, shift;

  // Of sums of values and squares, `count` each.
  void make(const Doubles& sums, const Doubles& squares, double count) {
    const size_t size = sums.size();
    mean.assign(size, 0.0), variance.assign(size, 0.0), inverse.assign(size, 1.0);
    scale.assign(size, 1.0), shift.assign(size, 0.0);
    if (!weight) return;
    for (size_t c = 0; c < size; ++c) {
      mean[c] = sums[c] / count;
      variance[c] = std::max(squares[c] / count - mean[c] * mean[c], 0.0);
      inverse[c] = 1.0 / std::sqrt(variance[c] + eps);
      scale[c] = weight[c] * inverse[c];
      shift[c] = bias[c] - mean[c] * scale[c];
    }
  }

  // From gradients of scale and shift to those of weight and bias, and of the sums of values and squares.
  void back(const Doubles& grad_scale, const Doubles& grad_shift, double count, float* grad_weight, float* grad_bias,
            Doubles& grad_sums, Doubles& grad_squares) const {
    if (!weight) return;
    for (size_t c = 0; c < mean.size(); ++c) {
      const double own = grad_scale[c] - grad_shift[c] * mean[c];
      grad_weight[c] = own * inverse[c], grad_bias[c] = grad_shift[c];
      const double variance_ = -0.5 * own * weight[c] * inverse[c] * inverse[c] * inverse[c];
      grad_squares[c] = variance_ / count;
      grad_sums[c] = (-grad_shift[c] * scale[c] - 2.0 * mean[c] * variance_) / count;
    }
  }
};

struct Latent {
  int64_t images, size, pixels;  // size is L
  LatentNorm in, out;
  const double* moments;  // (N, L + 1, L): sums of u u^T, and of u
  const float* phi;       // (N, L, L), Phi - I
  Doubles sums, products, cores;  // of h (N, L), of Phi times those of h h^T (N, L, L), and I + scale_out Phi (N, L, L)
  FloatLines matrices, shifts;  // M (N, L, L) and d (N, L)

  double count() const { return static_cast<double>(images * pixels); }

  void make() {
    const int64_t square = size * size;
    Doubles values(size, 0.0), squares(size, 0.0);
    for (int64_t n = 0; n < images; ++n)
      for (int64_t i = 0; i < size; ++i) {
        values[i] += moments[n * (square + size) + square + i];
        squares[i] += moments[n * (square + size) + i * size + i];
      }
    in.make(values, squares, count());
    sums.assign(images * size, 0.0), products.assign(images * square, 0.0), cores.assign(images * square, 0.0);
    std::fill(values.begin(), values.end(), 0.0), std::fill(squares.begin(), squares.end(), 0.0);
    Doubles inner(square);
    for (int64_t n = 0; n < images; ++n) {
      const double *moment = moments + n * (square + size), *sum = moment + square;
      const float* own = phi + n * square;
      double *h = sums.data() + n * size, *product = products.data() + n * square;
      for (int64_t i = 0; i < size; ++i) h[i] = in.scale[i] * sum[i] + pixels * in.shift[i];
      for (int64_t i = 0; i < size; ++i)
        for (int64_t j = 0; j < size; ++j)
          inner[i * size + j] = in.scale[i] * (moment[i * size + j] * in.scale[j] + sum[i] * in.shift[j]) + in.shift[i] * h[j];
      for (int64_t i = 0; i < size; ++i) {
        for (int64_t k = 0; k < size; ++k)
          for (int64_t j = 0; j < size; ++j) product[i * size + j] += own[i * size + k] * inner[k * size + j];
        for (int64_t j = 0; j < size; ++j) {
          values[i] += own[i * size + j] * h[j];
          squares[i] += own[i * size + j] * product[i * size + j];
        }
      }
    }
    out.make(values, squares, count());
    matrices.resize(images * square), shifts.resize(images * size);
    for (int64_t n = 0; n < images; ++n)
      for (int64_t i = 0; i < size; ++i) {
        double shift = out.shift[i];
        for (int64_t j = 0; j < size; ++j) {
          const int64_t at = n * square + i * size + j;
          cores[at] = (i == j) + out.scale[i] * phi[at];
          matrices[at] = cores[at] * in.scale[j];
          shift += cores[at] * in.shift[j];
        }
        shifts[n * size + i] = shift;
      }
  }

  // From the gradients of M (N, L, L) and d (N, L) to those of Phi and of the norms' weights and biases, (4, L); and R and r,
  // as a pixel's gradient of u is M^T (that of m) + R u + r.
  void back(const Doubles& grad_matrices, const Doubles& grad_shifts, float* grad_phi, float* grad_norms,
            FloatLines& along, FloatLines& constant) const {
    const int64_t square = size * size;
    Doubles scale_in(size, 0.0), shift_in(size, 0.0), scale_out(size, 0.0), shift_out(size, 0.0);
    for (int64_t n = 0; n < images; ++n)
      for (int64_t i = 0; i < size; ++i) {
        const double shift = grad_shifts[n * size + i];
        shift_out[i] += shift;
        for (int64_t j = 0; j < size; ++j) {
          const int64_t at = n * square + i * size + j;
          const double core = grad_matrices[at] * in.scale[j] + shift * in.shift[j];
          scale_in[j] += grad_matrices[at] * cores[at];
          shift_in[j] += shift * cores[at];
          scale_out[i] += core * phi[at];
          grad_phi[at] = out.scale[i] * core;
        }
      }
    Doubles grad_values(size, 0.0), grad_squares(size, 0.0);
    out.back(scale_out, shift_out, count(), grad_norms + 2 * size, grad_norms + 3 * size, grad_values, grad_squares);
    along.assign(images * square, 0.0f), constant.assign(images * size, 0.0f);
    Doubles twice(square), plain(size);
    for (int64_t n = 0; n < images && out.weight; ++n) {  // through the statistics of Phi h: 2 dH h + ds
      const double *moment = moments + n * (square + size), *sum = moment + square;
      const double *h = sums.data() + n * size, *product = products.data() + n * square;
      const float* own = phi + n * square;
      std::fill(twice.begin(), twice.end(), 0.0), std::fill(plain.begin(), plain.end(), 0.0);
      for (int64_t k = 0; k < size; ++k)
        for (int64_t i = 0; i < size; ++i) {
          const double value = own[k * size + i], weighted = 2.0 * grad_squares[k] * value;
          plain[i] += grad_values[k] * value;
          grad_phi[n * square + k * size + i] += 2.0 * grad_squares[k] * product[k * size + i] + grad_values[k] * h[i];
          for (int64_t j = 0; j < size; ++j) twice[i * size + j] += weighted * own[k * size + j];
        }
      for (int64_t i = 0; i < size; ++i) {
        double shift = plain[i];
        for (int64_t j = 0; j < size; ++j) {
          const double value = twice[i * size + j];
          scale_in[i] += value * (in.scale[j] * moment[j * size + i] + in.shift[j] * sum[i]);
          shift_in[i] += value * h[j];
          shift += value * in.shift[j];
          along[n * square + i * size + j] = in.scale[i] * value * in.scale[j];
        }
        scale_in[i] += plain[i] * sum[i];
        shift_in[i] += plain[i] * pixels;
        constant[n * size + i] = in.scale[i] * shift;
      }
    }
    std::fill(grad_values.begin(), grad_values.end(), 0.0), std::fill(grad_squares.begin(), grad_squares.end(), 0.0);
    in.back(scale_in, shift_in, count(), grad_norms, grad_norms + size, grad_values, grad_squares);
    for (int64_t n = 0; n < images; ++n)
      for (int64_t i = 0; i < size; ++i) {
        along[n * square + i * size + i] += 2.0 * grad_squares[i];
        constant[n * size + i] += grad_values[i];
      }
  }
};

}  // namespace pose
