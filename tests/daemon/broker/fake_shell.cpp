// SPDX-License-Identifier: MIT
#include "tests/daemon/broker/fake_shell.hpp"

#include <algorithm>

namespace holdfast::broker {

namespace {

template <class Map>
auto values(const Map& map) {
  std::vector<typename Map::mapped_type> all;
  for (const auto& [key, value] : map) all.push_back(value);
  return all;
}

// Of two maps. Asked after every event of every test: nothing is copied.
template <class One, class Other>
bool same_keys(const One& one, const Other& other) {
  return one.size() == other.size() &&
         std::all_of(one.begin(), one.end(), [&](const auto& entry) { return other.contains(entry.first); });
}

// The registry remembers which ids were given. Here each broker begins where no earlier one can have come.
constexpr std::uint32_t kIdsPerBroker = 100'000;

SegmentId roster_of(const Rows& rows) {
  for (const auto& [id, facts] : rows.segments)
    if (facts.kind == shm::SegmentKind::kRoster) return id;
  return 0;
}

}  // namespace

RegistryRows Rows::all() const {
  return {values(sessions), values(segments), values(topics), values(lanes), values(handles), values(readers)};
}

FakeShell::FakeShell(BrokerSetup setup) : state_(setup), roster_(setup.roster), setup_(setup) {
  segments[setup.roster] = setup.roster_bytes;
  files_.insert(setup.roster);
  ever_made_.insert(setup.roster);
  SegmentFacts facts;
  facts.id = setup.roster;
  facts.kind = shm::SegmentKind::kRoster;
  facts.bytes = setup.roster_bytes;
  facts.reserve_bytes = shm::kRosterReserve;
  run(PutRow{facts});
  commit();
}

Rows Rows::of(const RegistryRows& all) {
  Rows rows;
  const auto note = [&](const auto& table) {
    for (const auto& facts : table) FakeShell::note(rows, facts);
  };
  note(all.sessions);
  note(all.segments);
  note(all.topics);
  note(all.lanes);
  note(all.handles);
  note(all.readers);
  return rows;
}

FakeShell::FakeShell(const FakeShell& before, const std::set<SessionId>& gone, std::set<SegmentId> lost)
    : FakeShell(before, before.rows, gone, std::move(lost)) {
  for (const auto& [id, facts] : rows.segments)
    EXPECT_TRUE(before.files_.contains(id)) << "a file that a row names is there";
}

FakeShell::FakeShell(const FakeShell& before, const RegistryRows& given) : FakeShell(before, Rows::of(given), {}, {}) {}

FakeShell::FakeShell(const FakeShell& before, Rows left, const std::set<SessionId>& gone, std::set<SegmentId> lost)
    : rows(std::move(left)),
      now(before.now),
      state_([&] {
        BrokerSetup setup = before.setup_;
        setup.roster = roster_of(rows);
        setup.roster_bytes = rows.segments.at(setup.roster).bytes;
        setup.last_id = std::max(before.setup_.last_id, before.setup_.roster) + kIdsPerBroker;
        setup.last_session = before.setup_.last_session + kIdsPerBroker;
        return setup;
      }()),
      ever_made_(before.ever_made_),
      entries_(before.entries_),
      last_connection_(before.last_connection_),
      roster_(roster_of(rows)),
      setup_(before.setup_),
      blocks_(before.blocks_),
      ended_(before.ended_),
      gone_(gone),
      lost_(std::move(lost)) {
  setup_.last_id = std::max(setup_.last_id, setup_.roster) + kIdsPerBroker;
  setup_.last_session += kIdsPerBroker;
  let_go = before.let_go;
  // Files that no row names are swept; of the others so much is used as the row says.
  for (const auto& [id, facts] : rows.segments) {
    segments[id] = facts.bytes;
    files_.insert(id);
    if (facts.sealed && facts.kind == shm::SegmentKind::kLane) unwritable_.insert(id);
  }
}

void FakeShell::adopt(int dies) {
  EXPECT_EQ(check_rows(rows.all()), "");
  std::vector<shm::RosterBlock> roster(segments.at(roster_) / sizeof(shm::RosterBlock));
  for (const auto& [offset, block] : blocks_)
    if (offset / sizeof(shm::RosterBlock) < roster.size()) roster[offset / sizeof(shm::RosterBlock)] = block;
  for (const auto& [place, entry] : entries_)
    if (place.first / sizeof(shm::RosterBlock) < roster.size())
      roster[place.first / sizeof(shm::RosterBlock)].entries[place.second] = entry;
  die_at = dies;
  // A repair may put an entry back whose record was reset by a broker before.
  adopting_ = true;
  log.clear();
  carry_out(state_.adopt(now, rows.all(), roster, gone_, lost_));
  adopting_ = false;
  die_at = 0;
  // What stands in blocks that no row names nobody sees: a block is cleared before it is used again.
  std::set<std::uint64_t> used;
  for (const auto& [id, facts] : rows.lanes) used.insert(facts.blocks.begin(), facts.blocks.end());
  std::erase_if(entries_, [&](const auto& entry) { return !used.contains(entry.first.first); });
  if (audits) audit();
}

ConnectionId FakeShell::connect(std::uint32_t uid, std::uint32_t gid, std::vector<std::uint32_t> groups) {
  const ConnectionId connection = ++last_connection_;
  feed(Connected{connection,
                 {uid, gid, static_cast<std::int32_t>(1000 + connection), std::move(groups)},
                 "token-" + std::to_string(connection)});
  return connection;
}

Answer FakeShell::call(ConnectionId connection, const std::string& method, nlohmann::json params) {
  replies_[connection].clear();
  feed(Request{connection, 7, method, std::move(params)});
  auto& replies = replies_[connection];
  if (hold_growth && replies.empty()) return {};
  EXPECT_EQ(replies.size(), 1U) << method;
  return replies.empty() ? Answer{} : std::move(replies.front());
}

bool FakeShell::gives_back(ConnectionId connection, SegmentId segment) {
  if (state_.awaited_segment(connection, segment) == nullptr) return false;
  feed(SegmentBack{segment});
  return true;
}

SessionId FakeShell::hello(ConnectionId connection, bool membarrier) {
  const Answer answer = call(connection, "hello",
                             {{"protocol", 1},
                              {"layout", 1},
                              {"name", "process-" + std::to_string(connection)},
                              {"exe", "/bin/process"},
                              {"membarrier", membarrier}});
  EXPECT_TRUE(answer.ok()) << answer.sentence;
  return answer.ok() ? answer.result["session"].get<SessionId>() : 0;
}

HandleId FakeShell::publish(ConnectionId connection, const std::string& topic, nlohmann::json options) {
  const Answer answer = call(connection, "publisher.open", {{"topic", topic}, {"options", std::move(options)}});
  EXPECT_TRUE(answer.ok()) << answer.sentence;
  return answer.ok() ? answer.result["handle"].get<HandleId>() : 0;
}

HandleId FakeShell::subscribe(ConnectionId connection, const std::string& topic, const std::string& delivery,
                              const std::string& start) {
  const Answer answer =
      call(connection, "subscriber.open", {{"topic", topic}, {"delivery", delivery}, {"start", start}});
  EXPECT_TRUE(answer.ok()) << answer.sentence;
  return answer.ok() ? answer.result["handle"].get<HandleId>() : 0;
}

void FakeShell::feed(Event event) {
  log.clear();
  answers_.push_back(std::move(event));
  while (!answers_.empty()) {
    Event next = std::move(answers_.back());
    answers_.pop_back();
    carry_out(state_.step(now, std::move(next)));
  }
  if (audits) audit();
}

void FakeShell::carry_out(Actions actions) {
  for (Action& action : actions) {
    std::visit([this](const auto& act) { run(act); }, action);
    log.push_back(std::move(action));
    if (die_at > 0 && --die_at == 0) throw Died{};
  }
  commit();
}

void FakeShell::pass(TimeMs ms) {
  now += ms;
  if (timer && *timer <= now) feed(Tick{});
}

void FakeShell::release_growth() {
  std::vector<GrowSegment> held;
  held.swap(held_);
  for (const GrowSegment& grow : held) {
    Outcome result = outcome();
    if (!result.failure && segments.contains(grow.segment)) segments[grow.segment] = grow.bytes;
    feed(SegmentReady{grow.operation, result});
  }
}

Outcome FakeShell::outcome() {
  ++answered;
  if (fail_at == 0) return {};
  if (--fail_at > 0) return {};
  if (--fail_count > 0) fail_at = 1;
  return failure;
}

// A row goes before the file that it names.
void FakeShell::commit() {
  for (const auto& change : written_) std::visit([this](const auto& row) { note(rows, row); }, change);
  written_.clear();
  for (const SegmentId segment : std::exchange(removed_, {})) files_.erase(segment);
}

void FakeShell::run(const CreateSegment& act) {
  if (!removed_.empty()) commit();  // to have its memory
  EXPECT_LE(act.facts.bytes, act.facts.reserve_bytes);
  EXPECT_EQ(act.facts.bytes % shm::kPage, 0U);
  const Outcome result = outcome();
  if (!result.failure) {
    segments[act.facts.id] = act.facts.bytes;
    files_.insert(act.facts.id);
    EXPECT_TRUE(ever_made_.insert(act.facts.id).second) << "segment ids are given once";
  }
  answers_.push_back(SegmentReady{act.operation, result});
}

void FakeShell::run(const GrowSegment& act) {
  if (!removed_.empty()) commit();
  ASSERT_TRUE(segments.contains(act.segment));
  EXPECT_GT(act.bytes, segments[act.segment]);
  EXPECT_LE(act.bytes, state_.tables().segments.at(act.segment).reserve_bytes);
  EXPECT_EQ(act.bytes % shm::kPage, 0U);
  if (hold_growth && state_.tables().segments.at(act.segment).kind == shm::SegmentKind::kLane) {
    held_.push_back(act);
    return;
  }
  const Outcome result = outcome();
  if (!result.failure) segments[act.segment] = act.bytes;
  answers_.push_back(SegmentReady{act.operation, result});
}

void FakeShell::run(const SealSegment& act) {
  EXPECT_TRUE(segments.contains(act.segment));
  answers_.push_back(SegmentReady{act.operation, outcome()});
}

void FakeShell::run(const ReadCursor& act) {
  EXPECT_TRUE(segments.contains(act.segment));
  Outcome result = outcome();
  result.value = cursor;
  answers_.push_back(SegmentReady{act.operation, result});
}

void FakeShell::run(const OpenEvent& act) {
  EXPECT_TRUE(segments.contains(act.segment));
  answers_.push_back(SegmentReady{act.operation, outcome()});
}

void FakeShell::run(const RemoveSegment& act) {
  EXPECT_EQ(segments.erase(act.segment), 1U) << "a segment is removed once";
  removed_.push_back(act.segment);
  std::erase_if(reset_, [&](const auto& record) { return record.first == act.segment; });
}

void FakeShell::run(const ResetRecord& act) {
  ASSERT_TRUE(segments.contains(act.segment));
  EXPECT_LE(act.record + shm::record_bytes(act.chunks_max), segments[act.segment]) << "a record lies in its segment";
  for (const auto& [place, entry] : entries_) {
    const auto owner = state_.tables().sessions.find(shm::entry_session(entry));
    if (owner != state_.tables().sessions.end() && owner->second.facts.records == act.segment)
      EXPECT_NE(shm::entry_record(entry), act.record) << "a record is reset when nobody sees it";
  }
  reset_.insert({act.segment, act.record});
}

void FakeShell::run(const ClearBoard& act) {
  ASSERT_TRUE(segments.contains(act.segment));
  EXPECT_LE(act.board + sizeof(shm::Board), segments[act.segment]);
}

void FakeShell::expect_block(std::uint64_t block) const {
  EXPECT_GE(block, sizeof(shm::RosterHeader));
  EXPECT_EQ(block % sizeof(shm::RosterBlock), 0U);
  EXPECT_LE(block + sizeof(shm::RosterBlock), segments.at(roster_)) << "a block lies in the roster";
}

void FakeShell::run(const ClearBlock& act) {
  expect_block(act.block);
  const std::uint64_t changes = blocks_[act.block].changes;
  blocks_[act.block] = {};
  blocks_[act.block].changes = changes;
  for (std::uint32_t place = 0; place < shm::kRosterEntries; ++place) entries_.erase({act.block, place});
}

void FakeShell::run(const StoreEntry& act) {
  expect_block(act.block);
  const std::pair key(act.block, act.place);
  if (act.entry == 0) {
    EXPECT_EQ(entries_.erase(key), 1U) << "only what is there leaves";
    return;
  }
  if (adopting_) {
    entries_[key] = act.entry;
    return;
  }
  const auto& sessions = state_.tables().sessions;
  const auto owner = sessions.find(shm::entry_session(act.entry));
  ASSERT_NE(owner, sessions.end());
  const std::pair record(owner->second.facts.records, shm::entry_record(act.entry));
  if (entries_.contains(key))
    EXPECT_EQ(entries_[key] | shm::kEntryTurned, act.entry) << "an entry changes its mode, nothing else";
  else
    EXPECT_EQ(reset_.erase(record), 1U) << "a record is reset before it is shown";
  entries_[key] = act.entry;
}

void FakeShell::run(const StoreSize& act) {
  expect_block(act.block);
  blocks_[act.block].size = act.bytes;
}
void FakeShell::run(const StoreFlags& act) {
  expect_block(act.block);
  blocks_[act.block].flags = act.flags;
}
void FakeShell::run(const StoreNext& act) {
  expect_block(act.block);
  if (act.next != 0) expect_block(act.next);
  blocks_[act.block].next = act.next;
}
void FakeShell::run(const BumpChanges& act) {
  expect_block(act.block);
  ++blocks_[act.block].changes;
}
void FakeShell::run(const EndLane& act) {
  EXPECT_TRUE(segments.contains(act.segment));
  if (!unwritable_.contains(act.segment)) ended_.emplace(act.segment, act.state);
}
void FakeShell::run(const RingBells& act) {
  EXPECT_FALSE(act.bells.empty());
  for (const SegmentId bells : act.bells) EXPECT_TRUE(segments.contains(bells));
}

void FakeShell::run(const PutRow& act) { written_.emplace_back(act.row); }
void FakeShell::run(const DeleteRow& act) { written_.emplace_back(act); }
void FakeShell::run(const DeleteReader& act) { written_.emplace_back(act); }

void FakeShell::note(Rows& to, const Row& row) {
  struct Visitor {
    Rows& rows;
    void operator()(const SessionFacts& facts) const {
      rows.sessions[facts.id] = facts;
      rows.sessions[facts.id].token.clear();
    }
    void operator()(const SegmentFacts& facts) const { rows.segments[facts.id] = facts; }
    void operator()(const TopicFacts& facts) const { rows.topics[facts.id] = facts; }
    void operator()(const LaneFacts& facts) const { rows.lanes[facts.id] = facts; }
    void operator()(const HandleFacts& facts) const { rows.handles[facts.id] = facts; }
    void operator()(const ReaderFacts& facts) const { rows.readers[{facts.handle, facts.lane}] = facts; }
  };
  std::visit(Visitor{to}, row);
}

void FakeShell::note(Rows& from, const DeleteRow& row) {
  switch (row.table) {
    case Table::kSessions:
      from.sessions.erase(static_cast<SessionId>(row.id));
      break;
    case Table::kSegments:
      from.segments.erase(row.id);
      break;
    case Table::kTopics:
      from.topics.erase(row.id);
      break;
    case Table::kLanes:
      from.lanes.erase(row.id);
      break;
    case Table::kHandles:
      from.handles.erase(row.id);
      break;
  }
}

void FakeShell::note(Rows& from, const DeleteReader& row) { from.readers.erase({row.handle, row.lane}); }

void FakeShell::run(const Reply& act) {
  commit();
  Answer answer;
  answer.result = act.result;
  answer.descriptors = act.descriptors;
  for (const DescriptorRequest& request : act.descriptors)
    EXPECT_TRUE(request.event != 0 || segments.contains(request.segment));
  const auto listed = act.result.find("fds");
  EXPECT_EQ(act.descriptors.size(), listed == act.result.end() ? 0 : listed->size());
  replies_[act.connection].push_back(std::move(answer));
}

void FakeShell::run(const ReplyError& act) {
  commit();
  Answer answer;
  answer.error = std::string(control::error_row(act.failure).name);
  answer.sentence = act.sentence;
  answer.numbers = act.numbers;
  EXPECT_FALSE(act.sentence.empty());
  replies_[act.connection].push_back(std::move(answer));
}

void FakeShell::run(const ReplyReport& act) {
  Answer answer;
  answer.report = act.report;
  replies_[act.connection].push_back(std::move(answer));
}

void FakeShell::run(const CloseConnection& act) { closed.insert(act.connection); }
void FakeShell::run(const CutConnection& act) { closed.insert(act.connection); }
void FakeShell::run(const SetTimer& act) { timer = act.at; }
void FakeShell::run(const AskLock& act) {
  const auto session = state_.tables().sessions.find(act.session);
  ASSERT_NE(session, state_.tables().sessions.end());
  EXPECT_FALSE(state_.tables().lost.contains(session->second.facts.records)) << "a lock that is there is asked";
  if (let_go.contains(act.session)) answers_.push_back(SessionEnded{act.session});
}
void FakeShell::run(const WatchProcess& act) { watched.emplace_back(act.session, act.connection); }
void FakeShell::run(const UnwatchProcess& act) {
  std::erase_if(watched, [&](const auto& one) { return one.first == act.session; });
}
void FakeShell::run(const Log& act) { EXPECT_FALSE(act.text.empty()); }

std::optional<Answer> FakeShell::last_answer(ConnectionId connection) const {
  const auto at = replies_.find(connection);
  if (at == replies_.end() || at->second.empty()) return std::nullopt;
  return at->second.back();
}

std::uint64_t FakeShell::roster_entry(std::uint64_t at, std::uint32_t index) const {
  for (; index >= shm::kRosterEntries && at != 0; index -= shm::kRosterEntries) {
    const auto block = blocks_.find(at);
    at = block == blocks_.end() ? 0 : block->second.next;
  }
  const auto entry = entries_.find({at, index});
  return entry == entries_.end() ? 0 : entry->second;
}

std::uint64_t FakeShell::roster_size(std::uint64_t block) const {
  const auto at = blocks_.find(block);
  return at == blocks_.end() ? 0 : at->second.size;
}

void FakeShell::audit() const {
  state_.audit();
  const Tables& tables = state_.tables();
  if (!answers_.empty() || !held_.empty()) return;
  EXPECT_TRUE(same_keys(segments, tables.segments)) << "files are those of the tables";
  for (const auto& [id, bytes] : segments) EXPECT_EQ(bytes, tables.segments.at(id).bytes);
  EXPECT_TRUE(same_keys(rows.sessions, tables.sessions));
  EXPECT_TRUE(same_keys(rows.topics, tables.topics));
  EXPECT_TRUE(same_keys(rows.lanes, tables.lanes));
  EXPECT_TRUE(same_keys(rows.segments, tables.segments));
  EXPECT_EQ(rows.handles.size(), tables.publishers.size() + tables.subscribers.size());
  for (const auto& [id, facts] : rows.handles)
    EXPECT_TRUE(facts.role == Role::kPublisher ? tables.publishers.contains(id) : tables.subscribers.contains(id));
  std::size_t entries = 0;
  for (const auto& [id, lane] : tables.lanes) {
    const auto roster = blocks_.find(lane.blocks.front());
    const bool seen = ended_.contains(lane.facts.segment) ||
                      (roster != blocks_.end() && shm::ended_by(roster->second.flags) != shm::LaneState::kOpen);
    EXPECT_TRUE(seen || !lane.ended()) << "readers see that a lane has ended, there or on the roster";
    for (const auto& [handle, reader] : lane.readers) {
      EXPECT_TRUE(rows.readers.contains({handle, id}));
      const std::uint64_t block = lane.blocks[reader.facts.entry / shm::kRosterEntries];
      const auto entry = entries_.find({block, reader.facts.entry % shm::kRosterEntries});
      ASSERT_NE(entry, entries_.end()) << "every reader is on the roster";
      EXPECT_EQ(shm::entry_session(entry->second), reader.session);
      EXPECT_EQ(shm::entry_record(entry->second), reader.facts.record);
      EXPECT_EQ(shm::entry_gates(entry->second), reader.facts.lossless && !reader.facts.turned);
      ++entries;
    }
  }
  EXPECT_EQ(rows.readers.size(), entries);
  EXPECT_EQ(entries_.size(), entries) << "the roster names readers and nobody else";
}

}  // namespace holdfast::broker
