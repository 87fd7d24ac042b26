// What is measured beside layers: a thread's own time, and what its core can do at most.

#pragma once

#include <time.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "lanes.h"

namespace pose {

// Seconds that this thread has run for, which other programs do not add to; those of the clock where none are counted.
inline double thread_seconds() {
#ifdef CLOCK_THREAD_CPUTIME_ID
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
#else
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
#endif
}

// Float32 multiply-adds a second of one thread that never waits for memory: sums in registers alone. The median of turns
// that take so many seconds together.
inline double peak(double seconds) {
  constexpr int kSums = 12, kRounds = 1 << 17;
  volatile float half = 0.5f;  // so that nothing is known before
  const Lanes factor = Lanes{} + half, term = factor + half;
  Lanes sums[kSums] = {};
  std::vector<double> found;
  for (const double start = thread_seconds(); found.empty() || thread_seconds() - start < seconds;) {
    const double turn = thread_seconds();
    for (int i = 0; i < kRounds; ++i)
#pragma GCC unroll 12
      for (int j = 0; j < kSums; ++j) sums[j] = sums[j] * factor + term;
    found.push_back(static_cast<double>(kRounds) * kSums * kLanes / (thread_seconds() - turn));
  }
  for (const Lanes& sum : sums) half = sum[0];
  std::nth_element(found.begin(), found.begin() + found.size() / 2, found.end());
  return found[found.size() / 2];
}

}  // namespace pose
