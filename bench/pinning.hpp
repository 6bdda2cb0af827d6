// SPDX-License-Identifier: MIT
//
// Which two CPUs a pair of processes uses, and how a process takes its place on one.
#pragma once

#include <optional>
#include <utility>

namespace holdfast::bench {

using CpuPair = std::pair<int, int>;

// Two CPUs that this process may use, on different cores where there are such. Empty: it may use one only.
std::optional<CpuPair> choose_cpus();

// Pins the calling process. Throws std::system_error.
void take_cpu(int cpu);

}  // namespace holdfast::bench
