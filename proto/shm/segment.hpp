// SPDX-License-Identifier: MIT
//
// What every segment begins with, and the limits that all sides agree on.
//
// The broker fills the header of a fresh segment and stores `magic` last, with release; nobody ever writes it again
// in an honest system. Who maps a segment checks the header with `check_header` before using anything else of it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "proto/shm/atomics.hpp"

namespace holdfast::shm {

inline constexpr std::uint64_t kMagic = 0x3174736166646c68;  // "hldfast1", little endian
inline constexpr std::uint32_t kLayoutVersion = 1;

inline constexpr std::size_t kLine = 64;       // a cache line
inline constexpr std::size_t kLinePair = 128;  // what the adjacent-line prefetcher fetches
inline constexpr std::size_t kPage = 4096;

enum class SegmentKind : std::uint32_t { kLane = 1, kSession = 2, kBells = 3, kRoster = 4 };

struct SegmentHeader {
  std::uint64_t magic;           // broker, last, release; readers acquire. 0: not ready
  std::uint32_t layout_version;  // broker, before magic
  std::uint32_t kind;            // SegmentKind
  std::uint64_t bytes;           // at creation; a segment that has grown since is larger
  std::uint64_t segment_id;      // unique within the instance
  std::uint64_t generation;      // how often this id was given: 1 until ids are reused
  std::uint64_t epoch;           // of the broker that made it
  std::uint64_t reserved[2];
};
static_assert(sizeof(SegmentHeader) == 64);
static_assert(offsetof(SegmentHeader, layout_version) == 8);
static_assert(offsetof(SegmentHeader, kind) == 12);
static_assert(offsetof(SegmentHeader, bytes) == 16);
static_assert(offsetof(SegmentHeader, segment_id) == 24);
static_assert(offsetof(SegmentHeader, generation) == 32);
static_assert(offsetof(SegmentHeader, epoch) == 40);

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Fills the header of a fresh, zeroed segment. A reader that sees no magic sees nothing of it.
template <class A = NativeAtomics>
void write_header(SegmentHeader& header, SegmentKind kind, std::uint64_t bytes, std::uint64_t segment_id,
                  std::uint64_t epoch) {
  header.layout_version = kLayoutVersion;
  header.kind = static_cast<std::uint32_t>(kind);
  header.bytes = bytes;
  header.segment_id = segment_id;
  header.generation = 1;
  header.epoch = epoch;
  // Pairs with the acquire load in check_header().
  A::template store<At::kSegmentMagic>(header.magic, kMagic);
}

enum class HeaderCheck { kOk, kNotReady, kVersion, kWrong };

// Requires: at least one page is mapped at `header`.
inline HeaderCheck check_header(const SegmentHeader& header, SegmentKind kind, std::uint64_t segment_id) {
  const std::uint64_t magic = __atomic_load_n(&header.magic, __ATOMIC_ACQUIRE);
  if (magic == 0) return HeaderCheck::kNotReady;
  if (magic != kMagic) return HeaderCheck::kWrong;
  if (header.layout_version != kLayoutVersion) return HeaderCheck::kVersion;
  if (header.kind != static_cast<std::uint32_t>(kind) || header.segment_id != segment_id) return HeaderCheck::kWrong;
  return HeaderCheck::kOk;
}

}  // namespace holdfast::shm
