// SPDX-License-Identifier: MIT
//
// Many processes beside the one that measures: its children. They die with it, or with this.
//
// Made before the fork of a pair; start() and await_all() belong to the process that measures.
#pragma once

#include <csignal>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include "bench/child.hpp"
#include "bench/semaphore.hpp"
#include "bench/shared_memory.hpp"

namespace holdfast::bench {

class Attendants {
 public:
  Attendants() = default;
  Attendants(const Attendants&) = delete;
  Attendants& operator=(const Attendants&) = delete;
  ~Attendants() {
    for (const pid_t child : children_) kill(child, SIGKILL);
    for (const pid_t child : children_) (void)reap(child);
  }

  // Each of `count` children does attend(index), which calls arrived() once and does not return.
  template <class Attend>
  void start(std::uint32_t count, Attend&& attend) {
    for (std::uint32_t index = 0; index < count; ++index)
      children_.push_back(start_child(*failure_, [&] { attend_or_tell(attend, index); }));
  }

  void arrived() { arrived_.post(); }

  // Until each has arrived. Throws std::runtime_error if one failed.
  void await_all() {
    for (std::size_t i = 0; i < children_.size(); ++i) arrived_.wait();
    if (!failure_->empty()) throw std::runtime_error(std::string("another process failed: ") + failure_->why());
  }

 private:
  // One that fails arrives, too: it is waited for.
  template <class Attend>
  void attend_or_tell(Attend& attend, std::uint32_t index) {
    try {
      attend(index);
    } catch (const std::exception& error) {
      failure_->say(error.what());
      arrived();
      _exit(1);
    }
  }

  SharedMemory<Failure> failure_;
  Semaphore arrived_;
  std::vector<pid_t> children_;
};

}  // namespace holdfast::bench
