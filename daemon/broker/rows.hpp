// SPDX-License-Identifier: MIT
//
// What the registry keeps of each thing: plain facts, as the state machine decides them. The state machine keeps more
// beside them (tables.hpp); the registry stores exactly these.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "daemon/broker/options.hpp"
#include "proto/shm/lane_layout.hpp"
#include "proto/shm/segment.hpp"

namespace holdfast::broker {

using ConnectionId = std::uint64_t;
using SessionId = std::uint32_t;
using SegmentId = std::uint64_t;
using TopicId = std::uint64_t;
using LaneId = std::uint64_t;
using HandleId = std::uint64_t;
using OperationId = std::uint64_t;
using TimeMs = std::int64_t;  // of the monotonic clock

struct SessionFacts {
  SessionId id = 0;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::int32_t pid = 0;
  std::string name;   // claimed
  std::string exe;    // claimed
  std::string token;       // as it was given out; empty in a session of an earlier broker
  std::string token_hash;  // 32 bytes: what the registry keeps of it
  bool membarrier = false;
  SegmentId records = 0;
  SegmentId bells = 0;
  TimeMs created_ms = 0;
  std::string library;  // version of the client's library, claimed. Filled by the next release (versions.hpp) only
};

struct SegmentFacts {
  SegmentId id = 0;
  shm::SegmentKind kind = shm::SegmentKind::kLane;
  bool sealed = false;
  std::uint64_t bytes = 0;
  std::uint64_t reserve_bytes = 0;
  SessionId session = 0;  // whose it is; 0: the broker's
  LaneId lane = 0;
  TimeMs created_ms = 0;
};

struct TopicFacts {
  TopicId id = 0;
  std::string name;
  std::uint64_t block = 0;  // in the roster
  bool decided = false;     // somebody has settled the options
  TopicOptions options;
  TopicType type;
};

struct LaneFacts {
  LaneId id = 0;
  TopicId topic = 0;
  SessionId session = 0;
  std::int32_t pid = 0;
  std::string process;  // the publisher's name, as claimed: it outlives its session
  HandleId publisher = 0;
  SegmentId segment = 0;
  std::uint64_t board = 0;  // in the publisher's bell segment
  std::uint64_t bytes_max = 0;
  shm::LaneState state = shm::LaneState::kOpen;
  bool shown = false;  // to subscribers
  std::vector<std::uint64_t> blocks;  // of the roster, in the order of the chain: those that clients can see
};

enum class Role : std::uint8_t { kPublisher, kSubscriber };
enum class Delivery : std::uint8_t { kDropOldest, kLossless };
enum class StartAt : std::uint8_t { kNext, kLatest, kOldest };

struct HandleFacts {
  HandleId id = 0;
  SessionId session = 0;
  TopicId topic = 0;
  Role role = Role::kPublisher;
  Delivery delivery = Delivery::kDropOldest;
  StartAt start = StartAt::kNext;
  std::uint64_t key = 0;  // chosen by the client that asked for it; 0: none
};

// One subscriber on one lane.
struct ReaderFacts {
  HandleId handle = 0;
  LaneId lane = 0;
  std::uint64_t record = 0;  // offset in its session segment
  std::uint32_t entry = 0;   // index in the lane's chain of roster blocks
  bool lossless = false;
  bool turned = false;
  bool fresh = false;  // the lane appeared after the subscription
};

using Row = std::variant<SessionFacts, SegmentFacts, TopicFacts, LaneFacts, HandleFacts, ReaderFacts>;

// All that a registry holds.
struct RegistryRows {
  std::vector<SessionFacts> sessions;
  std::vector<SegmentFacts> segments;
  std::vector<TopicFacts> topics;
  std::vector<LaneFacts> lanes;
  std::vector<HandleFacts> handles;
  std::vector<ReaderFacts> readers;
};

enum class Table : std::uint8_t { kSessions, kSegments, kTopics, kLanes, kHandles };

}  // namespace holdfast::broker
