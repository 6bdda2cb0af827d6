// SPDX-License-Identifier: MIT
//
// What the state machine keeps in memory: the registry's facts, and beside them what follows from them.
//
// Invariants (State::audit() checks them):
//   (1) every id in one table names a row of the other: sessions ↔ handles ↔ topics ↔ lanes ↔ segments.
//   (2) a reader is in its lane's `readers` and `places`, and in its subscriber's `lanes`, or in none of them.
//   (3) what allocators have given is exactly what the rows hold.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "daemon/broker/event.hpp"
#include "daemon/broker/limits.hpp"
#include "daemon/broker/range_allocator.hpp"
#include "daemon/broker/rows.hpp"
#include "proto/shm/bells_layout.hpp"
#include "proto/shm/session_layout.hpp"

namespace holdfast::broker {

struct Connection {
  Peer peer;
  std::string token;
  bool admitted = false;
  SessionId session = 0;  // after `hello` or `resume.end`
  SessionId resuming = 0;  // between `resume.begin` and `resume.end`
  std::set<HandleId> resumed;  // the handles that were listed by then
  std::uint64_t protocol = 0;  // agreed on with `hello` or `resume.begin`
  bool newer =
      false;  // the client knows later protocols than we do: what it sends may have members that we do not know
  SegmentId memory_asked = 0;  // lost segments up to this one were asked for
  bool awaits_memory = false;  // the last answer asked for some
};

struct Session {
  SessionFacts facts;
  ConnectionId connection = 0;  // 0: it hung up, the process may live
  RangeAllocator records{shm::kPage, kSessionReserve, shm::kRecordAlign};
  RangeAllocator boards{shm::kBoardsOffset, kBellsReserve, sizeof(shm::Board)};
  std::set<HandleId> publishers;
  std::set<HandleId> subscribers;
  std::map<std::uint64_t, HandleId> keys;         // of the requests that opened them
  std::set<SegmentId> segments;                   // charged to it
  std::map<std::uint32_t, std::uint64_t> events;  // bell → number of its eventfd
};

struct Topic {
  TopicFacts facts;
  std::set<HandleId> publishers;
  std::set<HandleId> subscribers;
  std::set<LaneId> lanes;
};

struct Reader {
  ReaderFacts facts;
  SessionId session = 0;
};

struct Lane {
  LaneFacts facts;
  std::vector<std::uint64_t> blocks;  // of the roster, in the order of the chain
  std::size_t linked = 0;             // how many of them clients can see
  std::vector<HandleId> places;       // by entry index; 0: free
  std::map<HandleId, Reader> readers;
  std::uint64_t flags = 0;        // of its first block
  bool ends_on_roster = false;    // sealed, and adopted, or lost: the broker cannot write its header
  TimeMs idle_since = 0;          // since it ended, and since its last reader left
  TimeMs drop_at = 0;             // its place in State::idle_; 0: not there
  std::uint64_t growing_to = 0;   // a GrowSegment is on its way; 0: none

  bool ended() const { return facts.state != shm::LaneState::kOpen; }
};

struct Publisher {
  HandleFacts facts;
  LaneId lane = 0;
};

struct Subscriber {
  HandleFacts facts;
  std::set<LaneId> lanes;       // attached
  std::set<LaneId> unattached;  // there was no memory for a record: tried again when it asks for its lanes
};

struct Tables {
  std::unordered_map<ConnectionId, Connection> connections;
  std::map<std::uint32_t, std::set<ConnectionId>> connections_of_uid;
  std::map<SessionId, Session> sessions;
  std::map<SegmentId, SegmentFacts> segments;
  std::unordered_map<TopicId, Topic> topics;
  std::map<std::string, TopicId> topic_ids;
  std::unordered_map<LaneId, Lane> lanes;
  std::unordered_map<HandleId, Publisher> publishers;
  std::unordered_map<HandleId, Subscriber> subscribers;
  // Adopted, but their file was not there: nothing of them can be handed out, unless their client gives them back.
  std::set<SegmentId> lost;
};

}  // namespace holdfast::broker
