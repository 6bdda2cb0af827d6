// SPDX-License-Identifier: MIT
//
// Timeouts of the C ABI as moments of the monotonic clock: 0 looks, negative waits for ever.
#pragma once

#include <algorithm>
#include <cstdint>
#include <ctime>

namespace holdfast::client {

inline std::int64_t monotonic_ns(clockid_t clock = CLOCK_MONOTONIC) {
  timespec now{};
  clock_gettime(clock, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

class Deadline {
 public:
  explicit Deadline(std::int64_t timeout_ns)
      : never_(timeout_ns < 0),
        at_ns_(timeout_ns <= 0 ? 0 : saturating_add(monotonic_ns(), timeout_ns)) {}

  bool expired() const { return !never_ && (at_ns_ == 0 || monotonic_ns() >= at_ns_); }

  // The moment to sleep until: this deadline, or `bound_ns` from now, whichever is first.
  timespec bounded(std::int64_t bound_ns) const {
    std::int64_t at = monotonic_ns() + bound_ns;
    if (!never_) at = std::min(at, at_ns_);
    return {static_cast<time_t>(at / 1'000'000'000), static_cast<long>(at % 1'000'000'000)};
  }

  // What is left as a timeout, negative for ever: at least 1, because 0 means a look and not the end of a wait.
  std::int64_t left_ns() const { return never_ ? -1 : std::max<std::int64_t>(1, at_ns_ - monotonic_ns()); }

  // Milliseconds left for poll(): -1 for ever.
  int poll_ms() const {
    if (never_) return -1;
    const std::int64_t left = at_ns_ - monotonic_ns();
    return left <= 0 ? 0 : static_cast<int>(std::min<std::int64_t>((left + 999'999) / 1'000'000, 1'000'000));
  }

 private:
  static std::int64_t saturating_add(std::int64_t a, std::int64_t b) { return a > INT64_MAX - b ? INT64_MAX : a + b; }

  bool never_;
  std::int64_t at_ns_;
};

}  // namespace holdfast::client
