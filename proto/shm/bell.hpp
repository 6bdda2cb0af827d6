// SPDX-License-Identifier: MIT
//
// Ringing and arming bells (rows 8 and 14).
//
// A waiter drains old tokens, arms its bell with a fresh ticket, announces itself (a board, or `waits` in a lane), heavy
// fence, looks once more, and sleeps. A ringer posts first and then takes the ticket down with a compare-and-swap: a
// ringer that is stopped in between silences nobody, and never wipes the next arming. A bell is a hint: every sleep is
// bounded, and the truth is in the ring.
//
// `Sound` is what makes the noise, so that model tests can schedule it:  void post(Bell&)  and  void drain(Bell&).
#pragma once

#include <cstdint>

#include "proto/shm/bells_layout.hpp"

namespace holdfast::shm {

// Any process that maps the bell. If it dies after the post, the ticket stays and the next ringer posts once more.
template <class A, class Sound>
void ring(Bell& bell, Sound&& sound) {
  const std::uint64_t ticket = A::template load<At::kRingArmed>(bell.armed);
  if (ticket == 0) return;
  sound.post(bell);
  A::template step<At::kRingPost>();
  A::template compare_exchange<At::kRingDisarm>(bell.armed, ticket, std::uint64_t{0});
}

// The waiting thread. `ticket` is fresh: never used with this bell before, not 0. If we die armed, ringers post into
// the void until the broker has removed us.
template <class A, At kArm, class Sound>
void arm(Bell& bell, std::uint64_t ticket, Sound&& sound) {
  sound.drain(bell);
  A::template store<kArm>(bell.armed, ticket);
}

template <class A, At kDisarm>
void disarm(Bell& bell, std::uint64_t ticket) {
  A::template compare_exchange<kDisarm>(bell.armed, ticket, std::uint64_t{0});
}

// A reader says on the lane's board that it sleeps, and in its record on which bell. The caller arms first and does the
// heavy fence (At::kSleepFence) after the last board.
template <class A>
void announce_sleep(Board& board, std::uint64_t& record_bell, std::uint32_t entry_index, std::uint32_t bell) {
  A::template store<At::kSleepBell>(record_bell, std::uint64_t{bell} + 1);
  A::template fetch_or<At::kSleepBoard>(board.sleepers, std::uint64_t{1} << (entry_index % 64));
}

}  // namespace holdfast::shm
