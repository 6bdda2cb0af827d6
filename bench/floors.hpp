// SPDX-License-Identifier: MIT
//
// What the machine can do without us: the least that two processes need for the same thing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "bench/workload.hpp"

namespace holdfast::bench {

// A word goes to the other CPU and another one comes back, both spinning. One operation is one round trip.
std::unique_ptr<Workload> cache_line_round_trip();

// Two process-shared POSIX semaphores; each side sleeps in sem_wait(). One operation is one round trip.
std::unique_ptr<Workload> semaphore_round_trip();

// One byte goes through a Unix stream socket and one comes back, both sides spinning. One operation is one round trip.
std::unique_ptr<Workload> socket_round_trip();

// One producer, one consumer, `slots` lines of 64 bytes with a sequence number and 32 bytes of payload each; nothing is
// lost. `batch` messages are written and taken at a time. One operation is one message.
std::unique_ptr<Workload> bare_ring(std::size_t slots, std::size_t batch);

// memcpy() of `bytes` into shared memory that was written before; the other side looks at both ends of it.
std::unique_ptr<Workload> warm_memcpy(std::size_t bytes);

// One post to each of `sleepers` processes, all of them asleep on a semaphore of their own.
std::unique_ptr<Workload> wake_semaphores(std::uint32_t sleepers);

}  // namespace holdfast::bench
