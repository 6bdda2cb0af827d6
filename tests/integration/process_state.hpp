// SPDX-License-Identifier: MIT
//
// What this process has, as /proc says: descriptors and mappings. To find what leaks, and what an attacker can reach.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace holdfast::integration {

struct MappedRange {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  std::string access;  // "r--s"
  std::string path;    // "/dev/shm/holdfast.…", "/memfd:holdfast.… (deleted)"

  void* address() const { return reinterpret_cast<void*>(begin); }
  std::size_t bytes() const { return static_cast<std::size_t>(end - begin); }
};

// Mappings of segments, adjacent ones of one file joined.
std::vector<MappedRange> mapped_segments();
// The one that `address` lies in. Throws Broken if there is none.
MappedRange mapping_of(const void* address);

std::size_t open_descriptors();
std::size_t mapping_count();

// The descriptor of this process's connection to the Unix socket `path`, or -1.
int connection_to(const std::string& path);

}  // namespace holdfast::integration
