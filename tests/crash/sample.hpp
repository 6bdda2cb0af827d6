// SPDX-License-Identifier: MIT
//
// Samples that say whether they are whole: a header with writer, position and a checksum (XXH3) over content and position.
// At least sizeof(SampleHeader) bytes, so that the smallest are inline. Used by the tests and by the processes they kill.
#pragma once

#include <cstdint>
#include <cstring>

#include <xxhash.h>

namespace holdfast::crash {

enum class Command : std::uint32_t {
  kNone,
  kHoldLossless,  // a lossless survivor stops taking here
  kHoldDropOldest,  // a drop-oldest one does
};

struct SampleHeader {
  std::uint32_t writer;  // which lane: chosen by the test
  Command command;
  std::uint64_t position;
  std::uint64_t checksum;
};
inline constexpr std::uint64_t kSampleBytesMin = sizeof(SampleHeader);

inline std::uint64_t checksum_of(const SampleHeader& header, const void* payload, std::uint64_t bytes) {
  const std::uint64_t seed =
      header.position * 0x9e3779b97f4a7c15 + header.writer + (bytes << 32) + static_cast<std::uint64_t>(header.command);
  return XXH3_64bits_withSeed(static_cast<const char*>(payload) + sizeof header, bytes - sizeof header, seed);
}

// Requires: bytes >= kSampleBytesMin.
inline void write_sample(void* payload, std::uint64_t bytes, std::uint32_t writer, std::uint64_t position,
                         Command command = Command::kNone) {
  SampleHeader header{writer, command, position, 0};
  auto* content = static_cast<unsigned char*>(payload) + sizeof header;
  std::uint64_t word = position * 0xbf58476d1ce4e5b9 + writer;
  for (std::uint64_t i = 0; i < bytes - sizeof header; i += sizeof word) {
    word = word * 0x9e3779b97f4a7c15 + 1;
    std::memcpy(content + i, &word, bytes - sizeof header - i < 8 ? bytes - sizeof header - i : 8);
  }
  header.checksum = checksum_of(header, payload, bytes);
  std::memcpy(payload, &header, sizeof header);
}

// False: torn, or not one of ours.
[[nodiscard]] inline bool read_sample(const void* payload, std::uint64_t bytes, SampleHeader& header) {
  if (bytes < kSampleBytesMin) return false;
  std::memcpy(&header, payload, sizeof header);
  return header.checksum == checksum_of(header, payload, bytes);
}

}  // namespace holdfast::crash
