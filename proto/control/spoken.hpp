// SPDX-License-Identifier: MIT
//
// What the two ends of a control socket speak, and how they agree. Used by broker and clients; docs/compatibility.md says
// which numbers must meet.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>

namespace holdfast::control {

// Protocols from `oldest` to `newest`, and one layout of shared memory.
struct Spoken {
  std::uint64_t oldest = 0;
  std::uint64_t newest = 0;
  std::uint64_t layout = 0;
};

// The protocol that both speak from now on: the newest that both know. Nothing: there is none.
constexpr std::optional<std::uint64_t> agreed(const Spoken& one, const Spoken& other) {
  const std::uint64_t newest = std::min(one.newest, other.newest);
  if (one.layout != other.layout || newest < std::max(one.oldest, other.oldest)) return std::nullopt;
  return newest;
}

// "protocol 1 and layout 1", "protocols 1 to 2 and layout 1"
inline std::string in_words(const Spoken& spoken) {
  const std::string newest = std::to_string(spoken.newest);
  const std::string protocols = spoken.oldest < spoken.newest
                                    ? "protocols " + std::to_string(spoken.oldest) + " to " + newest
                                    : "protocol " + newest;
  return protocols + " and layout " + std::to_string(spoken.layout);
}

}  // namespace holdfast::control
