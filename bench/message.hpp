// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace holdfast::bench {

// 32 bytes that name their position. Aligned: stores across a line would have to leave the CPU's store buffer before they
// can be loaded again.
struct alignas(32) Message {
  std::uint64_t words[4];

  static Message of(std::uint64_t position) { return {{position, position + 1, position + 2, position + 3}}; }
  bool is_of(std::uint64_t position) const { return words[0] + words[1] + words[2] + words[3] == 4 * position + 6; }
};
static_assert(sizeof(Message) == 32);

}  // namespace holdfast::bench
