// SPDX-License-Identifier: MIT
//
// Names that both sides of the control socket check.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace holdfast::control {

inline bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

// 1–32 bytes of [A-Za-z0-9_-]: no dot, so that no instance's files look like those of another.
inline bool is_instance_name(std::string_view name) {
  constexpr std::size_t kBytesMax = 32;
  return !name.empty() && name.size() <= kBytesMax && std::all_of(name.begin(), name.end(), is_word);
}

inline constexpr const char* kInstanceNameRule = "must be 1 to 32 of A-Z a-z 0-9 _ -";

}  // namespace holdfast::control
