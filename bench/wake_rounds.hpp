// SPDX-License-Identifier: MIT
//
// Times the waking of many sleepers, round by round, and nothing else: neither how they get up nor how they lie down.
//
// Made before the fork; woken() is for the sleepers, the rest for the one that wakes them.
#pragma once

#include <chrono>
#include <cstdint>
#include <thread>

#include "bench/shared_memory.hpp"
#include "bench/workload.hpp"

namespace holdfast::bench {

class WakeRounds {
 public:
  explicit WakeRounds(std::uint32_t sleepers) : sleepers_(sleepers) {}

  // By each sleeper, when it was woken.
  void woken() { woken_->value.fetch_add(1, std::memory_order_relaxed); }

  // `count` times: wake() while all sleep, then waits until all were woken.
  template <class Wake>
  void run(std::uint64_t count, Wake&& wake) {
    using Clock = std::chrono::steady_clock;
    const auto start = Clock::now();
    std::chrono::nanoseconds waking{};
    for (std::uint64_t i = 0; i < count; ++i) {
      Settle::wait();
      const auto before = Clock::now();
      wake();
      waking += Clock::now() - before;
      wait_until_woken(++rounds_);
    }
    uncounted_ = std::chrono::duration<double>(Clock::now() - start - waking).count() / static_cast<double>(count);
  }

  double uncounted_seconds() const { return uncounted_; }

 private:
  // Looks now and then, asleep between two looks, rather than be told: the sleepers share this CPU and need it to lie down
  // again, and the one that told would be awake when the next round begins. Bounded by the deadline of the pair.
  void wait_until_woken(std::uint64_t rounds) {
    while (woken_->value.load(std::memory_order_relaxed) != rounds * sleepers_)
      std::this_thread::sleep_for(std::chrono::microseconds(50));
  }

  std::uint32_t sleepers_;
  SharedMemory<Line> woken_;
  std::uint64_t rounds_ = 0;
  double uncounted_ = 0;
};

}  // namespace holdfast::bench
