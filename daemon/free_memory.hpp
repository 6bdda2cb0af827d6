// SPDX-License-Identifier: MIT
//
// How much memory there is for a segment: of the tmpfs, and of the machine. A tmpfs may be larger than the memory
// behind it, and then it is the out-of-memory killer that says no; so the broker asks first.
#pragma once

#include <cstdint>

namespace holdfast::daemon {

struct FreeMemory {
  std::uint64_t shm_total_bytes;
  std::uint64_t shm_free_bytes;
  std::uint64_t machine_free_bytes;  // less what is left for everybody else
};

// Reads /dev/shm's statvfs and /proc/meminfo. What cannot be read counts as unlimited.
FreeMemory free_memory();

}  // namespace holdfast::daemon
