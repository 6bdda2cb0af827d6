// SPDX-License-Identifier: MIT
#include "client/cli/hexdump.hpp"

#include <algorithm>
#include <cstdio>

namespace holdfast::cli {

namespace {

constexpr std::uint64_t kPerLine = 16;

std::string line(const unsigned char* bytes, std::uint64_t offset, std::uint64_t count) {
  char piece[32];
  std::snprintf(piece, sizeof piece, "  %08llx ", static_cast<unsigned long long>(offset));
  std::string text = piece;
  for (std::uint64_t i = 0; i < kPerLine; ++i) {
    if (i % 8 == 0) text += ' ';
    if (i < count)
      std::snprintf(piece, sizeof piece, "%02x ", bytes[offset + i]);
    else
      std::snprintf(piece, sizeof piece, "   ");
    text += piece;
  }
  text += " |";
  for (std::uint64_t i = 0; i < count; ++i) {
    const unsigned char byte = bytes[offset + i];
    text += byte >= 0x20 && byte < 0x7f ? static_cast<char>(byte) : '.';
  }
  return text + "|\n";
}

}  // namespace

std::string hexdump(const void* bytes, std::uint64_t count, std::uint64_t bytes_max) {
  const auto* at = static_cast<const unsigned char*>(bytes);
  const std::uint64_t shown = std::min(count, bytes_max);
  std::string text;
  for (std::uint64_t offset = 0; offset < shown; offset += kPerLine)
    text += line(at, offset, std::min(kPerLine, shown - offset));
  if (shown < count) text += "  … " + std::to_string(count - shown) + " bytes more; --raw gives them all\n";
  return text;
}

}  // namespace holdfast::cli
