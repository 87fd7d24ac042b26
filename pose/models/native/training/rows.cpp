#include "rows.h"

#include <type_traits>

namespace pose {
namespace {

// Calls `run(values, to)` with both as pointers to what they are.
template <typename Run>
void with_forms(const Kept& from, const Place& to, const Run& run) {
  const auto* floats = static_cast<const float*>(from.values);
  const auto* halves = static_cast<const uint16_t*>(from.values);
  auto *to_floats = static_cast<float*>(to.values);
  auto *to_halves = static_cast<uint16_t*>(to.values);
  if (from.half) return to.half ? run(halves, to_halves) : run(halves, to_floats);
  to.half ? run(floats, to_halves) : run(floats, to_floats);
}

// The gradient of z from that of the activation at z, at its kinks as torch has it.
template <int kActivation, typename Value>
inline Value sloped(Value z, Value grad) {
  const Value zero = Value{}, six = zero + 6.0f;
  if constexpr (kActivation == kRelu) return z > zero ? grad : zero;
  if constexpr (kActivation == kRelu6) return (z > zero) & (z < six) ? grad : zero;
  if constexpr (kActivation == kHardswish) {
    const Value three = zero + 3.0f, inside = grad * (z * (1.0f / 3.0f) + 0.5f), left = z < -three ? zero : inside;
    return z > three ? grad : left;
  }
  return grad;
}

}  // namespace

void convert(const Kept& from, int64_t values, const Place& to) {
  with_forms(from, to, [&](auto* own, auto* out) {
    each_lanes(values, [&](auto kind, int64_t i) { put(out + i, get<decltype(kind)>(own + i)); });
  });
}

void normalize_rows(const Rows& rows, const RowNorm& norm, const Kept& x, int64_t pixels, const Place& to) {
  const float *a = norm.factors.data(), *b = norm.terms.data();
  with_activation(norm.activation, [&](auto activation) {
    with_forms(x, to, [&](auto* values, auto* out) {
      rows.each(pixels, [&](int64_t offset, int64_t width) {
        each_lanes(width, [&](auto kind, int64_t i) {
          using Value = decltype(kind);
          const Value z = get<Value>(values + offset + i) * get<Value>(a + i) + get<Value>(b + i);
          put(out + offset + i, activate<decltype(activation)::value>(z));
        });
      });
    });
  });
}

void add_rows(const Rows& rows, const float* values, int64_t pixels, float* to) {
  each_lanes(pixels * rows.channels, [&](auto kind, int64_t i) {
    using Value = decltype(kind);
    put(to + i, get<Value>(to + i) + get<Value>(values + i));
  });
}

void sum_rows(const Rows& rows, const float* values, int64_t pixels, Sums<1>& sum) {
  float* s = sum.own[0].data();
  rows.each(pixels, [&](int64_t offset, int64_t width) {
    each_lanes(width, [&](auto kind, int64_t i) {
      using Value = decltype(kind);
      put(s + i, get<Value>(s + i) + get<Value>(values + offset + i));
    });
    sum.next();
  });
}

void pool_rows(const Rows& rows, const RowNorm& norm, const Kept& x, int64_t pixels, Sums<3>& sums) {
  const float *a = norm.factors.data(), *b = norm.terms.data(), *m = norm.means.data();
  float *s = sums.own[0].data(), *d = sums.own[1].data(), *p = sums.own[2].data();
  with_activation(norm.activation, [&](auto activation) {
    with_forms(x, {nullptr, false}, [&](auto* values, auto*) {
      rows.each(pixels, [&](int64_t offset, int64_t width) {
        each_lanes(width, [&](auto kind, int64_t i) {
          using Value = decltype(kind);
          const Value value = get<Value>(values + offset + i), z = value * get<Value>(a + i) + get<Value>(b + i);
          const Value steep = sloped<decltype(activation)::value>(z, Value{} + 1.0f);
          put(s + i, get<Value>(s + i) + activate<decltype(activation)::value>(z));
          put(d + i, get<Value>(d + i) + steep);
          put(p + i, get<Value>(p + i) + steep * (value - get<Value>(m + i)));
        });
        sums.next();
      });
    });
  });
}

void count_rows(const Rows& rows, const RowNorm& norm, const Kept& x, int64_t pixels, const float* gradients,
                const float* shares, Sums<2>& sums, const Place& to) {
  const float *a = norm.factors.data(), *b = norm.terms.data(), *m = norm.means.data();
  const float* e = shares ? shares : norm.none.data();
  float *s = sums.own[0].data(), *p = sums.own[1].data();
  with_activation(norm.activation, [&](auto activation) {
    with_forms(x, to, [&](auto* values, auto* out) {
      rows.each(pixels, [&](int64_t offset, int64_t width) {
        each_lanes(width, [&](auto kind, int64_t i) {
          using Value = decltype(kind);
          const Value value = get<Value>(values + offset + i), up = get<Value>(gradients + offset + i);
          const Value z = value * get<Value>(a + i) + get<Value>(b + i);
          const Value own = sloped<decltype(activation)::value, Value>(z, up + get<Value>(e + i));
          put(s + i, get<Value>(s + i) + own);
          put(p + i, get<Value>(p + i) + own * (value - get<Value>(m + i)));
          if (out) put(out + offset + i, up);
        });
        sums.next();
      });
    });
  });
}

void backward_rows(const Rows& rows, const RowNorm& norm, const Kept& x, int64_t pixels, const Kept& gradients,
                   const float* shares, const float* steep, const float* level, const Place& to) {
  const float *a = norm.factors.data(), *b = norm.terms.data(), *m = norm.means.data();
  const float* e = shares ? shares : norm.none.data();
  with_activation(norm.activation, [&](auto activation) {
    with_forms(x, to, [&](auto* values, auto* out) {
      const auto* above = static_cast<decltype(values)>(gradients.values);  // are kept as the features are
      rows.each(pixels, [&](int64_t offset, int64_t width) {
        each_lanes(width, [&](auto kind, int64_t i) {
          using Value = decltype(kind);
          const Value value = get<Value>(values + offset + i), factor = get<Value>(a + i);
          const Value up = get<Value>(above + offset + i) + get<Value>(e + i), z = value * factor + get<Value>(b + i);
          const Value own = sloped<decltype(activation)::value>(z, up);
          put(out + offset + i,
              own * factor + ((value - get<Value>(m + i)) * get<Value>(steep + i) + get<Value>(level + i)));
        });
      });
    });
  });
}

void moment_rows(const Rows& rows, const float* values, int64_t pixels, const float* origin, Sums<2>& sums,
                 const Place& to) {
  float *s = sums.own[0].data(), *q = sums.own[1].data();
  with_forms({values, false}, to, [&](auto* from, auto* out) {
    rows.each(pixels, [&](int64_t offset, int64_t width) {
      each_lanes(width, [&](auto kind, int64_t i) {
        using Value = decltype(kind);
        if constexpr (std::is_same_v<decltype(from), const float*>) {
          const Value own = get<Value>(from + offset + i), value = own - get<Value>(origin + i);
          put(s + i, get<Value>(s + i) + value);
          put(q + i, get<Value>(q + i) + value * value);
          if (out) put(out + offset + i, own);
        }
      });
      sums.next();
    });
  });
}

}  // namespace pose
