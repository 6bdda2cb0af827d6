// SPDX-License-Identifier: MIT
//
// A shell for State that exists in memory only: it answers actions, can let any of them fail, and checks what a real
// shell could not survive: a segment used before it is there, a record shown before it is reset, a row left behind.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <gtest/gtest.h>

#include "daemon/broker/state.hpp"
#include "proto/shm/roster_layout.hpp"

namespace holdfast::broker {

struct Answer {
  nlohmann::json result;  // null for an error
  std::optional<Report> report;
  std::string error;  // the failure's name; empty: none
  std::string sentence;
  nlohmann::json numbers;
  std::vector<DescriptorRequest> descriptors;

  bool ok() const { return error.empty(); }
};

// The broker's death, after so many actions.
struct Died {};

// What the registry has, by key.
struct Rows {
  std::map<SessionId, SessionFacts> sessions;
  std::map<SegmentId, SegmentFacts> segments;
  std::map<TopicId, TopicFacts> topics;
  std::map<LaneId, LaneFacts> lanes;
  std::map<HandleId, HandleFacts> handles;
  std::map<std::pair<HandleId, LaneId>, ReaderFacts> readers;

  RegistryRows all() const;
  static Rows of(const RegistryRows& all);
};

class FakeShell {
 public:
  explicit FakeShell(BrokerSetup setup = {});

  // The next broker on what `before` left: its files, its memory, the rows that it had committed. Connections are gone,
  // and so are the processes of `gone`. `die_at`: dies itself after so many actions of its adoption; 0: does not.
  FakeShell(const FakeShell& before, const std::set<SessionId>& gone, std::set<SegmentId> lost = {});
  void adopt(int die_at = 0);
  // The same on other rows than those that were written: check_rows() has found them sound.
  FakeShell(const FakeShell& before, const RegistryRows& rows);

  // An admitted connection: the broker's own uid, unless said otherwise.
  ConnectionId connect(std::uint32_t uid = 0, std::uint32_t gid = 0, std::vector<std::uint32_t> groups = {});
  Answer call(ConnectionId connection, const std::string& method, nlohmann::json params = nlohmann::json::object());
  // hello with sound parameters; returns the session.
  SessionId hello(ConnectionId connection, bool membarrier = true);
  // A connection with a session.
  ConnectionId client(std::uint32_t uid = 0) {
    const ConnectionId connection = connect(uid);
    hello(connection);
    return connection;
  }
  HandleId publish(ConnectionId connection, const std::string& topic,
                   nlohmann::json options = nlohmann::json::object());
  HandleId subscribe(ConnectionId connection, const std::string& topic, const std::string& delivery = "drop_oldest",
                     const std::string& start = "next");
  void end(SessionId session) { feed(SessionEnded{session}); }
  void feed(Event event);
  // A client that resumes gives a lost segment back. False: it may not.
  bool gives_back(ConnectionId connection, SegmentId segment);
  // Lets time pass, and the timer ring.
  void pass(TimeMs ms);

  // The answer to the last call of this connection, if one was sent before the broker died.
  std::optional<Answer> last_answer(ConnectionId connection) const;

  SessionId session_of(ConnectionId connection) const { return state_.tables().connections.at(connection).session; }
  LaneId lane_of(HandleId publisher) const { return state_.tables().publishers.at(publisher).lane; }
  const Lane& lane(LaneId id) const { return state_.tables().lanes.at(id); }
  const Tables& tables() const { return state_.tables(); }
  // The roster as a client sees it: the `index`-th entry of the chain that begins at `block`; 0: none.
  std::uint64_t roster_entry(std::uint64_t block, std::uint32_t index) const;
  std::uint64_t roster_size(std::uint64_t block) const;

  // Every check of State::audit(), and that rows and segments are those of the tables.
  void audit() const;

