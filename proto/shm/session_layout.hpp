// SPDX-License-Identifier: MIT
//
// The session segment: one per client process, mapped read-write by it (and by the broker), read-only by the
// publishers that it subscribes to. It holds one reader record per (subscriber, lane).
//
// Byte 0 of its file carries the session's fcntl write lock: whoever can take it knows that the process is gone.
//
// A record is as large as its lane's chunk limit asks for: cursor, counters, then one pin byte per chunk. The
// broker places records and zeroes them before it gives them out; only the session's process writes them while
// they are given. A process that dies leaves its records as they are: the broker takes them off the rosters, and
// that is the whole repair.
#pragma once

#include <cstddef>
#include <cstdint>

#include "proto/shm/segment.hpp"

namespace holdfast::shm {

struct SessionHeader {
  SegmentHeader segment;
  std::uint32_t session;  // id, never reused within an instance
  std::uint32_t pid;      // in the broker's pid namespace, as the kernel says
  std::uint64_t reserved[503];
};
static_assert(sizeof(SessionHeader) == kPage);
static_assert(offsetof(SessionHeader, session) == 64);
static_assert(offsetof(SessionHeader, pid) == 68);

// The cursor of a reader that holds nobody back: not joined yet, or leaving.
inline constexpr std::uint64_t kCursorNone = ~std::uint64_t{0};

struct ReaderRecord {
  // Line pair. The next position to take: everything below is taken. Written by the reader, release, after the pin;
  // read by the publisher, acquire, before the pins. If the reader dies, the broker removes it from the roster.
  std::uint64_t cursor;
  std::uint64_t reserved0[15];

  // Counters for tools, and hints. Relaxed.
  std::uint64_t joined;  // the cursor at the first take: taken = cursor − joined − missed
  std::uint64_t missed;  // samples that this reader was too slow for
  std::uint64_t bell;    // 1 + the bell that was armed last for this reader; a hint
  std::uint64_t rewind;  // reserved for queues
  std::uint64_t low;     // reserved for streams: the lowest byte in use
  std::uint64_t reserved1[3];

  // chunks_max pin bytes follow, rounded up to a line: 1 while this process uses the chunk.
  std::uint8_t pins[64];
};
static_assert(sizeof(ReaderRecord) == 256);
static_assert(offsetof(ReaderRecord, joined) == 128);
static_assert(offsetof(ReaderRecord, missed) == 136);
static_assert(offsetof(ReaderRecord, bell) == 144);
static_assert(offsetof(ReaderRecord, rewind) == 152);
static_assert(offsetof(ReaderRecord, low) == 160);
static_assert(offsetof(ReaderRecord, pins) == 192);

inline constexpr std::uint64_t kRecordAlign = kLinePair;

constexpr std::uint64_t record_bytes(std::uint32_t chunks_max) {
  return round_up(offsetof(ReaderRecord, pins) + round_up(chunks_max, kLine), kRecordAlign);
}

}  // namespace holdfast::shm
