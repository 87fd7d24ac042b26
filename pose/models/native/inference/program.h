// Layers in a row, with shortcuts around some of them, run in one call.

#pragma once

#include <torch/custom_class.h>

#include <memory>
#include <optional>
#include <tuple>
#include <vector>

#include "layer.h"
#include "peak.h"

namespace pose {

class Program : public torch::CustomClassHolder {
 public:
  template <typename Kind, typename... Arguments>
  void add(Arguments&&... arguments) {
    steps_.push_back({Step::kRun, std::make_shared<Kind>(std::forward<Arguments>(arguments)...), {}});
  }

  // Whether a layer ran just before what is added next.
  bool follows_a_layer() const { return !steps_.empty() && steps_.back().kind != Step::kBegin; }

  // A block begins: its input, or what a program makes of it, is added by the layer before `end_block`.
  void begin_block(const std::optional<c10::intrusive_ptr<Program>>& shortcut) {
    steps_.push_back({Step::kBegin, nullptr, shortcut.value_or(c10::intrusive_ptr<Program>())});
  }

  void end_block() {
    const bool adds = !steps_.empty() && steps_.back().kind == Step::kRun && steps_.back().layer->convolves();
    TORCH_CHECK(adds, "a block ends with a convolution");
    steps_.back().kind = Step::kClose;
  }

  // Images (N, C, H, W) one by one: so what passes between layers stays in the cache. A batch is shared out among
  // threads, a few images one after the other among all of them.
  Tensor run(const Tensor& input) const {
    TORCH_CHECK(input.dim() == 4, "needs images (N, C, H, W), got ", input.dim(), " dimensions");
    TORCH_CHECK(input.scalar_type() == at::kFloat && input.device().is_cpu(), "needs float32 images on a CPU");
    const Tensor x = input.contiguous(at::MemoryFormat::ChannelsLast);
    const int64_t images = x.size(0);
    if (images == 0) {  // no image, but a shape to answer with
      const Tensor blank = at::zeros({1, x.size(1), x.size(2), x.size(3)}, x.options());
      return run_one(blank.contiguous(at::MemoryFormat::ChannelsLast)).narrow(0, 0, 0);
    }
    if (images == 1) return run_one(x);
    std::vector<Tensor> parts = x.split(1);
    const Tensor first = run_one(parts[0]);
    const int64_t size = first.numel();
    Tensor y = at::empty({images, first.size(1), first.size(2), first.size(3)}, x.options(), at::MemoryFormat::ChannelsLast);
    float* out = y.mutable_data_ptr<float>();
    const auto keep = [&](int64_t n, const Tensor& answer) {
      std::memcpy(out + n * size, answer.const_data_ptr<float>(), size * sizeof(float));
    };
    keep(0, first);
    if (images - 1 < threads()) {
      for (int64_t n = 1; n < images; ++n) keep(n, run_one(parts[n]));
      return y;
    }
    at::parallel_for(1, images, 1, [&](int64_t begin, int64_t end) {
      const c10::InferenceMode inference;
      for (int64_t n = begin; n < end; ++n) keep(n, run_one(parts[n]));
    });
    return y;
  }

  // The answer to a single image, and of each layer in the order in which they run (those of a shortcut before what is
  // within its block): seconds, and rows and columns of its input and of its output, (layers, 5) float64.
  std::tuple<Tensor, Tensor> timed(const Tensor& input) const {
    TORCH_CHECK(input.dim() == 4 && input.size(0) == 1, "a single image is timed");
    std::vector<double> times;
    const Tensor y = run_one(input.contiguous(at::MemoryFormat::ChannelsLast), &times);
    const int64_t layers = static_cast<int64_t>(times.size()) / 5;
    return {y, at::tensor(times, at::kDouble).view({layers, 5})};
  }

 private:
  // One image, channels_last; what `timed` says is added to `times`.
  Tensor run_one(Tensor x, std::vector<double>* times = nullptr) const {
    std::vector<Tensor> shortcuts;
    Flow flow;
    for (size_t i = 0; i < steps_.size(); ++i) {
      const Step& step = steps_[i];
      if (step.kind == Step::kBegin) {
        shortcuts.push_back(step.shortcut ? step.shortcut->run_one(x, times) : x);
        continue;
      }
      flow.wanted = next_wants(i + 1);
      flow.from = flow.to;
      flow.to = step.kind == Step::kRun ? order_after(i, x.size(2) * x.size(3)) : kPixels;
      flow.shortcut = Tensor();
      if (step.kind == Step::kClose) {
        flow.shortcut = shortcuts.back();
        shortcuts.pop_back();
      }
      if (!times) {
        x = step.layer->run(x, flow);
        continue;
      }
      const double start = thread_seconds();
      Tensor y = step.layer->run(x, flow);
      times->insert(times->end(), {thread_seconds() - start, static_cast<double>(x.size(2)), static_cast<double>(x.size(3)),
                                   static_cast<double>(y.size(2)), static_cast<double>(y.size(3))});
      x = std::move(y);
    }
    return x;
  }

  struct Step {
    enum Kind { kBegin, kRun, kClose } kind;
    std::shared_ptr<Layer> layer;
    c10::intrusive_ptr<Program> shortcut;
  };

  bool next_wants(size_t i) const {
    while (i < steps_.size() && steps_[i].kind == Step::kBegin) ++i;
    return i < steps_.size() && steps_[i].layer->wants_averages();
  }

  // How layer i leaves its image of about so many pixels. A block's input, which is added to its answer, and what is given
  // out are channels_last.
  Order order_after(size_t i, int64_t pixels) const {
    const bool free = i + 1 < steps_.size() && steps_[i + 1].kind != Step::kBegin && steps_[i].layer->convolves();
    return free ? steps_[i + 1].layer->takes(pixels) : kPixels;
  }

  std::vector<Step> steps_;
};

}  // namespace pose
