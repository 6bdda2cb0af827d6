// SPDX-License-Identifier: MIT
//
// A worker that is followed instruction by instruction (ptrace): it has asked for it and stops itself, with SIGSTOP, where
// that begins and where it ends (step_job.cpp). Used by the thread that started it.
#pragma once

#include <cstdint>

#include <sys/user.h>

#include "tests/soak/child.hpp"

namespace holdfast::soak {

class Tracee {
 public:
  enum class Stop {
    kAtInstruction,
    kByItself,
    kEnded,  // and is reaped
  };
  static constexpr std::uint64_t kElsewhere = ~std::uint64_t{0};

  explicit Tracee(Child& child) : child_(child) {}

  // All wait until it stops. First: full speed, to where it stops by itself.
  Stop begin();
  // One instruction; a system call is one.
  Stop step();
  // Full speed, to the first time that it comes to this place. Requires: a place that where() has given.
  Stop go_to(std::uint64_t place);
  // It goes on without being followed.
  void let_go();

  // Where it is in the code of libholdfast, from its first byte on: the same in every worker. kElsewhere: not in there.
  std::uint64_t where() const;

 private:
  Stop resume(int request);
  user_regs_struct registers() const;
  void find_code();

  Child& child_;
  int signal_ = 0;  // came meanwhile; it is told when it goes on
  std::uint64_t code_begin_ = 0;  // of libholdfast
  std::uint64_t code_end_ = 0;
};

}  // namespace holdfast::soak
