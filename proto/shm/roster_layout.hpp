// SPDX-License-Identifier: MIT
//
// The roster: one segment per broker, written by the broker alone, mapped read-only by every client.
//
// It is a table of 128-byte blocks. A topic has one block (its `changes` counts the lanes that came and went), a
// lane has one block for its valid size, its flags and the first twelve readers, and further blocks, chained by
// `next`, for more readers. A reader's entry is one word, so it appears and disappears in one store. Entries keep
// their place while their reader is attached: the index is the reader's bit on the board (modulo 64).
#pragma once

#include <cstddef>
#include <cstdint>

#include "proto/shm/lane_layout.hpp"
#include "proto/shm/segment.hpp"

namespace holdfast::shm {

inline constexpr std::uint32_t kRosterEntries = 12;  // per block
inline constexpr std::uint32_t kReadersMax = 4096;   // per lane: a chain of 342 blocks
inline constexpr std::uint64_t kRosterReserve = std::uint64_t{256} << 20;  // address space that clients map

struct RosterHeader {
  SegmentHeader segment;
  std::uint64_t valid_bytes;  // how far the file reaches; broker: release; never shrinks
  std::uint64_t
      commits;      // of the broker's registry when it last replied: an older registry is known by it. Broker only
  std::uint64_t reserved[6];
};
static_assert(sizeof(RosterHeader) == 128);
static_assert(offsetof(RosterHeader, commits) == 72);
static_assert(offsetof(RosterHeader, valid_bytes) == 64);

struct RosterBlock {
  std::uint64_t next;     // offset of the next block of this lane, 0 at the end; release
  std::uint64_t size;     // lane: valid bytes of its segment; release, after fallocate. Never shrinks
  std::uint64_t changes;  // bumped, release, after any change of the block (topic: of its set of lanes)
  std::uint64_t flags;    // lane: kRosterFullFences, kRosterFinished, kRosterAborted
  std::uint64_t entries[kRosterEntries];
};
static_assert(sizeof(RosterBlock) == 128);
static_assert(offsetof(RosterBlock, size) == 8);
static_assert(offsetof(RosterBlock, changes) == 16);
static_assert(offsetof(RosterBlock, flags) == 24);
static_assert(offsetof(RosterBlock, entries) == 32);

// Somebody on this lane cannot call membarrier: everybody on it uses full fences where light ones would do.
inline constexpr std::uint64_t kRosterFullFences = 1;

// The lane has ended, and the broker could not say so in the lane itself: it is sealed, and this is not the broker that
// made it. What the lane's own `state` says comes first.
inline constexpr std::uint64_t kRosterFinished = 2;
inline constexpr std::uint64_t kRosterAborted = 4;

constexpr std::uint64_t roster_end(LaneState state) {
  return state == LaneState::kFinished ? kRosterFinished : state == LaneState::kAborted ? kRosterAborted : 0;
}
constexpr LaneState ended_by(std::uint64_t flags) {
  return (flags & kRosterAborted) != 0    ? LaneState::kAborted
         : (flags & kRosterFinished) != 0 ? LaneState::kFinished
                                          : LaneState::kOpen;
}

// An entry: session 32 | record offset / 128, 24 | flags 8. A whole entry of 0 is an empty place.
inline constexpr std::uint64_t kEntryPresent = 1;
inline constexpr std::uint64_t kEntryLossless = 2;
inline constexpr std::uint64_t kEntryTurned = 4;  // was lossless, is drop-oldest since it stalled

constexpr std::uint64_t make_entry(std::uint32_t session, std::uint64_t record_offset, std::uint64_t flags) {
  return (std::uint64_t{session} << 32) | ((record_offset / 128) & 0xffffff) << 8 | flags;
}
constexpr std::uint32_t entry_session(std::uint64_t entry) { return static_cast<std::uint32_t>(entry >> 32); }
constexpr std::uint64_t entry_record(std::uint64_t entry) { return ((entry >> 8) & 0xffffff) * 128; }
constexpr bool entry_gates(std::uint64_t entry) { return (entry & (kEntryLossless | kEntryTurned)) == kEntryLossless; }

}  // namespace holdfast::shm
