// SPDX-License-Identifier: MIT
//
// Runs a floor and a measured workload in alternating blocks, in two pinned processes.
//
// The lead decides: it finds block lengths, throws the first pairs away, and goes on until it has enough pairs of which
// no block lost its CPU to another program (getrusage: involuntary switches of either process), or has tried long
// enough. If the undisturbed pairs are then fewer than 21, all count. Which block of a pair comes first alternates. The
// calling process waits, and ends both if one fails or the time is over.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/pinning.hpp"
#include "bench/workload.hpp"

namespace holdfast::bench {

inline constexpr std::uint32_t kPairsLeast = 21;

struct PairOptions {
  std::uint32_t pairs = 51;  // at least kPairsLeast
  double block_ms = 2;  // how long a block should take
  std::uint64_t count_most = ~0ull;  // of operations in a block
  bool sleeps = false;  // the workload gives its CPU away: a switch is no disturbance
};

// Seconds per operation.
struct BlockPair {
  double floor;
  double measured;
};

struct PairResult {
  std::vector<BlockPair> pairs;
  std::uint32_t disturbed = 0;  // pairs in which a process lost its CPU; thrown away if `pairs` are enough without
  std::string reason;  // not empty: there is no result, and this is why
};

PairResult run_pairs(Workload& floor, Workload& measured, const PairOptions& options, CpuPair cpus);

}  // namespace holdfast::bench
