// Whether the processor has AMX, and the system lets this process use its tile registers, for which it has to ask.

#pragma once

#if defined(__linux__) && defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace pose {

// What AMX consists of, as bits of CPUID's leaf 7.
constexpr unsigned kAmxPairs = 1u << 22, kAmxTiles = 1u << 24, kAmxBytes = 1u << 25;

// Asks for it. From then on the process's signal stacks have to hold the registers: sigaltstack refuses those of 8 KiB, and
// where a thread has such a one the system refuses AMX.
inline bool amx_granted([[maybe_unused]] unsigned wanted) {
#if defined(__linux__) && defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & wanted) != wanted) return false;
  constexpr long kAsk = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kAsk, kTileData) == 0;
#else
  return false;
#endif
}

}  // namespace pose
