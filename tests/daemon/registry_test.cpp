// SPDX-License-Identifier: MIT
#include "daemon/registry.hpp"

#include <filesystem>
#include <tuple>

#include <gtest/gtest.h>
#include <sqlite3.h>

#include "tests/daemon/temporary_directory.hpp"

namespace holdfast::daemon {
namespace {

// What a query finds in the first column of its first row; "" for nothing.
std::string look(const std::string& path, const std::string& sql) {
  sqlite3* database = nullptr;
  EXPECT_EQ(sqlite3_open(path.c_str(), &database), SQLITE_OK);
  sqlite3_stmt* statement = nullptr;
  std::string found;
  EXPECT_EQ(sqlite3_prepare_v2(database, sql.c_str(), -1, &statement, nullptr), SQLITE_OK) << sqlite3_errmsg(database);
  if (sqlite3_step(statement) == SQLITE_ROW && sqlite3_column_text(statement, 0) != nullptr)
    found = reinterpret_cast<const char*>(sqlite3_column_text(statement, 0));
  sqlite3_finalize(statement);
  sqlite3_close(database);
  return found;
}

broker::SegmentFacts segment(broker::SegmentId id, broker::SessionId session) {
  broker::SegmentFacts facts;
  facts.id = id;
  facts.session = session;
  return facts;
}

broker::SessionFacts session(broker::SessionId id) {
  broker::SessionFacts facts;
  facts.id = id;
  facts.token_hash = std::string(31, '\0') + "x";
  facts.name = "it's";
  return facts;
}

// A registry with this row, whose broker is gone.
void leave(const std::string& path, const broker::Row& row) {
  Registry registry;
  std::string aside;
  ASSERT_EQ(registry.open(path, aside), "");
  registry.put(row, "n");
  EXPECT_EQ(registry.commit(), "");
  EXPECT_EQ(registry.commits(), 1U);
}

TEST(Registry, EpochCountsUp) {
  const TemporaryDirectory directory;
  const std::string path = directory.file("x.db");
  for (std::uint64_t epoch = 1; epoch <= 3; ++epoch) {
    Registry registry;
    std::string aside;
    ASSERT_EQ(registry.open(path, aside), "");
    EXPECT_EQ(aside, "");
    EXPECT_EQ(registry.epoch(), epoch);
  }
}

Legacy loaded(Registry& registry) {
  Legacy legacy;
  EXPECT_EQ(registry.load(legacy), "");
  return legacy;
}

TEST(Registry, WhatIsCommittedIsThereAndNothingElse) {
  const TemporaryDirectory directory;
  const std::string path = directory.file("x.db");
  std::string aside;
  {
    Registry registry;
    ASSERT_EQ(registry.open(path, aside), "");
    registry.put(session(3), "");
  }
  {
    Registry registry;
    ASSERT_EQ(registry.open(path, aside), "");
    EXPECT_TRUE(loaded(registry).rows.sessions.empty()) << "the broker died before the commit";
    registry.put(session(3), "");
    registry.put(segment(9, 3), "holdfast.x.session.1");
    EXPECT_EQ(registry.commit(), "");
    EXPECT_EQ(registry.commit(), "") << "an empty one is none";
    registry.erase(broker::Table::kSessions, 3);
  }
  Registry registry;
  ASSERT_EQ(registry.open(path, aside), "");
  EXPECT_EQ(loaded(registry).rows.sessions.size(), 1U);
}

TEST(Registry, RowsComeBackAsTheyWere) {
  const TemporaryDirectory directory;
  const std::string path = directory.file("x.db");
  std::string aside;
  const broker::SessionFacts session{.id = UINT32_MAX,
                                     .uid = 1,
                                     .gid = UINT32_MAX,
                                     .pid = 4,
                                     .name = "it's",
                                     .exe = "/x",
                                     .token = "secret",
                                     .token_hash = std::string("\0hash", 5),
                                     .membarrier = true,
                                     .records = 7,
                                     .bells = 8,
                                     .created_ms = -9,
                                     .library = ""};
  const broker::SegmentFacts segment{.id = 9,
                                     .kind = shm::SegmentKind::kBells,
                                     .sealed = true,
                                     .bytes = 1ULL << 44,
                                     .reserve_bytes = 2ULL << 44,
                                     .session = 3,
                                     .lane = 11,
                                     .created_ms = 5};
  broker::TopicFacts topic;
  topic.id = 10;
  topic.name = "a/b";
  topic.block = 128;
  topic.decided = true;
  topic.options = {.ring = 8,
                   .chunks_max = 64,
                   .clock = broker::Clock::kExact,
                   .exclusive = true,
                   .backing = broker::Backing::kSealed,
                   .depth = 3,
                   .linger_ms = -1,
                   .stall_timeout_ms = -1};
  topic.type = {.name = "T", .bytes = 4, .align = 2, .hash = "00ff"};
  const broker::LaneFacts lane{.id = 11,
                               .topic = 10,
                               .session = 3,
                               .pid = 4,
                               .process = "p",
                               .publisher = 12,
                               .segment = 9,
                               .board = 12288,
                               .bytes_max = 1 << 20,
                               .state = shm::LaneState::kAborted,
                               .shown = true,
                               .blocks = {256, 1ULL << 40}};
  const broker::HandleFacts handle{.id = 12,
                                   .session = 3,
                                   .topic = 10,
                                   .role = broker::Role::kSubscriber,
                                   .delivery = broker::Delivery::kLossless,
                                   .start = broker::StartAt::kOldest,
                                   .key = INT64_MAX};
  const broker::ReaderFacts reader{
      .handle = 12, .lane = 11, .record = 4096, .entry = 13, .lossless = true, .turned = true, .fresh = true};
  {
    Registry registry;
    ASSERT_EQ(registry.open(path, aside), "");
    registry.put(session, "");
    registry.put(segment, "");
    registry.put(topic, "");
    registry.put(lane, "");
    registry.put(handle, "");
    registry.put(reader, "");
    EXPECT_EQ(registry.commit(), "");
  }
  Registry registry;
  ASSERT_EQ(registry.open(path, aside), "");
  const broker::RegistryRows rows = loaded(registry).rows;
  ASSERT_TRUE(rows.sessions.size() == 1 && rows.segments.size() == 1 && rows.topics.size() == 1 &&
              rows.lanes.size() == 1 && rows.handles.size() == 1 && rows.readers.size() == 1);
  const auto& s = rows.sessions[0];
  EXPECT_EQ(s.token, "") << "only its hash is kept";
  EXPECT_EQ(
      std::tie(s.id, s.uid, s.gid, s.pid, s.name, s.exe, s.token_hash, s.membarrier, s.records, s.bells, s.created_ms),
      std::tie(session.id, session.uid, session.gid, session.pid, session.name, session.exe, session.token_hash,
               session.membarrier, session.records, session.bells, session.created_ms));
  const auto& g = rows.segments[0];
  EXPECT_EQ(std::tie(g.id, g.kind, g.sealed, g.bytes, g.reserve_bytes, g.session, g.lane, g.created_ms),
            std::tie(segment.id, segment.kind, segment.sealed, segment.bytes, segment.reserve_bytes, segment.session,
                     segment.lane, segment.created_ms));
  const auto& t = rows.topics[0];
  EXPECT_EQ(std::tie(t.id, t.name, t.block, t.decided), std::tie(topic.id, topic.name, topic.block, topic.decided));
  EXPECT_EQ(
      std::tie(t.options.ring, t.options.chunks_max, t.options.clock, t.options.exclusive, t.options.backing,
               t.options.depth, t.options.linger_ms, t.options.stall_timeout_ms),
      std::tie(topic.options.ring, topic.options.chunks_max, topic.options.clock, topic.options.exclusive,
               topic.options.backing, topic.options.depth, topic.options.linger_ms, topic.options.stall_timeout_ms));
  EXPECT_EQ(std::tie(t.type.name, t.type.bytes, t.type.align, t.type.hash),
            std::tie(topic.type.name, topic.type.bytes, topic.type.align, topic.type.hash));
  const auto& l = rows.lanes[0];
  EXPECT_EQ(std::tie(l.id, l.topic, l.session, l.pid, l.process, l.publisher, l.segment, l.board, l.bytes_max, l.state,
                     l.shown, l.blocks),
            std::tie(lane.id, lane.topic, lane.session, lane.pid, lane.process, lane.publisher, lane.segment,
                     lane.board, lane.bytes_max, lane.state, lane.shown, lane.blocks));
  const auto& h = rows.handles[0];
  EXPECT_EQ(std::tie(h.id, h.session, h.topic, h.role, h.delivery, h.start, h.key),
            std::tie(handle.id, handle.session, handle.topic, handle.role, handle.delivery, handle.start, handle.key));
  const auto& r = rows.readers[0];
  EXPECT_EQ(
      std::tie(r.handle, r.lane, r.record, r.entry, r.lossless, r.turned, r.fresh),
      std::tie(reader.handle, reader.lane, reader.record, reader.entry, reader.lossless, reader.turned, reader.fresh));
  // A row that is put again replaces itself.
  topic.options.ring = 128;
  registry.put(topic, "");
  registry.erase(broker::Table::kLanes, 11);
  registry.erase(broker::Table::kHandles, 12);
  registry.erase_reader(12, 11);
  EXPECT_EQ(registry.commit(), "");
  const broker::RegistryRows after = loaded(registry).rows;
  ASSERT_EQ(after.topics.size(), 1U);
  EXPECT_EQ(after.topics[0].options.ring, 128U);
  EXPECT_TRUE(after.lanes.empty() && after.handles.empty() && after.readers.empty());
}

TEST(Registry, ARowThatNoBrokerWritesIsNotRead) {
  for (const char* change :
       {"UPDATE sessions SET uid = 5000000000", "UPDATE sessions SET pid = 'x'", "UPDATE sessions SET token_hash = 7",
        "UPDATE sessions SET membarrier = 2", "UPDATE sessions SET uid = -1", "UPDATE sessions SET records = 1.5"}) {
    const TemporaryDirectory directory;
    const std::string path = directory.file("x.db");
    std::string aside;
    leave(path, session(3));
    look(path, change);
    Registry registry;
    ASSERT_EQ(registry.open(path, aside), "");
    Legacy legacy;
    EXPECT_NE(registry.load(legacy), "") << change;
    std::string sentence;
    EXPECT_EQ(registry.set_aside("a reason", sentence), "");
    EXPECT_NE(sentence.find("a reason"), std::string::npos) << sentence;
    EXPECT_NE(sentence.find(path + ".aside"), std::string::npos) << sentence;
    EXPECT_EQ(registry.epoch(), 2U) << "brokers go on counting";
    EXPECT_EQ(registry.last_session(), 3U) << "and no id is given twice";
    EXPECT_TRUE(loaded(registry).rows.sessions.empty());
  }
}

TEST(Registry, IdsAreRememberedAfterTheirRows) {
  const TemporaryDirectory directory;
  const std::string path = directory.file("x.db");
  std::string aside;
  {
    Registry registry;
    ASSERT_EQ(registry.open(path, aside), "");
    EXPECT_EQ(registry.last_session(), 0U);
    registry.put(session(5), "");
    registry.put(segment(70, 5), "n");
    registry.erase(broker::Table::kSessions, 5);
    registry.erase(broker::Table::kSegments, 70);
    EXPECT_EQ(registry.commit(), "");
  }
  Registry registry;
  ASSERT_EQ(registry.open(path, aside), "");
  EXPECT_EQ(registry.last_session(), 5U);
  EXPECT_EQ(registry.last_id(), 70U);
}

void expect_set_aside(const TemporaryDirectory& directory, const char* why) {
  const std::string path = directory.file("x.db");
  Registry registry;
  std::string aside;
  ASSERT_EQ(registry.open(path, aside), "") << why;
  EXPECT_NE(aside.find(path + ".aside"), std::string::npos) << why;
  EXPECT_TRUE(std::filesystem::exists(path + ".aside"));
  EXPECT_EQ(registry.epoch(), 1U) << why;
  EXPECT_TRUE(loaded(registry).rows.segments.empty());
}

TEST(Registry, ADamagedOneIsSetAside) {
  const TemporaryDirectory directory;
  directory.write("x.db", std::string(8192, 'x'));
  expect_set_aside(directory, "no database");
  directory.write("x.db", "SQLite format 3\0" + std::string(100, '\0'));
  expect_set_aside(directory, "half a database");
}

TEST(Registry, OneOfAnotherBootOrLayoutIsSetAside) {
  for (const char* change :
       {"UPDATE meta SET value = 'other' WHERE key = 'boot'", "PRAGMA user_version = 2", "DROP TABLE readers"}) {
    const TemporaryDirectory directory;
    const std::string path = directory.file("x.db");
    leave(path, segment(7, 1));
    look(path, change);
    expect_set_aside(directory, change);
  }
}

// A newer broker has added a column, and says that we may go on.
TEST(Registry, OneOfANewerVersionIsUsedAndKeepsWhatItHasMore) {
  const TemporaryDirectory directory;
  const std::string path = directory.file("x.db");
  std::string aside;
  leave(path, session(3));
  look(path, "ALTER TABLE sessions ADD COLUMN novelty TEXT NOT NULL DEFAULT 'not known'");
  look(path, "UPDATE sessions SET novelty = 'kept'");
  look(path, "PRAGMA user_version = 99");
  {
    Registry registry;
    ASSERT_EQ(registry.open(path, aside), "");
    EXPECT_EQ(aside, "");
    EXPECT_NE(registry.note().find("stays at version 99"), std::string::npos) << registry.note();
    EXPECT_EQ(loaded(registry).rows.sessions.size(), 1U);
    broker::SessionFacts changed = session(3);
    changed.name = "changed";
    registry.put(changed, "");
    registry.put(session(4), "");
    EXPECT_EQ(registry.commit(), "");
  }
  EXPECT_EQ(look(path, "SELECT name || novelty FROM sessions WHERE id = 3"), "changedkept");
  EXPECT_EQ(look(path, "SELECT novelty FROM sessions WHERE id = 4"), "not known");
  EXPECT_EQ(look(path, "PRAGMA user_version"), "99");
}

TEST(Registry, OneThatTakesANewerBrokerIsSetAsideInWords) {
  for (const char* reader : {"'98'", "'0'", "'x'"}) {
    const TemporaryDirectory directory;
    const std::string path = directory.file("x.db");
    leave(path, segment(7, 1));
    look(path, "PRAGMA user_version = 99");
    look(path, std::string("UPDATE meta SET value = ") + reader + " WHERE key = 'oldest_reader'");
    Registry registry;
    std::string aside;
    ASSERT_EQ(registry.open(path, aside), "");
    EXPECT_NE(aside.find("has version 99, this broker's is "), std::string::npos) << aside;
    EXPECT_EQ(aside.find("it takes one of 98") != std::string::npos, std::string(reader) == "'98'") << aside;
    EXPECT_TRUE(loaded(registry).rows.segments.empty());
    EXPECT_EQ(registry.note(), "");
  }
}

TEST(Registry, OneThatIsTooOldIsSetAsideInWords) {
  const TemporaryDirectory directory;
  const std::string path = directory.file("x.db");
  leave(path, segment(7, 1));
  look(path, "PRAGMA user_version = 1");
  Registry registry;
  std::string aside;
  ASSERT_EQ(registry.open(path, aside), "");
  EXPECT_NE(aside.find("has version 1, this broker's is"), std::string::npos) << aside;
}

// Somebody looks at it, or there is no room: that passes, and the rows are still there then.
TEST(Registry, OneThatIsInUseIsLeftAsItIs) {
  const TemporaryDirectory directory;
  const std::string path = directory.file("x.db");
  std::string aside;
  leave(path, session(3));
  sqlite3* other = nullptr;
  ASSERT_EQ(sqlite3_open(path.c_str(), &other), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(other, "BEGIN; SELECT count(*) FROM sessions", nullptr, nullptr, nullptr), SQLITE_OK);
  {
    Registry registry;
    EXPECT_NE(registry.open(path, aside), "");
    EXPECT_EQ(aside, "");
  }
  sqlite3_close(other);
  EXPECT_FALSE(std::filesystem::exists(path + ".aside"));
  look(path, "DELETE FROM sqlite_sequence");
  Registry registry;
  ASSERT_EQ(registry.open(path, aside), "");
  EXPECT_EQ(loaded(registry).rows.sessions.size(), 1U);
  EXPECT_EQ(registry.commits(), 1U);
  EXPECT_EQ(registry.last_session(), 3U) << "rows tell what was given, too";
}

TEST(Registry, RemovesItsFiles) {
  const TemporaryDirectory directory;
  Registry registry;
  std::string aside;
  ASSERT_EQ(registry.open(directory.file("x.db"), aside), "");
  registry.put(session(1), "");
  EXPECT_EQ(registry.commit(), "");
  registry.remove();
  EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
}

TEST(Registry, SaysWhyItCannotBeOpened) {
  const TemporaryDirectory directory;
  Registry registry;
  std::string aside;
  EXPECT_NE(registry.open(directory.file("no/such/x.db"), aside), "");
}

}  // namespace
}  // namespace holdfast::daemon
