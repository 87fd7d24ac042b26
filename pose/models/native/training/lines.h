// Arrays that begin with a line of the cache, so that no vector lies in two, and whose values are not set before they are
// given.

#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

namespace pose {

constexpr std::size_t kLine = 64;  // bytes

template <typename Value>
struct LineAllocator {
  using value_type = Value;

  LineAllocator() = default;
  template <typename Other>
  LineAllocator(const LineAllocator<Other>&) {}

  Value* allocate(std::size_t size) {
    return static_cast<Value*>(::operator new(size * sizeof(Value), std::align_val_t{kLine}));
  }
  void deallocate(Value* values, std::size_t) { ::operator delete(values, std::align_val_t{kLine}); }

  template <typename Other>
  void construct(Other* value) {
    ::new (static_cast<void*>(value)) Other;
  }
  template <typename Other, typename... Arguments>
  void construct(Other* value, Arguments&&... arguments) {
    ::new (static_cast<void*>(value)) Other(static_cast<Arguments&&>(arguments)...);
  }

  bool operator==(const LineAllocator&) const { return true; }
};

using FloatLines = std::vector<float, LineAllocator<float>>;
using HalfLines = std::vector<uint16_t, LineAllocator<uint16_t>>;
using WordLines = std::vector<uint32_t, LineAllocator<uint32_t>>;

// Room for at least so many values.
template <typename Values>
inline auto* grown(Values& values, int64_t size) {
  if (static_cast<int64_t>(values.size()) < size) values.resize(size);
  return values.data();
}

}  // namespace pose
