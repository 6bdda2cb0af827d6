// SPDX-License-Identifier: MIT
//
// The same things through the public API, C or C++. Each workload uses topics of its own, below `topic`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "bench/workload.hpp"

namespace holdfast::bench {

enum class Api { kC, kCpp };

// A sample goes there on one topic and another one comes back on a second. One operation is one round trip.
struct Trip {
  std::uint64_t bytes = 32;
  bool touched = false;   // the first 64 bytes are written and read
  bool asleep = false;    // takes sleep; else they spin
  bool lossless = false;
};
std::unique_ptr<Workload> round_trip(Api api, const std::string& topic, const Trip& trip);

// One publisher sends samples of 32 bytes as fast as it can, one subscriber takes them. One operation is one sample
// taken: a drop-oldest subscriber may complete fewer than were published.
struct Flow {
  std::size_t batch = 1;
  bool lossless = true;
  std::uint32_t ring_slots = 0;  // 0: the default
  int clock = 0;                 // HF_CLOCK_*
};
std::unique_ptr<Workload> flow(Api api, const std::string& topic, const Flow& flow);

// The same with loans of `bytes`, of which the first line is written and read, one by one. One operation is one sample taken.
std::unique_ptr<Workload> loan_flow(const std::string& topic, std::uint64_t bytes, bool lossless);

// A round trip of 32 bytes, both sides asleep; the follower sleeps on `subscriptions` topics, of which one is busy.
std::unique_ptr<Workload> wait_many(const std::string& topic, std::uint32_t subscriptions);

// A loan of `bytes` is filled by memcpy() and published; the other side takes it and looks at both ends of it.
std::unique_ptr<Workload> write_in_place(Api api, const std::string& topic, std::size_t bytes, bool huge_pages);

// A client, a publisher and a subscriber are opened, and the first sample goes from one to the other. Closing them is not
// counted. One operation is all of that; the follower sleeps.
std::unique_ptr<Workload> opening(Api api, const std::string& topic);

}  // namespace holdfast::bench
