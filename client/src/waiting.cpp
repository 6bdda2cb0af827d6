// SPDX-License-Identifier: MIT
#include "client/src/waiting.hpp"

#include <algorithm>

#include "client/src/deadline.hpp"
#include "client/src/failure.hpp"
#include "client/src/sound.hpp"
#include "client/src/subscriber.hpp"
#include "proto/shm/bell.hpp"

namespace holdfast::client {

using shm::At;

namespace {

// No wait is longer without a look: a lost ring costs time, never a sample.
constexpr std::int64_t kSleepMaxNs = 1'000'000'000;

// A lane that has come is nothing to take yet.
bool look(hf_subscriber* const* subscribers, std::size_t count, std::size_t& ready) {
  for (std::size_t i = 0; i < count; ++i) {
    if (subscribers[i]->changes_due()) subscribers[i]->see_changes();
    if (!subscribers[i]->ready()) continue;
    ready = i;
    return true;
  }
  return false;
}

// Not where look() would find something, or has lanes to attach.
bool may_sleep(hf_subscriber* const* subscribers, std::size_t count) {
  return std::none_of(subscribers, subscribers + count,
                      [](const hf_subscriber* one) { return one->ready() || one->changes_due(); });
}

bool spin(hf_subscriber* const* subscribers, std::size_t count, const Deadline& deadline, std::size_t& ready) {
  std::uint64_t spin_ns = 0;
  for (std::size_t i = 0; i < count; ++i) spin_ns = std::max(spin_ns, subscribers[i]->spin_ns());
  if (spin_ns == 0) return false;
  const Deadline spinning(static_cast<std::int64_t>(std::min<std::uint64_t>(spin_ns, INT64_MAX)));
  do {
    for (int i = 0; i < 64; ++i) {
      if (look(subscribers, count, ready)) return true;
      cpu_pause();
    }
  } while (!spinning.expired() && !deadline.expired());
  return false;
}

// Drain and arm, announce on every lane, heavy fence, look again (for lanes that came, too: they are attached before the
// next sleep), sleep.
bool sleep_once(Session& session, std::uint32_t index, hf_subscriber* const* subscribers, std::size_t count,
                const Deadline& deadline, std::size_t& ready) {
  shm::Bell& bell = session.bell(index);
  const std::uint64_t ticket = session.fresh_ticket();
  shm::arm<Atomics, At::kSleepArm>(bell, ticket, SemaphoreSound{});
  for (std::size_t i = 0; i < count; ++i) subscribers[i]->announce(index);
  Atomics::heavy_fence<At::kSleepFence>();
  if (may_sleep(subscribers, count)) {
    std::int64_t most_ns = kSleepMaxNs;
    for (std::size_t i = 0; i < count; ++i) most_ns = subscribers[i]->sleep_ns(most_ns);
    const timespec until = deadline.bounded(most_ns);
    const bool rung = sem_clockwait(&bell.semaphore, CLOCK_MONOTONIC, &until) == 0;
    // Nobody, for as long as that: perhaps the broker has gone, and with it whoever would ring.
    for (std::size_t i = 0; !rung && i < count; ++i) subscribers[i]->look_for_broker();
  }
  shm::disarm<Atomics, At::kSleepDisarm>(bell, ticket);
  return look(subscribers, count, ready);
}

}  // namespace

int wait_for_any(hf_subscriber* const* subscribers, std::size_t count, std::int64_t timeout_ns, std::size_t& ready,
                 bool spun) {
  if (count == 0) return fail(HF_E_INVALID, "waiting for no subscriber at all");
  for (std::size_t i = 0; i < count; ++i) {
    if (subscribers[i] == nullptr) return fail(HF_E_INVALID, "subscriber " + std::to_string(i) + " is NULL");
    if (subscribers[i]->unusable()) return subscribers[i]->why_unusable();
    if (&subscribers[i]->session() != &subscribers[0]->session())
      return fail(HF_E_INVALID, "subscribers of different clients cannot be waited for together");
  }
  if (look(subscribers, count, ready)) return HF_OK;
  if (timeout_ns == 0) return HF_TIMEOUT;
  const Deadline deadline(timeout_ns);
  if (!spun && spin(subscribers, count, deadline, ready)) return HF_OK;
  Session& session = subscribers[0]->session();
  std::uint32_t bell = 0;
  if (const int leased = session.lease_bell(bell); leased != HF_OK) return leased;
  bool found = false;
  do {
    found = sleep_once(session, bell, subscribers, count, deadline, ready);
  } while (!found && !deadline.expired());
  session.return_bell(bell);
  return found ? HF_OK : HF_TIMEOUT;
}

}  // namespace holdfast::client
