// SPDX-License-Identifier: MIT
#include "daemon/registry.hpp"

#include <filesystem>

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
  facts.token = "secret";
  facts.name = "it's";
  return facts;
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

TEST(Registry, RowsAreThereAfterTheCommit) {
  const TemporaryDirectory directory;
  const std::string path = directory.file("x.db");
  Registry registry;
  std::string aside;
  ASSERT_EQ(registry.open(path, aside), "");
  registry.put(session(3), "");
  registry.put(segment(9, 3), "holdfast.x.session.1");
  broker::TopicFacts topic;
  topic.id = 10;
  topic.name = "a/b";
  registry.put(topic, "");
  broker::LaneFacts lane;
  lane.id = 11;
  registry.put(lane, "");
  broker::HandleFacts handle;
  handle.id = 12;
  registry.put(handle, "");
  broker::ReaderFacts reader;
  reader.handle = 12;
  reader.lane = 11;
  registry.put(reader, "");
  EXPECT_EQ(look(path, "SELECT count(*) FROM sessions"), "0") << "not before the commit";
  EXPECT_EQ(registry.commit(), "");
  EXPECT_EQ(registry.commit(), "") << "an empty one is none";
  EXPECT_EQ(look(path, "SELECT name FROM sessions WHERE id = 3"), "it's");
  EXPECT_EQ(look(path, "SELECT hex(token_hash) FROM sessions"),
            "2BB80D537B1DA3E38BD30361AA855686BDE0EACD7162FEF6A25FE97BF527A25B");
  EXPECT_EQ(look(path, "SELECT name FROM segments"), "holdfast.x.session.1");
  EXPECT_EQ(look(path, "SELECT ring FROM topics"), "64");
  EXPECT_EQ(look(path, "SELECT count(*) FROM lanes, handles, readers"), "1");
  // A row that is put again replaces itself.
  topic.options.ring = 128;
  registry.put(topic, "");
  registry.erase(broker::Table::kLanes, 11);
  registry.erase(broker::Table::kHandles, 12);
  registry.erase_reader(12, 11);
  EXPECT_EQ(registry.commit(), "");
  EXPECT_EQ(look(path, "SELECT ring FROM topics"), "128");
  EXPECT_EQ(look(path,
                 "SELECT (SELECT count(*) FROM lanes) + (SELECT count(*) FROM handles) + "
                 "(SELECT count(*) FROM readers)"),
            "0");
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

TEST(Registry, KeepsOnlyWhatLives) {
  const TemporaryDirectory directory;
  Registry registry;
  std::string aside;
  ASSERT_EQ(registry.open(directory.file("x.db"), aside), "");
  for (const broker::SessionId id : {1U, 2U}) {
    registry.put(session(id), "");
    registry.put(segment(10 + id, id), "segment-" + std::to_string(id));
  }
  registry.put(segment(20, 0), "roster");
  EXPECT_EQ(registry.commit(), "");
  EXPECT_EQ(registry.named_segments().size(), 3U);
  registry.keep_sessions({2});
  const auto left = registry.named_segments();
  ASSERT_EQ(left.size(), 1U);
  EXPECT_EQ(left[0].name, "segment-2");
  EXPECT_EQ(left[0].session, 2U);
  registry.drop_session(2);
  EXPECT_TRUE(registry.named_segments().empty());
  registry.keep_sessions({});
}

void expect_set_aside(const TemporaryDirectory& directory, const char* why) {
  const std::string path = directory.file("x.db");
  Registry registry;
  std::string aside;
  ASSERT_EQ(registry.open(path, aside), "") << why;
  EXPECT_NE(aside.find(path + ".aside"), std::string::npos) << why;
  EXPECT_TRUE(std::filesystem::exists(path + ".aside"));
  EXPECT_EQ(registry.epoch(), 1U) << why;
  EXPECT_TRUE(registry.named_segments().empty());
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
       {"UPDATE meta SET value = 'other' WHERE key = 'boot'", "PRAGMA user_version = 99", "DROP TABLE readers"}) {
    const TemporaryDirectory directory;
    const std::string path = directory.file("x.db");
    std::string aside;
    {
      Registry registry;
      ASSERT_EQ(registry.open(path, aside), "");
      registry.put(segment(7, 1), "old");
      EXPECT_EQ(registry.commit(), "");
    }
    look(path, change);
    expect_set_aside(directory, change);
  }
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
