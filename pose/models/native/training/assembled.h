// The kernels of images, W = Lambda W_0 + E Q^T with E = P M and the bias P d, and the way back from their gradients: for
// layers where a pixel's latent values are more work than these. Matrices of outs x L have rows of whole vectors.

#pragma once

#include <vector>

#include "row_products.h"

namespace pose {

struct Assembled {
  int64_t ins, outs, size, depth, width;  // depth: rows of Q^T's panels, the last of zeros
  const float *p, *q;  // (outs, L) and (L, ins)
  FloatLines turned, enter, core, e, packed, bias, rows, grad_e, product, square;

  Assembled(int64_t ins_, int64_t outs_, int64_t size_, int64_t depth_, const float* p_, const float* q_)
      : ins(ins_), outs(outs_), size(size_), depth(depth_), width(padded(size_)), p(p_), q(q_), turned(ins_ * size_),
        enter(ins_ * width), core(size_ * width), e(outs_ * width), packed(panels_size(size_, outs_)), bias(padded(outs_)),
        rows(outs_ * ins_), grad_e(outs_ * width), product(size_ * width), square(size_ * width) {
    for (int64_t l = 0; l < size; ++l)
      for (int64_t i = 0; i < ins; ++i) turned[i * size + l] = q[l * ins + i];
    pack(q, ins, size, 1, ins, enter.data());
  }

  // E and the bias of an image whose Q^T x is counted from an origin.
  void make(const float* matrix, const float* shift, const float* origin) {
    const Panels values = pack(matrix, size, size, size, 1, core.data());
    multiply(p, size, outs, {size, width, values.values}, e.data(), width);
    for (int64_t o = 0; o < outs; ++o) {
      bias[o] = 0.0f;
      for (int64_t l = 0; l < size; ++l) bias[o] += p[o * size + l] * shift[l] - e[o * width + l] * origin[l];
    }
  }

  // Adds Q E^T to panels (ins, outs).
  void add_forward(float* kernel) {
    multiply_panels(turned.data(), size, ins, pack(e.data(), size, outs, 1, width, packed.data()), kernel, true);
  }

  // Adds E Q^T to panels (outs, ins); `back_q` are those of Q^T.
  void add_backward(const Panels& back_q, float* kernel) const {
    multiply_panels(e.data(), width, outs, back_q, kernel, true);
  }

  // From the gradients of an image's kernel, panels (outs, ins), and bias to those of M and d, added to (L + 1, L) in
  // double, and of P and Q^T, added to panels, those of (depth, ins).
  void back(const float* grad_kernel, const float* grad_bias, const float* matrix, const float* shift, const float* origin,
            double* grad_moment, float* grad_p, float* grad_q) {
    unpack({outs, ins, grad_kernel}, rows.data());
    multiply(rows.data(), ins, outs, {ins, width, enter.data()}, grad_e.data(), width);
    for (int64_t o = 0; o < outs; ++o)
      for (int64_t l = 0; l < size; ++l) grad_e[o * width + l] -= grad_bias[o] * origin[l];
    const Panels values = pack(matrix, size, size, 1, size, core.data());
    multiply_panels(grad_e.data(), width, outs, {size, width, values.values}, grad_p, true);
    multiply_outer(e.data(), width, depth, rows.data(), ins, ins, outs, grad_q);
    std::fill(product.begin(), product.end(), 0.0f);
    multiply_outer(p, size, size, grad_e.data(), width, width, outs, product.data());
    unpack({size, width, product.data()}, square.data());
    for (int64_t i = 0; i < size; ++i) {
      for (int64_t j = 0; j < size; ++j) grad_moment[i * size + j] += square[i * width + j];
      double sum = 0.0;
      for (int64_t o = 0; o < outs; ++o) sum += p[o * size + i] * grad_bias[o];
      grad_moment[size * size + i] += sum;
    }
    each_panel(outs, size, [&](int64_t first, int64_t columns, int64_t place) {
      for (int64_t o = 0; o < outs; ++o)
        for (int64_t i = first; i < std::min(first + columns, size); ++i)
          grad_p[place + o * columns + i - first] += grad_bias[o] * shift[i];
    });
  }
};

}  // namespace pose
