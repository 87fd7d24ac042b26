// What the operations of training take and give.

#pragma once

// Single operations: all of them together take the compiler ten seconds more.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "kept.h"

namespace pose {

using at::Tensor;

inline bool is_half(const Tensor& x) { return x.scalar_type() == at::kBFloat16; }
inline Kept kept(const Tensor& x) { return {x.const_data_ptr(), is_half(x)}; }
inline Place place(const Tensor& x) { return {x.mutable_data_ptr(), is_half(x)}; }

// An image as the operations read it: channels_last, in float32 or bfloat16.
inline Tensor last(const Tensor& x) {
  TORCH_CHECK((x.scalar_type() == at::kFloat || is_half(x)) && x.device().is_cpu() && x.dim() == 4,
              "needs images in float32 or bfloat16 on a CPU");
  return x.contiguous(at::MemoryFormat::ChannelsLast);
}

// Answers in float32 or double that are contiguous, still without values.
inline Tensor plain(at::IntArrayRef shape, const Tensor& like) {
  return at::empty(shape, like.options().dtype(at::kFloat).memory_format(at::MemoryFormat::Contiguous));
}

inline Tensor doubles(at::IntArrayRef shape, const Tensor& like) {
  return at::empty(shape, like.options().dtype(at::kDouble).memory_format(at::MemoryFormat::Contiguous));
}

}  // namespace pose
