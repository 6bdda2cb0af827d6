// SPDX-License-Identifier: MIT
//
// Peers whose API is not C or C++: two programs of ours, a lead and a follower, each a child of the process that has
// that role in the pair, on its CPU. They are told on stdin, line by line, and answer on stdout:
//
//   arguments        key=value: role, what, bytes, touched, wait, receivers, topic, folder, prefix
//   <- ready         both ends are open;  or "cannot WHY"
//   -> block N       N operations, as in bench/workload.hpp
//   <- DONE NS       how many were completed, and how long they took, by its own clock
//   end of stdin     it closes what it opened and ends
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bench/peers/workloads.hpp"

namespace holdfast::bench {

struct External {
  std::vector<std::string> command;
  std::string what;  // roundtrip, flow, fanout, open, footprint
  std::string topic;
  PeerTrip trip{};
  std::uint32_t receivers = 1;
  std::uint64_t warm_up = 0;  // operations before the first block
};

std::unique_ptr<Workload> external(const External& external);
PeerFootprint external_footprint(const External& external);

// A program that must run as long as we do; it has said "ready" when the constructor returns. Throws.
class Companion {
 public:
  explicit Companion(const std::vector<std::string>& command);
  Companion(const Companion&) = delete;
  Companion& operator=(const Companion&) = delete;
  ~Companion();

 private:
  std::unique_ptr<class Program> program_;
};

}  // namespace holdfast::bench
