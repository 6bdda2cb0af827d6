// SPDX-License-Identifier: MIT
//
// The broker: who is connected, which topics, lanes and handles there are, and what happens to them. step() takes one
// event and returns what to do. No system calls, no clock, no threads: time comes with the event, randomness too.
//
// A request that needs memory is an Operation: it reserves its places in the tables, asks for its segments one by one,
// and commits when the last one is there. If one fails, everything that it reserved and created goes back, and the
// tables are as before. Segments that were grown on the way keep their size: the next request uses it.
//
// Invariants:
//   (1) between two events no operation is under way, but for growing lanes, which may take long: the shell answers all
//       other actions at once.
//   (2) ids are given in ascending order and never again.
//   (3) what others must see first comes first in the actions (rows of the ordering rules): record → entry → `changes`
//       → ring → reply; entry gone → record zeroed → given again; off the roster → ring the writer; lane ended → ring
//       its readers → session's row deleted.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/broker/action.hpp"
#include "daemon/broker/event.hpp"
#include "daemon/broker/params.hpp"
#include "daemon/broker/refusal.hpp"
#include "daemon/broker/tables.hpp"
#include "proto/shm/roster_layout.hpp"

namespace holdfast::broker {

// What the broker is told at its start.
struct BrokerSetup {
  std::string instance = "default";
  std::string version;
  std::uint64_t epoch = 1;
  std::uint32_t uid = 0;  // the broker's own
  bool stored = false;  // sealed segments outlive the broker by themselves: clients need not keep their descriptors
  std::optional<std::uint32_t> group;  // whose members may connect, too; none: only its own uid, and root
  std::uint64_t session_bytes_max = 0;  // 0: no quota
  std::size_t sessions_max = kSessionsMax;
  std::size_t connections_max = kConnectionsMax;
  std::size_t connections_per_uid = kConnectionsPerUidDefault;
  SegmentId roster = 1;  // made by the shell
  std::uint64_t roster_bytes = kRosterBytesFirst;
  TimeMs started_ms = 0;
  // The last ids that earlier brokers of this instance gave.
  SessionId last_session = 0;
  std::uint64_t last_id = 1;  // of everything else
};

class State {
 public:
  explicit State(BrokerSetup setup);

  // Requires: `now` does not fall; after actions with an operation, its SegmentReady comes next (see invariant 1).
  [[nodiscard]] Actions step(TimeMs now, Event event);

  const Tables& tables() const { return tables_; }
  // May this connection give segments back now, and this one? nullptr: no.
  bool awaits_memory(ConnectionId connection) const;
  const SegmentFacts* awaited_segment(ConnectionId connection, SegmentId segment) const;
  bool draining() const { return draining_; }

  // Takes over what an earlier broker left: the rows (check_rows() found them sound), the roster's blocks as they are in
  // memory, by offset / 128, the sessions whose process is gone, and the segments whose file is not there. What the
  // earlier broker had begun is done to its end or undone: afterwards memory is as the rows say. Requires: nothing has
  // happened yet.
  [[nodiscard]] Actions adopt(TimeMs now, const RegistryRows& rows, const std::vector<shm::RosterBlock>& roster,
                              const std::set<SessionId>& gone, std::set<SegmentId> lost);

  // Checks the invariants of the tables. For tests: it looks at every row.
  void audit() const;

 private:
  struct Call {
    ConnectionId connection = 0;
    nlohmann::json id;
  };
  enum class Kind : std::uint8_t {
    kHello,
    kOpenPublisher,
    kMapped,
    kOpenSubscriber,
    kListLanes,
    kGrowLane,
    kTurn,
    kOpenEvent,
  };
  struct Operation {
    Operation(Kind what, Call whose) : kind(what), call(std::move(whose)) {}

