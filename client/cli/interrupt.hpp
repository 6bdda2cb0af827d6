// SPDX-License-Identifier: MIT
//
// Ctrl-C, SIGTERM and SIGHUP ask the command to end: the handler only says so, in a flag and in a descriptor that every
// wait of ours polls. A second one ends the process on the spot. Main thread; the flag may be read by any.
#pragma once

#include <cstdint>

#include "holdfast/holdfast.h"

namespace holdfast::cli {

// Installs the handlers, ignores SIGPIPE. Once, first of all.
void watch_for_interrupts();

bool interrupted();

// Throws Ended (128 + the signal) after an interrupt.
void end_if_interrupted();

// The longest a call into the library may block before the flag is looked at again.
inline constexpr std::int64_t kLookNs = 100'000'000;

// Waits until `fd` is readable: true; or the time is over: false. `fd` -1: only the time. Negative time: for ever.
// Throws Ended on an interrupt.
bool wait_readable(int fd, std::int64_t timeout_ns);

// The same, and ends quietly (Ended{0}) when nobody reads our standard output any more.
bool wait_readable_or_closed(int fd, std::int64_t timeout_ns);

std::int64_t now_ns();

// A time limit: negative waits for ever.
class Deadline {
 public:
  explicit Deadline(std::int64_t timeout_ns) : end_ns_(timeout_ns < 0 ? -1 : now_ns() + timeout_ns) {}
  bool expired() const { return end_ns_ >= 0 && now_ns() >= end_ns_; }
  // What is left, at most `most_ns`.
  std::int64_t left_ns(std::int64_t most_ns) const {
    if (end_ns_ < 0) return most_ns;
    const std::int64_t left = end_ns_ - now_ns();
    return left < 0 ? 0 : left < most_ns ? left : most_ns;
  }

 private:
  std::int64_t end_ns_;
};

// Calls `step(timeout_ns)`, which blocks, in short turns until it gives something else than HF_TIMEOUT or HF_FULL, or the
// time is over.
template <class Step>
int in_turns(const Deadline& deadline, Step&& step) {
  while (true) {
    end_if_interrupted();
    const int result = step(deadline.left_ns(kLookNs));
    if ((result != HF_TIMEOUT && result != HF_FULL) || deadline.expired()) return result;
  }
}

}  // namespace holdfast::cli
