// SPDX-License-Identifier: MIT
//
// The operations that the campaign `instructions` follows instruction by instruction, each in a worker of its own
// (step_job.cpp). The worker stops before the operation and after it; whoever traces it sees that (tracee.hpp).
#pragma once

#include <cstdint>
#include <span>

#include "tests/soak/board.hpp"

namespace holdfast::soak {

struct Operation {
  const char* name;
  void (*run)(const Board& board, Tally& tally);
};

// Spec::operation is an index of these.
std::span<const Operation> operations();

}  // namespace holdfast::soak
