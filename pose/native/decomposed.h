// The layer of dynamic convolution decomposition.

#pragma once

#include <algorithm>
#include <vector>

#include "layer.h"

namespace pose {

// W(x) = Lambda(x) W_0 + P Phi(x) Q^T at the kernel's center; see pose/models/dynamic/folded_dcd.py.
struct DcdLayer : Layer {
  Shape shape;
  int64_t pool_size;
  Constant reduce, gate;       // of the branch
  Constant to_lambda;          // (hidden, panels 16); undefined without Lambda
  Constant to_phi, identity;   // Phi^T, whose rows are filled up to `lines`: (hidden, L lines), (L, lines)
  Constant weight, p;          // W_0 as panels, P as panels (panels, L, 16)
  Constant q_panels, q;        // Q as panels (panels of L, C_in, 16), and (C_in, L)
  Constant latent_bias, bias;  // of Q^T x, filled up to lines; and of the layer

  DcdLayer(const Shape& shape, int64_t pool_size, const Constant* t)
      : shape(shape), pool_size(pool_size), reduce(t[0]), gate(t[1]), to_lambda(t[10]), to_phi(t[2]), identity(t[3]),
        weight(t[4]), p(t[5]), q_panels(t[6]), q(t[7]), latent_bias(t[8]), bias(t[9]) {}

  bool wants_averages() const override { return pool_size == 1; }
  Image shape_after(const Image& x) const override { return shape.after(x); }
  bool gives_bytes() const override { return true; }

  int64_t latent() const { return identity.rows; }
  int64_t lines() const { return identity.columns; }

  // Whether the image's kernel costs fewer multiply-adds than the factors applied to its pixels: `assembling_is_less` of
  // pose/models/dynamic/folded_dcd.py.
  bool assembles(const Image& x) const {
    const int64_t channels = x.channels, pixels = shape.geometry.out(0, x.rows) * shape.geometry.out(1, x.columns);
    return shape.outputs * channels < (shape.outputs + channels) * pixels;
  }

  Image run(const Image& x, Flow& flow) const override {
    shape.check(x);
    std::vector<float> own, phi(latent() * lines()), scale(to_lambda.defined() ? shape.panels() * kPanel : 0);
    const std::vector<float> hidden = branch(reduce, gate, averages_of(x, flow, pool_size, own));
    std::copy_n(identity.floats(), phi.size(), phi.data());
    multiply_vector(to_phi, hidden.data(), phi.data(), true);
    if (!scale.empty()) multiply_vector(to_lambda, hidden.data(), scale.data());
    for (float& value : scale) value = hard_gate(value);
    return assembles(x) ? assembled(x, phi, scale, flow) : factorised(x, phi, scale, flow);
  }

  // The latent pixels Phi (Q^T x + t), then Lambda (W_0 x) + P latent + b.
  Image factorised(const Image& x, const std::vector<float>& phi, const std::vector<float>& scale, Flow& flow) const {
    const Geometry& g = shape.geometry;
    const Geometry point = {{1, 1}, {g.stride[0], g.stride[1]}, {0, 0}, {1, 1}}, still = {{1, 1}, {1, 1}, {0, 0}, {1, 1}};
    const float* t = latent_bias.floats();
    const Kernels enter = kernels_at(latent(), q_panels.floats(), x.channels * kPanel, t);
    Kernels turn = kernels_at(latent(), phi.data(), kPanel, nullptr);
    turn.pitch = lines();
    const Image inside = convolve(x, point, enter, {});
    const Image turned = convolve(inside, still, turn, {});
    Kernels kernels = kernels_at(shape.outputs, weight.floats(), weight.size() / shape.panels(),
                                 bias.floats());
    kernels.scale = scale.empty() ? nullptr : scale.data();
    kernels.more = turned.data;
    kernels.more_panels = p.floats();
    kernels.more_inner = latent();
    return convolve(x, g, kernels, flow.ends(shape.activation));
  }

  // One kernel for the image: panels of (P Phi)^T first, (L, 16), and what they make of the bias.
  Image assembled(const Image& x, const std::vector<float>& phi, const std::vector<float>& scale, Flow& flow) const {
    const int64_t channels = x.channels, panels = shape.panels(), depth = latent(), piece = depth * kPanel;
    const int64_t size = weight.size() / panels;
    std::vector<float> mixed(panels * piece), shift(panels * kPanel);
    const float* inner_bias = latent_bias.floats();
    std::vector<const float*> phi_rows(depth), q_rows(channels);
    for (int64_t l = 0; l < depth; ++l) phi_rows[l] = phi.data() + l * lines();
    for (int64_t c = 0; c < channels; ++c) q_rows[c] = q.floats() + c * depth;
    for (int64_t panel = 0; panel < panels; ++panel) {
      Panel product;
      product.main = {phi_rows.data(), 1, depth, p.floats() + panel * piece, kPanel};
      product.y = mixed.data() + panel * piece;
      product.pitch = kPanel;
      multiply(product, depth);
      Panel point;
      point.main = {&inner_bias, 1, depth, product.y, kPanel};
      point.bias = bias.floats() + panel * kPanel;
      point.y = shift.data() + panel * kPanel;
      point.pitch = kPanel;
      multiply(point, 1);
    }
    const int64_t centre = (shape.geometry.size[0] * shape.geometry.size[1] / 2) * channels;
    Kernels kernels;
    kernels.outputs = shape.outputs;
    kernels.bias = shift.data();
    kernels.made = true;
    kernels.panel = [&](int64_t panel, float* scratch) {
      const float* own = weight.floats() + panel * size;
      if (scale.empty()) {
        std::copy_n(own, size, scratch);
      } else {
        const float* factor = scale.data() + panel * kPanel;
        for (int64_t i = 0; i < size; i += kPanel)
          for (int64_t o = 0; o < kPanel; ++o) scratch[i + o] = factor[o] * own[i + o];
      }
      Panel residual;
      residual.main = {q_rows.data(), 1, depth, mixed.data() + panel * piece, kPanel};
      residual.y = scratch + centre * kPanel;
      residual.shortcut = residual.y;
      residual.pitch = kPanel;
      multiply(residual, channels);
      return scratch;
    };
    return convolve(x, shape.geometry, kernels, flow.ends(shape.activation));
  }
};

}  // namespace pose
