// Work that is shared out among threads.

#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace pose {

// Threads that a piece of work may be shared out among: as many as the caller gave, one within such work.
inline int64_t& threads() {
  static thread_local int64_t count = 1;
  return count;
}

// Within its life this thread has so many.
class WithThreads {
 public:
  explicit WithThreads(int64_t count) : before_(threads()) { threads() = count; }
  ~WithThreads() { threads() = before_; }
  WithThreads(const WithThreads&) = delete;
  WithThreads& operator=(const WithThreads&) = delete;

 private:
  int64_t before_;
};

// Calls `run(first, last)` for pieces of [begin, end), of `grain` or more if there are several, and throws what one throws.
template <typename Run>
inline void parallel_for(int64_t begin, int64_t end, int64_t grain, const Run& run) {
  const int64_t pieces = std::min(threads(), (end - begin + grain - 1) / grain);
  if (pieces <= 1) {
    if (begin < end) run(begin, end);
    return;
  }
#ifdef _OPENMP
  std::exception_ptr thrown;
  const int64_t all = threads();
#pragma omp parallel num_threads(all)  // always as many: other numbers would end threads and start new ones
  {
    const WithThreads alone(1);
    const int64_t count = std::min<int64_t>(omp_get_num_threads(), pieces), piece = omp_get_thread_num();
    if (piece < count) {
      try {
        run(begin + (end - begin) * piece / count, begin + (end - begin) * (piece + 1) / count);
      } catch (...) {
#pragma omp critical(pose_thrown)
        thrown = std::current_exception();
      }
    }
  }
  if (thrown) std::rethrow_exception(thrown);
#else
  run(begin, end);
#endif
}

}  // namespace pose
