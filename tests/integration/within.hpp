// SPDX-License-Identifier: MIT
//
// How long these tests wait for what must happen: a deadline that only a fault reaches, sanitizers and a busy machine included.
#pragma once

#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <string>

#include <sched.h>

namespace holdfast::integration {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

inline constexpr nanoseconds kSoon = seconds(60);

// A test gives up: what it waited for did not come, or a process of it failed.
class Broken : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

inline std::chrono::steady_clock::time_point now() { return std::chrono::steady_clock::now(); }

inline double milliseconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(now() - begin).count();
}

// Asks until the answer is yes. For state that another process owns and announces to nobody.
template <class Question>
bool eventually(Question&& question, nanoseconds within = kSoon) {
  const auto until = now() + within;
  do {
    if (question()) return true;
    ::sched_yield();
  } while (now() < until);
  return question();
}

}  // namespace holdfast::integration