  // Index in `log` of the first action of this kind at or after `from`; log.size() if there is none.
  template <class Kind>
  std::size_t find(std::size_t from = 0) const {
    while (from < log.size() && !std::holds_alternative<Kind>(log[from])) ++from;
    return from;
  }
  template <class Kind>
  std::size_t count() const {
    std::size_t sum = 0;
    for (const Action& action : log) sum += std::holds_alternative<Kind>(action) ? 1 : 0;
    return sum;
  }

  // The `fail_at`-th answered action from now fails like this; 0: none does.
  int fail_at = 0;
  int fail_count = 1;  // so many in a row
  Outcome failure;
  int die_at = 0;  // so many actions from now: throws Died, uncommitted rows are lost
  bool audits = true;  // after every event; tests with thousands of rows do it themselves
  bool hold_growth = false;  // answers to lane growth wait for release_growth()
  std::uint64_t cursor = 0;  // what ReadCursor finds
  std::vector<Action> log;  // of the last feed() or call()
  std::optional<TimeMs> timer;
  std::set<ConnectionId> closed;
  std::vector<std::pair<SessionId, ConnectionId>> watched;
  std::set<SessionId> let_go;  // sessions whose lock nobody holds
  Rows rows;
  std::map<SegmentId, std::uint64_t> segments;
  TimeMs now = 1000;
  std::size_t answered = 0;  // actions with an operation, so far

  void release_growth();

 private:
  friend struct Rows;
  void run(const CreateSegment& act);
  void run(const GrowSegment& act);
  void run(const SealSegment& act);
  void run(const ReadCursor& act);
  void run(const OpenEvent& act);
  void run(const RemoveSegment& act);
  void run(const ResetRecord& act);
  void run(const ClearBoard& act);
  void run(const ClearBlock& act);
  void run(const StoreEntry& act);
  void run(const StoreSize& act);
  void run(const StoreFlags& act);
  void run(const StoreNext& act);
  void run(const BumpChanges& act);
  void run(const EndLane& act);
  void run(const RingBells& act);
  void run(const PutRow& act);
  void run(const DeleteRow& act);
  void run(const DeleteReader& act);
  void run(const Reply& act);
  void run(const ReplyError& act);
  void run(const ReplyReport& act);
  void run(const CloseConnection& act);
  void run(const CutConnection& act);
  void run(const SetTimer& act);
  void run(const AskLock& act);
  void run(const WatchProcess& act);
  void run(const UnwatchProcess& act);
  void run(const Log& act);
  Outcome outcome();
  void carry_out(Actions actions);
  void commit();
  static void note(Rows& rows, const Row& row);
  static void note(Rows& rows, const DeleteRow& row);
  static void note(Rows& rows, const DeleteReader& row);
  FakeShell(const FakeShell& before, Rows rows, const std::set<SessionId>& gone, std::set<SegmentId> lost);
  void expect_block(std::uint64_t block) const;

  State state_;
  std::vector<Event> answers_;
  std::vector<GrowSegment> held_;
  std::set<SegmentId> ever_made_;
  std::set<std::pair<SegmentId, std::uint64_t>> reset_;  // records that were reset and are on no roster
  std::map<std::pair<std::uint64_t, std::uint32_t>, std::uint64_t> entries_;
  std::map<ConnectionId, std::vector<Answer>> replies_;
  ConnectionId last_connection_ = 0;
  SegmentId roster_;
  BrokerSetup setup_;
  std::vector<std::variant<Row, DeleteRow, DeleteReader>> written_;  // and not committed: `rows` lacks it
  std::set<SegmentId> files_;  // that there are, whoever died when
  std::vector<SegmentId> removed_;  // that go with the next commit
  std::map<std::uint64_t, shm::RosterBlock> blocks_;  // but for their entries
  std::map<SegmentId, shm::LaneState> ended_;  // lanes that say so themselves
  std::set<SegmentId> unwritable_;  // sealed lanes that were adopted
  std::set<SessionId> gone_;
  std::set<SegmentId> lost_;
  bool adopting_ = false;
};

}  // namespace holdfast::broker
