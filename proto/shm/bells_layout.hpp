// SPDX-License-Identifier: MIT
//
// The bell segment: one per client process, mapped read-write by everybody who may have to ring it.
//
// It holds 64 bells, one per thread that waits at the same time, and after them the boards of the lanes that the
// process writes. Everything in it is a hint: whoever scribbles over it can delay a waiter by at most its bounded
// wait, never break it. The broker initialises the semaphores.
#pragma once

#include <cstddef>
#include <cstdint>

#include <semaphore.h>

#include "proto/shm/segment.hpp"

namespace holdfast::shm {

inline constexpr std::uint32_t kBellCount = 64;

struct Bell {
  // 0, or the ticket of the wait that is under way. Stored by the waiter, taken down by whoever rang it with a
  // compare-and-swap, after the post. A ringer that dies in between has posted already.
  std::uint64_t armed;
  std::uint64_t event;  // 0: semaphore; else this bell is an eventfd, which ringers get from the broker
  std::uint64_t reserved0[6];
  union {
    sem_t semaphore;  // process-shared
    std::uint8_t semaphore_room[64];
  };
};
static_assert(sizeof(sem_t) <= 64);
static_assert(sizeof(Bell) == 128);
static_assert(offsetof(Bell, event) == 8);
static_assert(offsetof(Bell, semaphore) == 64);

// One per lane that this process writes: bit i says that a reader whose roster index is i modulo 64 sleeps.
// Sleepers set bits; only the publisher takes the word down, with an exchange, before it rings.
struct Board {
  std::uint64_t sleepers;
  std::uint64_t reserved[7];
};
static_assert(sizeof(Board) == 64);

struct BellSegment {
  SegmentHeader segment;
  std::uint64_t ready[56];  // reserved for quiet lanes
  std::uint64_t reserved[448];
  Bell bells[kBellCount];
  // boards follow, from offset 12288
};
inline constexpr std::uint64_t kBoardsOffset = 12288;
static_assert(offsetof(BellSegment, ready) == 64);
static_assert(offsetof(BellSegment, bells) == kPage);
static_assert(sizeof(BellSegment) == kBoardsOffset);

}  // namespace holdfast::shm
