// SPDX-License-Identifier: MIT
//
// What lists and `stats` show: the facts that the state machine knows. The shell adds what only shared memory knows
// (heads, cursors, pins) and turns both into JSON, as much as fits one line.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "daemon/broker/rows.hpp"

namespace holdfast::broker {

// Where to read a reader's counters.
struct ReaderReport {
  LaneId lane;
  SegmentId lane_segment;
  SegmentId records;
  std::uint64_t record;
  std::uint32_t ring;
  std::uint32_t chunks_max;
};

struct SubscriptionReport {
  HandleId handle;
  SessionId session;
  std::int32_t pid;
  std::string process;
  const char* delivery;
  std::vector<ReaderReport> readers;
  std::size_t readers_count;
};

struct LaneReport {
  LaneFacts facts;
  std::uint64_t bytes;
  bool sealed;
  std::size_t readers;
};

struct TopicReport {
  TopicFacts facts;
  std::size_t publishers;
  std::size_t subscribers;
  std::vector<LaneReport> lanes;
  std::size_t lanes_count;
  std::vector<SubscriptionReport> subscriptions;
  std::size_t subscriptions_count;
};

struct SessionReport {
  SessionFacts facts;
  bool connected;
  std::size_t publishers;
  std::size_t subscribers;
  std::uint64_t bytes;
  std::uint64_t quota_bytes_max;
};

struct SegmentReport {
  SegmentFacts facts;
  std::int32_t pid;
  std::string process;
  std::string topic;  // empty: none
};

struct Topics {
  std::vector<TopicReport> rows;
  bool more;
};
struct Sessions {
  std::vector<SessionReport> rows;
  bool more;
};
struct SegmentList {
  std::vector<SegmentReport> rows;
  bool more;
};

struct Stats {
  std::size_t sessions;
  std::size_t topics;
  std::size_t lanes;
  std::size_t publishers;
  std::size_t subscribers;
  std::size_t segments;
  std::uint64_t segment_bytes;
  std::uint64_t quota_bytes_max;
  std::size_t connections_max;
  std::size_t connections_per_uid;
  std::size_t sessions_max;
  struct RecordAt {
    SegmentId records;
    std::uint64_t record;
  };
  // Whose counters are summed up.
  std::vector<SegmentId> lane_segments;
  std::vector<RecordAt> readers;
};

struct Ping {};

using Report = std::variant<Ping, Stats, Topics, Sessions, SegmentList>;

}  // namespace holdfast::broker
