// SPDX-License-Identifier: MIT
//
// Rates from counters: what `topics` said now, against what it said before. Nothing of the data path is touched.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace holdfast::cli {

struct TopicTraffic {
  std::string name;
  std::uint64_t publishers = 0;
  std::uint64_t subscribers = 0;
  std::uint64_t samples = 0;  // of the lanes that are there
  std::uint64_t payload_bytes = 0;
  std::uint64_t missed = 0;
  std::uint64_t lag = 0;  // of the subscriber that is furthest behind
  std::uint64_t memory_bytes = 0;
  std::optional<std::uint64_t> oldest_pin_ms;
  double samples_per_second = 0;
  double bytes_per_second = 0;
  double missed_per_second = 0;
  bool partial = false;  // more lanes or subscribers than one list holds: sums are of those that are listed
};

class Traffic {
 public:
  // The first call has nothing to compare with: its rates are 0. `now_ns`: monotonic.
  std::vector<TopicTraffic> measure(const std::vector<nlohmann::json>& topics, std::int64_t now_ns);

 private:
  // Counters only grow while their lane or reader lives; one that is new counts from 0.
  using Key = std::pair<std::uint64_t, std::uint64_t>;  // lane, handle (0: the lane itself)
  struct Counters {
    std::uint64_t samples = 0;
    std::uint64_t payload_bytes = 0;
    std::uint64_t missed = 0;
  };

  TopicTraffic measure_topic(const nlohmann::json& topic, double seconds);
  Counters grown(const Key& key, const Counters& now);

  std::map<Key, Counters> before_;
  std::map<Key, Counters> now_;
  std::int64_t before_ns_ = 0;
};

}  // namespace holdfast::cli