    Kind kind;
    Call call;
    SessionId session = 0;
    TopicId topic = 0;
    HandleId handle = 0;
    LaneId lane = 0;  // kListLanes: list those above it
    HandleId reader = 0;  // kTurn: the subscriber
    std::uint64_t value = 0;  // kTurn: the cursor that it must still have; kOpenEvent: the bell
    std::uint64_t key = 0;  // of a request that opens a handle
    Outcome outcome;  // of the last need
    std::vector<Action> needs;
    std::size_t next = 0;
    std::map<SegmentId, std::uint64_t> ends;  // how far each segment must reach
    std::vector<SegmentId> added;  // segments that it makes
    std::vector<std::pair<HandleId, LaneId>> readers;  // reserved, not yet on a roster
    bool topic_is_new = false;
    std::optional<TopicFacts> topic_before;  // of a topic that was there
  };
  using Method = void (State::*)(Call, Params&);
  struct MethodRow {
    std::string_view name;
    bool needs_session;
    Method method;
  };
  static const MethodRow kMethods[];

  // state.cpp: events
  void on(const Connected& event);
  void on(const Request& event);
  void on(const SegmentReady& event);
  void on(const Disconnected& event);
  void on(const SessionEnded& event);
  void on(const ReplyLost& event);
  void on(const SegmentBack& event);
  void on(const Tick& event);
  void on(const Drain& event);
  std::optional<Refusal> may_call(const Connection& connection, const MethodRow& row) const;
  void schedule();
  void watch_lock(SessionId session);

  // state.cpp: answers
  void reply(const Call& call, nlohmann::json result, std::vector<DescriptorRequest> descriptors = {},
             SessionId session = 0, HandleId handle = 0);
  void refuse(const Call& call, Refusal refusal);
  Session& session_of(const Call& call);

  // operation.cpp
  void begin(Operation operation);
  void proceed(OperationId id);
  void commit(const Operation& operation);
  void abandon(Operation operation, const Refusal& refusal);
  void undo(Operation& operation);
  void note_grown(const GrowSegment& grown);
  static Refusal explain(const Outcome& outcome);
  bool drop_one_idle_lane();
  void make_place_for_lane(const std::string& topic_name);
  std::optional<Refusal> reach(Operation& operation, SegmentId segment, std::uint64_t end);
  std::optional<Refusal> over_quota(const Operation& operation, SessionId session, std::uint64_t asked) const;
  std::uint64_t used_bytes(const Session& session, const Operation* operation) const;
  void plan_growth(Operation& operation);
  std::optional<Refusal> add_segment(Operation& operation, CreateSegment create);
  void put_added(const Operation& operation);

  // hello.cpp
  void hello(Call call, Params& params);
  void bye(Call call, Params& params);
  void peers(Call call, Params& params);
  void bell_open(Call call, Params& params);
  void bell_event(Call call, Params& params);
  void session_library(Call call, Params& params);  // the next release's
  void commit_hello(const Operation& operation);
  void commit_event(const Operation& operation);
  void end_session(SessionId session, shm::LaneState state);

  // resume.cpp
  void resume_begin(Call call, Params& params);
  void resume_memory(Call call, Params& params);
  void resume_handles(Call call, Params& params);
  void resume_end(Call call, Params& params);
  nlohmann::json ask_for_memory(Connection& connection);
  bool lost_segment(SegmentId segment) const;
  bool lane_lost(HandleId publisher) const;
  static HandleId known_key(const Session& session, std::uint64_t key);
  static Refusal key_of_another(std::uint64_t key, HandleId handle);

  // versions.cpp
  bool agree(const Call& call, Params& params);

  // adopt.cpp
  void adopt_rows(const RegistryRows& rows);
  void adopt_reader(const ReaderFacts& facts);
  void find_unattached();
  void repair_block(std::uint64_t offset, const shm::RosterBlock& seen, const shm::RosterBlock& wanted);
  void repair_roster(const std::vector<shm::RosterBlock>& roster);

  // publisher.cpp
  void publisher_open(Call call, Params& params);
  void publisher_mapped(Call call, Params& params);
  void lane_grow(Call call, Params& params);
  void lane_turn(Call call, Params& params);
  std::optional<Refusal> may_publish(const Session& session, const Topic& topic) const;
  std::optional<Refusal> plan_lane(Operation& operation, const AskedOptions& asked);
  void plan_readers(Operation& operation, Lane& lane);
  void discard_lane(LaneId lane);
  void commit_lane(const Operation& operation);
  void reply_publisher(const Call& call, const Publisher& publisher);
  void commit_mapped(const Operation& operation);
  void commit_grow(const Operation& operation);
  void commit_turn(const Operation& operation);
  void close_publisher(HandleId handle, shm::LaneState state);
  void end_on_roster(Lane& lane);
  Publisher* publisher_of(const Call& call, HandleId handle);

