// SPDX-License-Identifier: MIT
//
// What survives the broker: an SQLite database in the runtime directory. It need not outlive the machine, so nothing is
// synchronised to disk. Rows are collected and written in one transaction, before the reply that they belong to.
// Called by the broker's one thread.
//
// Invariants:
//   (1) a database of another boot, one that SQLite calls damaged, or one of a version that this broker neither brings up
//       to its own nor may go on with as it is, is never read: it is renamed. One that cannot be opened or written now
//       stays as it is.
//   (2) ids that were given once are remembered after their row is gone (AUTOINCREMENT).
//   (3) what could not be committed is tried again with the next commit, before anything else: no row is forgotten.
//   (4) each commit counts up `commits`, so that one who remembers the number knows an older state from this one.
//   (5) what a newer broker has added, this one neither reads nor changes: docs/compatibility.md.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "daemon/broker/rows.hpp"

struct sqlite3;
struct sqlite3_stmt;

namespace holdfast::daemon {

inline constexpr int kRegistryVersion = 3;  // of this release

// What an earlier broker left. A sealed segment has no name.
struct Legacy {
  broker::RegistryRows rows;
  std::map<broker::SegmentId, std::string> names;
};

class Registry {
 public:
  Registry() = default;
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;
  ~Registry();

  // Opens or makes the database, and counts the epoch up. Returns what went wrong, or "". `set_aside`: "" or the
  // sentence to log when an unusable database was renamed.
  [[nodiscard]] std::string open(const std::string& path, std::string& set_aside);

  // What to log of a registry that another version had written; "": this one had.
  const std::string& note() const { return note_; }

  // Closes the database and removes its files.
  void remove();

  std::uint64_t epoch() const { return epoch_; }
  broker::SessionId last_session() const { return last_session_; }
  std::uint64_t last_id() const { return last_id_; }

  // Reads every row. Returns what could not be read, or "".
  [[nodiscard]] std::string load(Legacy& legacy);

  // Renames the database, whose rows make no sense, and begins anew. The ids that it gave stay given where it says so.
  // `sentence`: what to log. Returns what went wrong, or "".
  [[nodiscard]] std::string set_aside(const std::string& why, std::string& sentence);

  void put(const broker::Row& row, const std::string& segment_name);
  void erase(broker::Table table, std::uint64_t id);
  void erase_reader(broker::HandleId handle, broker::LaneId lane);
  // Ends the transaction that put() and erase() began. Returns what went wrong, or "".
  std::string commit();
  // What the system said when the last commit failed: errno, or 0 where the database knows none.
  int system_error() const { return system_error_; }
  std::uint64_t commits() const { return commits_; }

 private:
  class Statement;

  std::string prepare(const std::string& path, bool& unusable);
  std::string misfit(std::int64_t version);
  std::string begin_anew(const std::string& why, std::string& sentence);
  void close();
  template <class Read>
  std::string each(const std::string& sql, Read&& read);
  bool usable();
  bool execute(const char* sql);
  std::string error(const char* what) const;
  std::int64_t number(const char* sql);
  void note_failure();
  void begin();
  void write(std::function<void()> change);
  void put_now(const broker::Row& row, const std::string& segment_name);

  sqlite3* database_ = nullptr;
  std::string path_;
  std::string note_;
  std::vector<sqlite3_stmt*> statements_;  // by the index in kStatements
  bool in_transaction_ = false;
  bool failed_ = false;
  std::string failure_;
  int system_error_ = 0;
  std::vector<std::function<void()>> uncommitted_;
  std::uint64_t commits_ = 0;
  std::uint64_t epoch_ = 0;
  broker::SessionId last_session_ = 0;
  std::uint64_t last_id_ = 0;
};

}  // namespace holdfast::daemon
