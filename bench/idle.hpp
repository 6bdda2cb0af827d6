// SPDX-License-Identifier: MIT
//
// What the broker does and has while nobody asks it for anything, with 1 000 topics open: 10 seconds of it.
#pragma once

namespace holdfast::bench {

// 10 MiB for the program and 4 KiB for each of the 1 000 topics in its tables.
inline constexpr double kIdleResidentMiB = 10 + 1000 * 4.0 / 1024;

struct Idle {
  double switches;  // voluntary context switches in 10 s
  double resident_mib;
};

// Measured once, then remembered. Requires: HOLDFAST_BENCH_BROKER names the broker's process, which has no watchdog.
const Idle& idle_broker();

}  // namespace holdfast::bench