  // subscriber.cpp
  void subscriber_open(Call call, Params& params);
  void subscriber_lanes(Call call, Params& params);
  void subscriber_release(Call call, Params& params);
  void commit_subscriber(const Operation& operation);
  void reply_subscriber(const Operation& operation);
  void commit_list(const Operation& operation);
  std::optional<Refusal> plan_lanes(Operation& operation);
  nlohmann::json lane_json(const Lane& lane, HandleId subscriber) const;
  void reply_lanes(const Operation& operation, nlohmann::json result, bool undo);
  void close_subscriber(HandleId handle);
  Subscriber* subscriber_of(const Call& call, HandleId handle);

  // reader.cpp: readers on lanes
  std::optional<Refusal> reserve_reader(Operation& operation, HandleId subscriber, Lane& lane, bool fresh);
  void unreserve_reader(HandleId subscriber, LaneId lane);
  void commit_readers(const Operation& operation);
  void commit_reader(HandleId subscriber, Lane& lane);
  bool link_blocks(Lane& lane, std::size_t count);
  void detach(HandleId subscriber, LaneId lane);
  std::optional<Refusal> add_block(Operation& operation, Lane& lane);
  void trim_blocks(Lane& lane);
  std::uint64_t block_of(const Lane& lane, std::uint32_t entry) const;
  static std::uint64_t entry_of(const Reader& reader);
  void store_entry(const Lane& lane, const Reader& reader);

  // topic.cpp: topics, lanes and their ends
  void close(Call call, Params& params);
  std::optional<Refusal> enter_topic(Operation& operation, const std::string& name, const AskedOptions& asked,
                                     bool settles);
  void commit_topic(const Operation& operation);
  void vanish_if_unused(TopicId topic);
  void remove_lane(LaneId lane);
  void consider(LaneId lane);
  void show_lane(Lane& lane);
  bool away(const Lane& lane) const;
  void ring_subscribers(const Topic& topic);
  void ring_session(SessionId session);
  void flush_rings();
  void bump(std::uint64_t block);
  std::uint64_t changes(std::uint64_t block) const;
  void put(Row row) { actions_.emplace_back(PutRow{std::move(row)}); }

  // lists.cpp
  void ping(Call call, Params& params);
  void stats(Call call, Params& params);
  void topics(Call call, Params& params);
  void sessions(Call call, Params& params);
  void segments(Call call, Params& params);
  TopicReport report_topic(const Topic& topic) const;
  SubscriptionReport report_subscription(const Topic& topic, const Subscriber& subscriber) const;

  // Nobody else keeps its descriptor for the next broker, so its client has to.
  bool to_be_kept(const SegmentFacts& segment) const { return segment.sealed && !setup_.stored; }
  std::uint64_t next_id() { return ++last_id_; }

  // Set once.
  BrokerSetup setup_;

  Tables tables_;
  RangeAllocator blocks_;  // of the roster
  std::vector<std::uint64_t> changes_;  // of each block: it outlives what the block is used for
  std::map<OperationId, Operation> operations_;
  std::set<std::pair<TimeMs, LaneId>> idle_;  // ended lanes without readers, by when they are dropped
  std::set<SegmentId> rings_;  // bells to ring before anything else is told
  SessionId last_session_;
  std::uint64_t last_id_;
  std::set<SessionId> to_ask_;  // sessions without a connection whose lock can be asked
  std::optional<TimeMs> ask_at_;  // when they are asked next; nothing: there are none
  std::optional<TimeMs> timer_;
  TimeMs now_ = 0;
  bool draining_ = false;
  Actions actions_;
};

// Can a broker with this setup take these rows over? Returns why not, or "". Every number is checked: what is adopted
// was written by another program.
[[nodiscard]] std::string check_rows(const RegistryRows& rows);

// What the registry keeps of a token: its SHA-256.
std::string hash_token(const std::string& token);

}  // namespace holdfast::broker
