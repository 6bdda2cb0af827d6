// SPDX-License-Identifier: MIT
//
// Bytes for people: sixteen to a line, offset, hex, characters. Any thread.
#pragma once

#include <cstdint>
#include <string>

namespace holdfast::cli {

// At most `bytes_max` of them; a last line says how many more there are.
std::string hexdump(const void* bytes, std::uint64_t count, std::uint64_t bytes_max);

}  // namespace holdfast::cli
