// Layers in a row, with shortcuts around some of them, run in one call.

#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "layer.h"
#include "peak.h"
#include "strips.h"

namespace pose {

// What is noted of each layer: seconds, and rows, columns and channels of its input and of its answer; or the least and the
// greatest of its input's values.
struct Notes {
  bool ranges;
  std::vector<double> found = {};

  void time(double seconds, const Image& x, const Image& y) {
    found.push_back(seconds);
    for (const Image& image : {x, y})
      for (const int64_t side : {image.rows, image.columns, image.channels}) found.push_back(static_cast<double>(side));
  }

  // What is not a number makes none of both.
  void range(const Image& x) {
    float least = x.data[0], greatest = least, all = 0;
    for (int64_t i = 0; i < x.size(); ++i) {
      const float value = x.data[i];
      least = value < least ? value : least;
      greatest = value > greatest ? value : greatest;
      all = value != value ? value : all;
    }
    found.push_back(least + all);
    found.push_back(greatest + all);
  }
};

class Program {
 public:
  // `name` is for messages.
  void add(std::shared_ptr<const Layer> layer, const std::string& name) {
    steps_.push_back({Step::kRun, std::move(layer), nullptr, name});
  }

  // Whether a layer ran just before what is added next.
  bool follows_a_layer() const { return !steps_.empty() && steps_.back().kind != Step::kBegin; }

  // A block begins: its input, or what a program makes of it if not null, is added by the layer before `end_block`.
  void begin_block(std::shared_ptr<const Program> shortcut, const std::string& name) {
    steps_.push_back({Step::kBegin, nullptr, std::move(shortcut), name});
    ++open_;
  }

  void end_block() {
    if (open_ == 0) refuse("a block ends that has not begun");
    if (steps_.back().kind != Step::kRun || !steps_.back().layer->adds()) refuse("a block ends with a convolution");
    steps_.back().kind = Step::kClose;
    --open_;
  }

  // Layers, those of shortcuts included.
  int64_t layers() const {
    int64_t count = 0;
    for (const Step& step : steps_) count += step.kind == Step::kBegin ? (step.shortcut ? step.shortcut->layers() : 0) : 1;
    return count;
  }

  // The shape of the answer to an image that has no values. Whatever `run` would refuse is refused here, before it runs.
  Image shape_after(Image x) const {
    if (open_) refuse("a block has no end");
    check(x);
    std::vector<Image> shortcuts;
    for (const Step& step : steps_) {
      try {
        x = step.shape_after(x, shortcuts);
      } catch (const std::exception& thrown) {
        refuse(step.name, ": ", thrown.what());
      }
    }
    return x;
  }

