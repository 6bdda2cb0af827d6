// SPDX-License-Identifier: MIT
//
// What one topic costs while many others exist, and other things that one process measures by itself: blocks before and
// blocks after, or with few and with many in turn. Each runs in a process of its own, bound to the first of the two CPUs;
// its handles end with it. A result that cannot be had says why in PairResult::reason.
#pragma once

#include <cstdint>

#include "bench/pair.hpp"
#include "bench/pinning.hpp"

namespace holdfast::bench {

inline constexpr std::uint32_t kFewTopics = 10;
inline constexpr std::uint32_t kManyTopics = 10'000;
inline constexpr std::uint32_t kManySessions = 1'000;

// Publish and take 32 bytes on one topic, in one process. Floor: while kFewTopics exist, opened by the same process;
// measured: while kManyTopics do. The others are opened and closed between the blocks.
PairResult beside_topics(CpuPair cpus);

// The same. Measured: while kManySessions other processes are attached, each asleep on a topic of its own. They are started
// once, so all floor blocks come first.
PairResult beside_sessions(CpuPair cpus);

// Publish and take on kManyTopics topics in turn. Floor: a walk over as many cache lines in random order, kLinesPerTopic to
// a step: what one publish and one take touch that the step before did not.
inline constexpr std::uint32_t kLinesPerTopic = 14;
PairResult round_robin(CpuPair cpus);

// A client, a publisher and a subscriber are opened, and the first sample is taken. Floor: while kFewTopics exist; measured:
// while kManyTopics do.
PairResult opening_beside_topics(CpuPair cpus);

// Take and release. Floor: samples of 4 KiB; measured: of `bytes`. Nobody touches the payload.
PairResult take_and_release(CpuPair cpus, std::uint64_t bytes);

// Minor faults in 10 000 warm cycles of loan, publish, take and release of 1 MiB whose every page is written.
double faults_of_warm_cycles();

}  // namespace holdfast::bench
