// SPDX-License-Identifier: MIT
//
// What is measured of a Peer. Each checks what arrives.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "bench/peers/peer.hpp"

namespace holdfast::bench {

struct PeerTrip {
  std::size_t bytes = 32;
  bool touched = true;  // the first 64 bytes, or all if there are fewer, are written and read
  Wait wait = Wait::kSpin;
};

// A message goes there on one topic and another one comes back on a second. One operation is one round trip.
std::unique_ptr<Workload> peer_round_trip(MakePeer make, std::string topic, const PeerTrip& trip);

// 32 bytes, one by one; nothing is lost. One operation is one message received.
std::unique_ptr<Workload> peer_flow(MakePeer make, std::string topic, Wait wait);

// One operation is sending 32 bytes to all `receivers`, which are all in the follower and take it later.
std::unique_ptr<Workload> peer_fan_out(MakePeer make, std::string topic, std::uint32_t receivers);
inline constexpr std::uint64_t kFanOutPart = 64;  // messages that every receiver has room for

// A client, both ends of a topic, and the first message. Closing is not counted. The follower sleeps.
std::unique_ptr<Workload> peer_opening(MakePeer make, std::string topic);

// What one more topic costs, both ends in one process: files and bytes in /dev/shm, where runtime_folder() is, and
// descriptors. Counted in a process of its own: the libraries start threads, and this one forks.
struct PeerFootprint {
  double bytes;
  double files;
  double descriptors;
};
PeerFootprint peer_footprint(const MakePeer& make, const std::string& topic);

// For the footprint: what is in those folders now, and how many descriptors a process has.
inline constexpr int kFootprintTopics = 64;
PeerFootprint in_use_now(const std::string& process);

}  // namespace holdfast::bench