  // Images (N, H, W, C) one by one to answers (N, H', W', C'): so what passes between layers stays in the cache. A batch is
  // shared out among threads, a few images one after the other among all of them.
  void run(const Image& first, int64_t images, const Image& answer, Notes* notes) const {
    const auto one = [&](int64_t n) {
      Image x = first;
      x.data += n * first.size();
      float* const to = answer.data + n * answer.size();
      const Image y = run_one(x, to, notes);
      if (y.data != to) std::memcpy(to, y.data, answer.size() * sizeof(float));
    };
    if (images < threads()) {
      for (int64_t n = 0; n < images; ++n) one(n);
      return;
    }
    parallel_for(0, images, 1, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) one(n);
    });
  }

 private:
  // No product of an image's sides overflows, nor of those with zeros around.
  static void check(const Image& x) {
    constexpr int64_t kMostPixels = int64_t{1} << 20;  // a side
    if (x.channels > kMostChannels || x.rows > kMostPixels || x.columns > kMostPixels || x.size() > kMostValues)
      refuse("an image of ", x.rows, " x ", x.columns, " pixels and ", x.channels, " channels is too large");
  }

  // One image; the last layer writes to `to`. Of each layer, in the order in which they run (those of a shortcut before what
  // is within its block), there are notes, if wanted.
  Image run_one(Image x, float* to, Notes* notes) const {
    std::vector<Image> shortcuts;
    Flow flow;
    for (size_t i = 0; i < steps_.size(); ++i) {
      const Step& step = steps_[i];
      if (step.kind == Step::kBegin) {
        shortcuts.push_back(step.shortcut ? step.shortcut->run_one(x, nullptr, notes) : x);
        continue;
      }
      if (!notes && run_strips(i, x, flow, shortcuts, to)) {
        i += 2;
        continue;
      }
      flow.wanted = next_wants(i + 1);
      flow.from = flow.to;
      const bool bytes = !(notes && notes->ranges);
      flow.to = step.kind == Step::kRun ? form_after(i, x.pixels(), bytes, flow) : Form();
      flow.answer = i + 1 == steps_.size() ? to : nullptr;
      flow.shortcut = Image();
      if (step.kind == Step::kClose) {
        flow.shortcut = shortcuts.back();
        shortcuts.pop_back();
      }
      if (notes && notes->ranges) notes->range(x);
      const double start = notes ? thread_seconds() : 0;
      Image y = step.layer->run(x, flow);
      if (notes && !notes->ranges) notes->time(thread_seconds() - start, x, y);
      x = std::move(y);
    }
    return x;
  }

  // Runs three layers from i on a few rows at a time, if they are such and it pays.
  bool run_strips(size_t i, Image& x, Flow& flow, std::vector<Image>& shortcuts, float* to) const {
    if (i + 2 >= steps_.size() || steps_[i].kind != Step::kRun || steps_[i + 1].kind != Step::kRun || threads() > 1)
      return false;
    const Step& last = steps_[i + 2];
    if (last.kind == Step::kBegin || next_wants(i + 3)) return false;
    if (!Strips::can(*steps_[i].layer, *steps_[i + 1].layer, *last.layer)) return false;
    Strips strips(*steps_[i].layer, *steps_[i + 1].layer, *last.layer, x);
    Flow between = flow;
    strips.from = between.from = flow.to;
    strips.middle = form_after(i, x.pixels(), true, between);
    between.from = strips.middle;
    strips.after = form_after(i + 1, strips.inside.pixels(), true, between);
    between.from = strips.after;
    if (last.kind == Step::kRun) strips.to = form_after(i + 2, strips.outside.pixels(), true, between);
    strips.choose();
    if (!strips.rows) return false;
    const bool closes = last.kind == Step::kClose;
    x = strips.run(x, closes ? shortcuts.back() : Image(), i + 3 == steps_.size() ? to : nullptr);
    if (closes) shortcuts.pop_back();
    flow.to = strips.to;
    flow.known = false;
    return true;
  }

  struct Step {
    enum Kind { kBegin, kRun, kClose } kind;
    std::shared_ptr<const Layer> layer;
    std::shared_ptr<const Program> shortcut;
    std::string name;

    // The shape after this step, by those of the shortcuts of the blocks around it.
    Image shape_after(const Image& x, std::vector<Image>& shortcuts) const {
      if (kind == kBegin) {
        shortcuts.push_back(shortcut ? shortcut->shape_after(x) : x);
        return x;
      }
      const Image y = layer->shape_after(x);
      check(y);
      if (kind == kRun) return y;
      if (!shortcuts.back().has_shape_of(y)) refuse("a shortcut has another shape than what it is added to");
      shortcuts.pop_back();
      return y;
    }
  };

  bool next_wants(size_t i) const {
    while (i < steps_.size() && (steps_[i].kind == Step::kBegin || steps_[i].layer->keeps_averages())) ++i;
    return i < steps_.size() && steps_[i].layer->wants_averages();
  }

  // How layer i leaves its image of about so many pixels, where its input came as the flow says. A block's input,
  // which is added to its answer, and what is given out are float32 and lie pixel by pixel. So does everything without
  // `bytes`, and what the next layer would have to find averages of.
  Form form_after(size_t i, int64_t pixels, bool bytes, const Flow& flow) const {
    if (i + 1 == steps_.size() || steps_[i + 1].kind == Step::kBegin) return {};
    const Layer &layer = *steps_[i].layer, &next = *steps_[i + 1].layer;
    const Form form = next.takes(pixels);
    if (!form.in_bytes()) return form.order == kPixels || layer.gives_planes(flow.from.order) ? form : Form();
    const bool leaves = layer.convolves() || (layer.keeps_averages() && flow.known);
    return bytes && layer.gives_bytes() && (leaves || !next.wants_averages()) ? form : Form();
  }

  std::vector<Step> steps_;
  int64_t open_ = 0;
};

}  // namespace pose
