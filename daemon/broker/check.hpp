// SPDX-License-Identifier: MIT
//
// Assertions that stay on in release builds: a failed one is a bug of the broker, never a peer's doing.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <source_location>

namespace holdfast::broker {

inline void check(bool holds, const char* what, std::source_location at = std::source_location::current()) {
  if (holds) [[likely]]
    return;
  std::fprintf(stderr, "holdfastd: %s:%u: assertion failed: %s\n", at.file_name(), static_cast<unsigned>(at.line()),
               what);
  std::abort();
}

}  // namespace holdfast::broker
