// Three layers, a product of single pixels, a depthwise layer and another product, a few rows of an image at a time: what
// passes between them then stays in the cache, where whole images would go through memory.
//
// The first one's rows lie in a ring, from which the depthwise layer takes those that it reaches.

#pragma once

#include <algorithm>

#include "layer.h"

namespace pose {

// Bytes of rows between the layers that stay in the cache, and of an image that does not.
constexpr int64_t kStripBytes = 640 << 10, kLargeBytes = 3 << 19;

struct Strips {
  const Layer &enter, &depthwise, &leave;
  Form from, middle, after, to;  // of the first one's image, of what passes between, and of the answer
  Image inside, outside;         // what the first one and the depthwise layer answer, without values
  int64_t rows = 0;              // of the depthwise layer's answer at a time; 0: whole images are as good

  Strips(const Layer& enter, const Layer& depthwise, const Layer& leave, const Image& x)
      : enter(enter), depthwise(depthwise), leave(leave), inside(enter.shape_after(x)),
        outside(depthwise.shape_after(inside)) {}

  static bool can(const Layer& enter, const Layer& depthwise, const Layer& leave) {
    return enter.is_point() && depthwise.channelwise() && leave.is_point();
  }

  const Geometry& geometry() const { return *depthwise.channelwise(); }
  int64_t ring_rows() const { return (rows - 1) * geometry().stride[0] + geometry().size[0]; }

  // Settles how many rows, by the forms; the depthwise layer has to take planes or bytes.
  void choose() {
    if (from.order != kPixels || after.order != kPixels || (middle.order != kPlanes && !middle.in_bytes())) return;
    const int64_t line = bytes_of_line(inside, middle), out = bytes_of_line(outside, after);
    if (line * inside.rows < kLargeBytes) return;
    rows = 1;
    const Geometry& g = geometry();
    const int64_t fitting = (kStripBytes - (g.size[0] - g.stride[0]) * line) / (g.stride[0] * line + out);
    rows = std::clamp<int64_t>(fitting, 2, outside.rows);
  }

  static int64_t bytes_of_line(const Image& x, const Form& form) {
    return x.columns * (form.in_bytes() ? bytes_of(x.channels) : 4 * x.channels);
  }

  // Where a row of an image begins.
  static float* row_of(const Image& x, const Form& form, int64_t row) {
    const int64_t values = row * x.columns * Layout(x, form).pixel;
    return form.in_bytes() ? reinterpret_cast<float*>(bytes_in(x) + values) : x.data + values;
  }

  // Some rows of an image.
  static Image part(const Image& x, const Form& form, int64_t row, int64_t rows) {
    return {x.channels, rows, x.columns, row_of(x, form, row), nullptr};
  }

  // `shortcut` is added if defined; the answer is written to `answer` if given.
  Image run(const Image& x, const Image& shortcut, float* answer) const {
    const Geometry& g = geometry();
    Image ring = inside, y = leave.shape_after(outside);
    y = blank(y.channels, y.rows, y.columns, to, answer);
    Form kept = middle, whole = to;
    kept.rows = ring_rows(), whole.rows = y.rows;
    ring.memory = Spare::take((bytes_of_line(inside, middle) * kept.rows + 3) / 4);
    ring.data = ring.memory.get();
    for (int64_t row = 0, made = 0; row < outside.rows; row += rows) {
      const int64_t count = std::min(rows, outside.rows - row);
      const int64_t reach = std::min((row + count - 1) * g.stride[0] - g.padding[0] + g.size[0], inside.rows);
      while (made < reach) {
        const int64_t place = made % kept.rows, some = std::min(reach - made, kept.rows - place);
        Flow flow;
        flow.from = from, flow.to = kept, flow.answer = row_of(ring, kept, place);
        enter.run(part(x, from, made, some), flow);
        made += some;
      }
      Flow flow;
      flow.from = kept, flow.to = after, flow.first = row, flow.rows = count;
      const Image strip = depthwise.run(ring, flow);
      Flow last;
      last.from = after, last.to = whole, last.answer = row_of(y, to, row);
      if (shortcut.defined()) last.shortcut = part(shortcut, {}, row, count);
      leave.run(strip, last);
    }
    return y;
  }
};

}  // namespace pose
