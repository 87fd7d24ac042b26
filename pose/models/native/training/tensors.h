// What the operations of training take and give.

#pragma once

// Single operations: all of them together take the compiler ten seconds more.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

namespace pose {

using at::Tensor;

// An image as the operations read it: channels_last.
inline at::Tensor last(const at::Tensor& x) {
  TORCH_CHECK(x.scalar_type() == at::kFloat && x.device().is_cpu() && x.dim() == 4, "needs float32 images on a CPU");
  return x.contiguous(at::MemoryFormat::ChannelsLast);
}

// An answer that is contiguous, still without values.
inline at::Tensor plain(at::IntArrayRef shape, const at::Tensor& like) {
  return at::empty(shape, like.options().memory_format(at::MemoryFormat::Contiguous));
}

}  // namespace pose
