// SPDX-License-Identifier: MIT
//
// One thing that is measured: a floor, or the same thing done through the public API.
//
// Made by the harness before it forks, so that memory mapped by the constructor is shared. Then two processes, each
// pinned to a CPU of its own, use it: the lead, whose clock counts, and the follower. Both call open() once, then run()
// once per block with the same count, at the same time.
#pragma once

#include <chrono>
#include <cstdint>

namespace holdfast::bench {

enum class Role { kLead, kFollow };

class Workload {
 public:
  Workload() = default;
  Workload(const Workload&) = delete;
  Workload& operator=(const Workload&) = delete;
  virtual ~Workload() = default;

  // Throws where it cannot: the result is then `not_run`.
  virtual void open(Role) {}

  // One block of `count` operations. Returns how many were completed; the follower's number is what counts.
  virtual std::uint64_t run(Role role, std::uint64_t count) = 0;

  // What each operation of the lead's last block spent on what is not measured.
  virtual double uncounted_seconds() const { return 0; }
};

// Sleepers that answer at once may never sleep: the answer is there before they are. So each side of a round trip of
// sleepers is busy with itself for this long before it sends, and the other one is asleep by then.
class Settle {
 public:
  static constexpr std::chrono::microseconds kTime{50};
  static void wait() {
    const auto until = std::chrono::steady_clock::now() + kTime;
    while (std::chrono::steady_clock::now() < until) {
    }
  }
  static constexpr double seconds_per_round_trip() { return 2 * std::chrono::duration<double>(kTime).count(); }
};

// What a spinning loop says to the CPU.
inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

// The processes check what they hand each other: a fast wrong answer is not a result.
[[noreturn]] void wrong(const char* what);
inline void require(bool holds, const char* what) {
  if (!holds) [[unlikely]]
    wrong(what);
}

}  // namespace holdfast::bench
