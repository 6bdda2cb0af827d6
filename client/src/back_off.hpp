// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstdint>
#include <random>

#include <unistd.h>

#include "client/src/deadline.hpp"

namespace holdfast::client {

// How long until the next look for what is away (a broker, what only it can tell): up to 5 ms at first, up to 100 ms in
// the end. Half of it is by chance, so that those who lost the same broker do not come back at the same moment.
class BackOff {
 public:
  BackOff() : chance_(static_cast<std::uint32_t>(::getpid() << 8 ^ monotonic_ns())) {}

  std::int64_t next_ns() {
    std::uniform_int_distribution<std::int64_t> half(most_ns_ / 2, most_ns_);
    most_ns_ = std::min(2 * most_ns_, kMostNs);
    return half(chance_);
  }
  void reset() { most_ns_ = kFirstNs; }

 private:
  static constexpr std::int64_t kFirstNs = 5'000'000;
  static constexpr std::int64_t kMostNs = 100'000'000;
  std::int64_t most_ns_ = kFirstNs;
  std::minstd_rand chance_;
};

}  // namespace holdfast::client
