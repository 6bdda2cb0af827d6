// SPDX-License-Identifier: MIT
//
// A wall clock that jumps for every process that is started as long as one of these lives, by libfaketime: its preloading
// and its settings are in the environment. Monotonic clocks are those of the machine, as when somebody sets the time.
#pragma once

#include <chrono>
#include <string>

namespace holdfast::soak {

class SteppingClock {
 public:
  // Empty: it is not installed.
  static std::string library();

  explicit SteppingClock(const std::string& library);
  SteppingClock(const SteppingClock&) = delete;
  SteppingClock& operator=(const SteppingClock&) = delete;
  ~SteppingClock();

  // From now on the wall clock is so much ahead of the machine's; negative: behind.
  void set(std::chrono::nanoseconds ahead);

 private:
  std::string directory_;
  std::string shared_;  // the name of what libfaketime shares between its processes: a semaphore and a memory
};

}  // namespace holdfast::soak
