// SPDX-License-Identifier: MIT
//
// Tests that fill /dev/shm do so in a mount namespace of their own, with a small tmpfs over it; those that give a pid twice
// do so in a pid namespace of their own.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>

#include <unistd.h>

namespace holdfast::integration {

// True in a process whose /dev/shm has `bytes`. Elsewhere it runs the current test once more in such a process, takes
// its verdict over and returns false; the test is skipped, as not_run, where the machine allows no such namespace.
bool in_own_shm(std::uint64_t bytes);

// The same for a process that is pid 1 of a pid namespace, and alone there.
bool in_own_pids();

inline constexpr const char* kInside =
    "HOLDFAST_TEST_INSIDE";  // in the environment there: own_number() of who is outside

// What is this process's alone on this machine: its pid, unless that is one of a namespace.
inline std::string own_number() {
  const char* outside = std::getenv(kInside);
  return outside != nullptr ? std::string(outside) + "-inside" : std::to_string(::getpid());
}

}  // namespace holdfast::integration
