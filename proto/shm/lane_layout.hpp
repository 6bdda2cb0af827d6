// SPDX-License-Identifier: MIT
//
// The lane: what one publisher writes and many subscribers read. Layout only; the algorithms are in
// lane_writer.hpp and lane_reader.hpp.
//
//     0 ┌──────────────────────────────┐
//       │ lane header, one page        │  head, floor, state: a line pair each
//  4096 ├──────────────────────────────┤
//       │ ring: 64-byte slots          │  a power of two of them, rounded up to whole pages
//       ├──────────────────────────────┤
//       │ chunks                       │  one sample's payload and attributes each
//       └──────────────────────────────┘  valid size: in the roster, grown by the broker
//
// Mapped read-write by its publisher, read-only by everybody else. Nothing in here is trusted by a subscriber:
// ring size, chunk limit and valid size come from the broker (reply and roster), never from the lane.
#pragma once

#include <cstddef>
#include <cstdint>

#include "proto/shm/segment.hpp"

namespace holdfast::shm {

inline constexpr std::uint32_t kRingSlotsMin = 8;
inline constexpr std::uint32_t kRingSlotsMax = 1u << 20;
inline constexpr std::uint32_t kRingSlotsDefault = 64;
inline constexpr std::uint32_t kChunksMax = 1u << 16;  // the largest chunks_max that a lane can be opened with
inline constexpr std::uint32_t kChunksDefault = 64;
inline constexpr std::uint32_t kInlineBytesMax = 32;
inline constexpr std::uint64_t kPayloadBytesMax = (std::uint64_t{1} << 48) - 1;
inline constexpr std::uint32_t kAttributeBytesMax = 65536;
inline constexpr std::uint64_t kPayloadAlign = 64;

enum class LaneState : std::uint64_t { kOpen = 0, kFinished = 1, kAborted = 2 };

// One position of the ring, one cache line. All words are accessed as relaxed atomics except the stamp.
struct Slot {
  // 2·position + 2 once the sample is complete, 0 before the first. Written last, release; readers acquire.
  // If the publisher dies before this store, readers see the older stamp: nothing yet.
  std::uint64_t stamp;
  std::uint64_t size;  // bits 0–47 payload bytes, 48–63 flags
  std::uint64_t tags;  // bits 0–31 attribute bytes, 32–63 type
  std::uint64_t time;  // CLOCK_MONOTONIC nanoseconds, 0 where the topic has no clock
  // The payload itself if the inline flag is set; else chunk index, payload offset in the segment, and two words
  // reserved for queues (home lane, ticket).
  std::uint64_t words[4];
};
static_assert(sizeof(Slot) == 64);
static_assert(offsetof(Slot, size) == 8);
static_assert(offsetof(Slot, tags) == 16);
static_assert(offsetof(Slot, time) == 24);
static_assert(offsetof(Slot, words) == 32);

inline constexpr std::uint64_t kSizeMask = kPayloadBytesMax;
inline constexpr std::uint64_t kFlagInline = std::uint64_t{1} << 48;
inline constexpr std::uint64_t kFlagsKnown = kFlagInline;

struct LaneHeader {
  SegmentHeader segment;

  // Constants, written by the broker before the lane is handed out. For people and tools; readers use the reply.
  std::uint32_t ring_slots;
  std::uint32_t chunks_max;
  std::uint64_t lane_id;
  std::uint64_t topic_id;
  std::uint32_t session;  // of the publisher
  std::uint32_t reserved0[9];

  // Line pair: written by the publisher with every publish, read by tools, and by readers that join or jump.
  std::uint64_t head;           // positions published; release
  std::uint64_t payload_bytes;  // sum over all samples; relaxed
  std::uint64_t exhausted;      // loans that found no memory; relaxed
  std::uint64_t full;           // publishes that found no room; relaxed
  std::uint64_t reserved1[12];

  // Line pair: written by the publisher once per quarter ring and at reclaim, read by drop-oldest readers.
  std::uint64_t floor;  // positions below it may be reclaimed
  std::uint64_t reserved2[15];

  // Line pair: written rarely.
  std::uint64_t state;  // LaneState; publisher: release; broker: compare-and-swap from open
  std::uint64_t waits;  // 0, or 1 + the bell on which the publisher waits for room; release
  std::uint64_t reserved3[14];

  // Reserved for streams: bytes announced and bytes complete, a line pair each.
  std::uint64_t reserved;
  std::uint64_t reserved4[15];
  std::uint64_t written;
  std::uint64_t reserved5[15];

  std::uint64_t reserved6[32];  // 768–1023
  // Reserved for queues: one owner word per chunk, for the first 64; those of larger lanes follow the ring.
  std::uint64_t owners[64];
  std::uint8_t reserved7[kPage - 1536];
};
static_assert(sizeof(LaneHeader) == kPage);
static_assert(offsetof(LaneHeader, ring_slots) == 64);
static_assert(offsetof(LaneHeader, lane_id) == 72);
static_assert(offsetof(LaneHeader, topic_id) == 80);
static_assert(offsetof(LaneHeader, session) == 88);
static_assert(offsetof(LaneHeader, head) == 128);
static_assert(offsetof(LaneHeader, payload_bytes) == 136);
static_assert(offsetof(LaneHeader, exhausted) == 144);
static_assert(offsetof(LaneHeader, full) == 152);
static_assert(offsetof(LaneHeader, floor) == 256);
static_assert(offsetof(LaneHeader, state) == 384);
static_assert(offsetof(LaneHeader, waits) == 392);
static_assert(offsetof(LaneHeader, reserved) == 512);
static_assert(offsetof(LaneHeader, written) == 640);
static_assert(offsetof(LaneHeader, owners) == 1024);

constexpr std::uint64_t stamp_of(std::uint64_t position) { return 2 * position + 2; }
constexpr std::uint64_t position_of(std::uint64_t stamp) { return stamp / 2 - 1; }

// No publisher gets as far: at 10^9 samples a second in 146 years. What a lane says beyond it is a lie, and a cursor that
// followed would meet stamps that have wrapped.
inline constexpr std::uint64_t kPositionMax = std::uint64_t{1} << 62;

inline constexpr std::uint64_t kRingOffset = kPage;
constexpr std::uint64_t chunks_offset(std::uint32_t ring_slots) {
  return kRingOffset + round_up(std::uint64_t{ring_slots} * sizeof(Slot), kPage);
}
// Where a sample's attributes begin, relative to its payload.
constexpr std::uint64_t attributes_offset(std::uint64_t payload_bytes) { return round_up(payload_bytes, 8); }

constexpr bool is_power_of_two(std::uint64_t value) { return value != 0 && (value & (value - 1)) == 0; }

}  // namespace holdfast::shm
