// SPDX-License-Identifier: MIT
//
// Turns reports into JSON: the state machine's facts, and what only shared memory knows. Every value that a client can
// write is loaded once and bounded; a wrong one makes a wrong number and nothing else. A result never exceeds one line:
// a page ends early, and says so in `next`.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "daemon/broker/report.hpp"
#include "daemon/segments.hpp"

namespace holdfast::daemon {

struct About {
  std::string instance;
  std::string version;
  std::uint64_t epoch = 0;
  broker::TimeMs started_ms = 0;
  std::size_t swept_segments = 0;
  std::uint64_t requests = 0;
  std::uint64_t replies_failed = 0;
};

class Reporter {
 public:
  explicit Reporter(Segments& segments) : segments_(segments) {}

  nlohmann::json result(const broker::Report& report, const About& about, broker::TimeMs now);

  // The record is given to somebody else.
  void forget(broker::SegmentId records, std::uint64_t record) { pinned_since_.erase({records, record}); }
  void forget(broker::SegmentId records);

 private:
  nlohmann::json stats(const broker::Stats& stats, const About& about, broker::TimeMs now);
  nlohmann::json topic(const broker::TopicReport& report, broker::TimeMs now);
  nlohmann::json lane(const broker::LaneReport& report);
  nlohmann::json subscription(const broker::SubscriptionReport& report, broker::TimeMs now);
  nlohmann::json reader(const broker::ReaderReport& report, broker::TimeMs now);
  std::uint64_t pinned_bytes(const broker::ReaderReport& report, const shm::LaneHeader& lane,
                             const std::map<std::uint32_t, broker::TimeMs>& pinned);
  nlohmann::json session(const broker::SessionReport& report, broker::TimeMs now);
  nlohmann::json segment(const broker::SegmentReport& report, broker::TimeMs now);

  Segments& segments_;
  // (records, record) → chunk → when a request first saw it pinned. Grows with what is pinned, shrinks when asked again.
  std::map<std::pair<broker::SegmentId, std::uint64_t>, std::map<std::uint32_t, broker::TimeMs>> pinned_since_;
};

}  // namespace holdfast::daemon
