// SPDX-License-Identifier: MIT
//
// The registry of the next release (proto/control/versions.hpp) meets one of this release. All other tests of the registry
// run against it, too.
#include <gtest/gtest.h>
#include <sqlite3.h>

#include "daemon/registry.hpp"
#include "tests/daemon/temporary_directory.hpp"

namespace holdfast::daemon {
namespace {

void change(const std::string& path, const std::string& sql) {
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open(path.c_str(), &database), SQLITE_OK);
  EXPECT_EQ(sqlite3_exec(database, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(database);
  sqlite3_close(database);
}

broker::SessionFacts session(broker::SessionId id, const std::string& library) {
  broker::SessionFacts facts;
  facts.id = id;
  facts.name = "kept";
  facts.token_hash = std::string(32, 'x');
  facts.library = library;
  return facts;
}

void expect_sessions(Registry& registry, const std::vector<std::string>& libraries) {
  Legacy legacy;
  ASSERT_EQ(registry.load(legacy), "");
  ASSERT_EQ(legacy.rows.sessions.size(), libraries.size());
  for (std::size_t i = 0; i < libraries.size(); ++i) {
    EXPECT_EQ(legacy.rows.sessions[i].library, libraries[i]);
    EXPECT_EQ(legacy.rows.sessions[i].name, "kept");
  }
}

TEST(RegistryNext, OneOfTheReleaseBeforeIsBroughtUpInPlace) {
  const TemporaryDirectory directory;
  const std::string path = directory.file("x.db");
  std::string aside;
  {
    Registry registry;
    ASSERT_EQ(registry.open(path, aside), "");
    EXPECT_EQ(registry.note(), "");
    registry.put(session(3, "9"), "");
    EXPECT_EQ(registry.commit(), "");
  }
  change(path, "ALTER TABLE sessions DROP COLUMN library; PRAGMA user_version = " + std::to_string(kRegistryVersion));
  for (std::uint64_t epoch = 2; epoch <= 3; ++epoch) {
    Registry registry;
    ASSERT_EQ(registry.open(path, aside), "");
    EXPECT_EQ(aside, "");
    EXPECT_EQ(registry.epoch(), epoch);
    EXPECT_EQ(registry.note().find("brought up from version") != std::string::npos, epoch == 2) << registry.note();
    expect_sessions(registry, {""});
  }
}

TEST(RegistryNext, RowsThatAnOlderBrokerHasMadeMeanwhileAreTaken) {
  const TemporaryDirectory directory;
  const std::string path = directory.file("x.db");
  std::string aside;
  {
    Registry registry;
    ASSERT_EQ(registry.open(path, aside), "");
    registry.put(session(3, "9"), "");
    EXPECT_EQ(registry.commit(), "");
  }
  change(path,
         "INSERT INTO sessions (id, uid, gid, pid, name, exe, token_hash, membarrier, records, bells, created_ms) "
         "SELECT 4, uid, gid, pid, name, exe, token_hash, membarrier, records, bells, created_ms FROM sessions");
  Registry registry;
  ASSERT_EQ(registry.open(path, aside), "");
  EXPECT_EQ(registry.note(), "");
  expect_sessions(registry, {"9", ""});
}

}  // namespace
}  // namespace holdfast::daemon
