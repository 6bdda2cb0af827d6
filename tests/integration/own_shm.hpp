// SPDX-License-Identifier: MIT
//
// Tests that fill /dev/shm do so in a mount namespace of their own, with a small tmpfs over it.
#pragma once

#include <cstdint>

namespace holdfast::integration {

// True in a process whose /dev/shm has `bytes`. Elsewhere it runs the current test once more in such a process, takes
// its verdict over and returns false; the test is skipped, as not_run, where the machine allows no such namespace.
bool in_own_shm(std::uint64_t bytes);

}  // namespace holdfast::integration
