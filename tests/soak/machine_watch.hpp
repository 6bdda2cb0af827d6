// SPDX-License-Identifier: MIT
//
// Notes when the machine itself stands still: one control thread per CPU sleeps a millisecond at a time and writes down when
// it came late. A gap of a worker counts without what a control thread shared.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "tests/soak/board.hpp"

namespace holdfast::soak {

class MachineWatch {
 public:
  MachineWatch();
  MachineWatch(const MachineWatch&) = delete;
  MachineWatch& operator=(const MachineWatch&) = delete;
  ~MachineWatch();

  // The part of the gap that no control thread shared: the thread that shared most of it decides.
  std::uint64_t unshared_ns(Gap gap) const;

 private:
  struct Control {
    mutable std::mutex mutex;
    std::vector<Gap> late;  // in order
    std::thread thread;
  };

  void watch(Control& control, int cpu);

  std::atomic<bool> stop_{false};
  std::vector<std::unique_ptr<Control>> controls_;
};

}  // namespace holdfast::soak
