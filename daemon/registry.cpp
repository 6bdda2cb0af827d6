// SPDX-License-Identifier: MIT
#include "daemon/registry.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <type_traits>

#include <sqlite3.h>
#include <unistd.h>

#include "daemon/broker/check.hpp"
#include "proto/control/versions.hpp"

namespace holdfast::daemon {

namespace {

constexpr const char* kSchema = R"(
  CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE sessions (id INTEGER PRIMARY KEY AUTOINCREMENT, uid INTEGER NOT NULL, gid INTEGER NOT NULL,
    pid INTEGER NOT NULL, name TEXT NOT NULL, exe TEXT NOT NULL, token_hash BLOB NOT NULL, membarrier INTEGER NOT NULL,
    records INTEGER NOT NULL, bells INTEGER NOT NULL, created_ms INTEGER NOT NULL);
  CREATE TABLE segments (id INTEGER PRIMARY KEY AUTOINCREMENT, kind INTEGER NOT NULL, name TEXT NOT NULL,
    sealed INTEGER NOT NULL, bytes INTEGER NOT NULL, reserve_bytes INTEGER NOT NULL, session INTEGER NOT NULL,
    lane INTEGER NOT NULL, created_ms INTEGER NOT NULL);
  CREATE TABLE topics (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, block INTEGER NOT NULL,
    decided INTEGER NOT NULL, ring INTEGER NOT NULL, chunks_max INTEGER NOT NULL, clock INTEGER NOT NULL,
    exclusive INTEGER NOT NULL, backing INTEGER NOT NULL, depth INTEGER NOT NULL, linger_ms INTEGER NOT NULL,
    stall_timeout_ms INTEGER NOT NULL, type_name TEXT NOT NULL, type_bytes INTEGER NOT NULL,
    type_align INTEGER NOT NULL, type_hash TEXT NOT NULL);
  CREATE TABLE lanes (id INTEGER PRIMARY KEY AUTOINCREMENT, topic INTEGER NOT NULL, session INTEGER NOT NULL,
    pid INTEGER NOT NULL, process TEXT NOT NULL, publisher INTEGER NOT NULL, segment INTEGER NOT NULL,
    board INTEGER NOT NULL, bytes_max INTEGER NOT NULL, state INTEGER NOT NULL, shown INTEGER NOT NULL,
    blocks BLOB NOT NULL);
  CREATE TABLE handles (id INTEGER PRIMARY KEY AUTOINCREMENT, session INTEGER NOT NULL, topic INTEGER NOT NULL,
    role INTEGER NOT NULL, delivery INTEGER NOT NULL, start INTEGER NOT NULL, key INTEGER NOT NULL);
  CREATE TABLE readers (handle INTEGER NOT NULL, lane INTEGER NOT NULL, record INTEGER NOT NULL,
    entry INTEGER NOT NULL, lossless INTEGER NOT NULL, turned INTEGER NOT NULL, fresh INTEGER NOT NULL,
    PRIMARY KEY (handle, lane)) WITHOUT ROWID;
)";

enum StatementIndex : std::size_t {
  kPutSession,
  kPutSegment,
  kPutTopic,
  kPutLane,
  kPutHandle,
  kPutReader,
  kDeleteSession,
  kDeleteSegment,
  kDeleteTopic,
  kDeleteLane,
  kDeleteHandle,
  kDeleteReader,
  kCount,
  kBegin,
  kCommit,
  kRollback,
  kStatementCount,
};

// What a row is found by, and the columns that we know, in the order in which they are bound and read. A column that a
// newer broker has added keeps its value in a row that is there, and has its default in one that we make.
struct TableText {
  std::string name;
  std::string key;
  std::vector<std::string> columns;
};

// In the order of StatementIndex.
const TableText& table(std::size_t index) {
  static const TableText kTables[] = {
      {"sessions",
       "id",
       {"id", "uid", "gid", "pid", "name", "exe", "token_hash", "membarrier", "records", "bells", "created_ms",
#if HOLDFAST_NEXT
        "library"
#endif
       }},
      {"segments", "id", {"id", "kind", "name", "sealed", "bytes", "reserve_bytes", "session", "lane", "created_ms"}},
      {"topics",
       "id",
       {"id", "name", "block", "decided", "ring", "chunks_max", "clock", "exclusive", "backing", "depth", "linger_ms",
        "stall_timeout_ms", "type_name", "type_bytes", "type_align", "type_hash"}},
      {"lanes",
       "id",
       {"id", "topic", "session", "pid", "process", "publisher", "segment", "board", "bytes_max", "state", "shown",
        "blocks"}},
      {"handles", "id", {"id", "session", "topic", "role", "delivery", "start", "key"}},
      {"readers", "handle, lane", {"handle", "lane", "record", "entry", "lossless", "turned", "fresh"}},
  };
  return kTables[index];
}

// What `text` makes of each column, with commas.
template <class Text>
std::string listed(const TableText& table, Text&& text) {
  std::string list;
  for (const std::string& column : table.columns) list += (list.empty() ? "" : ", ") + text(column);
  return list;
}

std::string names(const TableText& table) {
  return listed(table, [](const std::string& column) { return column; });
}

std::string put_text(const TableText& table) {
  return "INSERT INTO " + table.name + " (" + names(table) + ") VALUES (" +
         listed(table, [](const std::string&) { return std::string("?"); }) + ") ON CONFLICT (" + table.key +
         ") DO UPDATE SET " + listed(table, [](const std::string& column) { return column + " = excluded." + column; });
}

std::string select_text(std::size_t index, const char* order) {
  return "SELECT " + names(table(index)) + " FROM " + table(index).name + " ORDER BY " + order;
}

// The others, in the order of StatementIndex; the deletes in the order of broker::Table.
constexpr const char* kStatements[] = {
    "DELETE FROM sessions WHERE id = ?",
    "DELETE FROM segments WHERE id = ?",
    "DELETE FROM topics WHERE id = ?",
    "DELETE FROM lanes WHERE id = ?",
    "DELETE FROM handles WHERE id = ?",
    "DELETE FROM readers WHERE handle = ? AND lane = ?",
    "UPDATE meta SET value = ? WHERE key = 'commits'",
    "BEGIN IMMEDIATE",
    "COMMIT",
    "ROLLBACK",
};
static_assert(sizeof(kStatements) / sizeof(kStatements[0]) == kStatementCount - kDeleteSession);

std::string statement_text(std::size_t index) {
  return index < kDeleteSession ? put_text(table(index)) : kStatements[index - kDeleteSession];
}

// ---- versions

constexpr std::int64_t kVersion = kRegistryVersion + (control::kNext ? 1 : 0);  // of this build
// The oldest that we bring up to ours, and what kSchema makes. Nothing older was ever released.
constexpr std::int64_t kOldest = kRegistryVersion;
// The oldest broker that can go on with a registry of ours: it ignores the columns that it does not know.
constexpr std::int64_t kOldestReader = kRegistryVersion;

// What `version` has more than the one before. The default of a new column means "not known": older brokers go on to make
// rows.
const char* added_by([[maybe_unused]] std::int64_t version) {
#if HOLDFAST_NEXT
  if (version == kRegistryVersion + 1) return "ALTER TABLE sessions ADD COLUMN library TEXT NOT NULL DEFAULT '';";
#endif
  return "";
}

// Makes a registry of version `from` one of ours. Within a transaction, so that it is of one version or the other.
std::string bring_up_text(std::int64_t from) {
  std::string sql;
  for (std::int64_t version = from + 1; version <= kVersion; ++version) sql += added_by(version);
  return sql + "INSERT OR REPLACE INTO meta VALUES ('oldest_reader', '" + std::to_string(kOldestReader) +
         "'); PRAGMA user_version = " + std::to_string(kVersion) + ";";
}

std::string boot_id() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return id.empty() ? "unknown" : id;
}

}  // namespace

// Binds values in order and runs a prepared statement.
class Registry::Statement {
 public:
  Statement(Registry& registry, std::size_t index)
      : registry_(registry),
        statement_(registry.statements_[index]),
        ends_(index == kRollback) {}

  template <class T>
  Statement& operator<<(const T& value) {
    int result = SQLITE_OK;
    if constexpr (std::is_convertible_v<T, std::string>) {
      const std::string& text = value;
      result = sqlite3_bind_text(statement_, ++at_, text.data(), static_cast<int>(text.size()), SQLITE_TRANSIENT);
    } else {
      result = sqlite3_bind_int64(statement_, ++at_, static_cast<sqlite3_int64>(value));
    }
    if (result != SQLITE_OK) registry_.note_failure();
    return *this;
  }

  Statement& blob(const void* data, std::size_t bytes) {
    if (sqlite3_bind_blob(statement_, ++at_, data, static_cast<int>(bytes), SQLITE_TRANSIENT) != SQLITE_OK)
      registry_.note_failure();
    return *this;
  }

  // After a failure the transaction may be over, and nothing is written outside of one.
  void run() {
    const int result = registry_.failed_ && !ends_ ? SQLITE_DONE : sqlite3_step(statement_);
    if (result != SQLITE_DONE && result != SQLITE_ROW) registry_.note_failure();
    sqlite3_reset(statement_);
    sqlite3_clear_bindings(statement_);
  }

 private:
  Registry& registry_;
  sqlite3_stmt* statement_;
  bool ends_;  // the transaction
  int at_ = 0;
};

// The first failure of a transaction is the one that is told.
void Registry::note_failure() {
  if (failed_) return;
  failed_ = true;
  failure_ = error("cannot write the registry");
  const int code = sqlite3_errcode(database_) & 0xff;
  // For others it still says what it was before.
  system_error_ = code == SQLITE_IOERR || code == SQLITE_CANTOPEN ? sqlite3_system_errno(database_) : 0;
}

Registry::~Registry() { close(); }

void Registry::remove() {
  close();
  for (const char* suffix : {"", "-wal", "-shm"}) ::unlink((path_ + suffix).c_str());
}

std::string Registry::error(const char* what) const {
  return std::string(what) + " " + path_ + ": " +
         (database_ != nullptr ? sqlite3_errmsg(database_) : "no memory for a database");
}

bool Registry::execute(const char* sql) { return sqlite3_exec(database_, sql, nullptr, nullptr, nullptr) == SQLITE_OK; }

std::int64_t Registry::number(const char* sql) {
  sqlite3_stmt* statement = nullptr;
  std::int64_t value = -1;
  if (sqlite3_prepare_v2(database_, sql, -1, &statement, nullptr) == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW)
    value = sqlite3_column_int64(statement, 0);
  sqlite3_finalize(statement);
  return value;
}

namespace {

// Is it the machine that stands in the way, for now: no room, no rights, somebody looks at it? Else the file is damaged.
bool passes(int code, const std::string& path) {
  switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_CANTOPEN:
    case SQLITE_FULL:
    case SQLITE_LOCKED:
    case SQLITE_NOMEM:
    case SQLITE_PERM:
    case SQLITE_PROTOCOL:
      return true;
    case SQLITE_IOERR:
      return code != SQLITE_IOERR_SHORT_READ;
    case SQLITE_READONLY:
      // Its header may say so, too: nobody has ever written that one.
      return ::access(path.c_str(), W_OK) != 0;
    default:
      return false;
  }
}

}  // namespace

std::string Registry::open(const std::string& path, std::string& set_aside) {
  path_ = path;
  bool unusable = false;
  const std::string why = prepare(path, unusable);
  return unusable ? begin_anew(why, set_aside) : why;
}

// Not ours to read. It is kept for whoever wants to look.
std::string Registry::begin_anew(const std::string& why, std::string& sentence) {
  close();
  const std::string aside = path_ + ".aside";
  // The database first: what is left without it is a log of nothing. The other way round it would be an older state.
  if (::rename(path_.c_str(), aside.c_str()) != 0) return why;
  ::unlink((path_ + "-shm").c_str());
  ::unlink((aside + "-wal").c_str());
  ::rename((path_ + "-wal").c_str(), (aside + "-wal").c_str());
  sentence = why + "; kept as " + aside;
  bool unusable = false;
  return prepare(path_, unusable);
}

void Registry::close() {
  for (sqlite3_stmt* statement : statements_) sqlite3_finalize(statement);
  statements_.clear();
  sqlite3_close_v2(database_);
  database_ = nullptr;
  in_transaction_ = failed_ = false;
  uncommitted_.clear();
  note_.clear();
}

// Opens the database at `path` and makes it ready. Returns why it cannot be used, or "". `unusable`: it never will be.
std::string Registry::prepare(const std::string& path, bool& unusable) {
  const auto cannot = [&](const char* what) {
    unusable = !passes(sqlite3_extended_errcode(database_), path);
    return error(what);
  };
  if (sqlite3_open_v2(path.c_str(), &database_, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                      nullptr) != SQLITE_OK)
    return cannot("cannot open the registry");
  sqlite3_busy_timeout(database_, 1000);
  // The instance's lock keeps other brokers away, so nobody else has to be asked: with every commit that would be six
  // system calls.
  if (!execute("PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; "
               "PRAGMA foreign_keys = OFF"))
    return cannot("cannot use the registry");
  const std::int64_t version = number("PRAGMA user_version");
  const std::int64_t tables = number("SELECT count(*) FROM sqlite_master");
  if (tables == 0) {
    const std::string fresh = std::string("BEGIN;") + kSchema + "INSERT INTO meta VALUES ('boot', '" + boot_id() +
                              "'), ('epoch', '0'), ('commits', '0');" + bring_up_text(kOldest) + "COMMIT;";
    if (!execute(fresh.c_str())) return cannot("cannot make the registry");
  } else if (tables < 0 || version < 0) {
    return cannot("cannot read the registry");
  } else if (std::string why = misfit(version); !why.empty()) {
    unusable = true;
    return why;
  } else if (!usable()) {
    unusable = true;
    return "the registry " + path + " is damaged, or of another boot";
  } else if (version < kVersion && !execute(("BEGIN IMMEDIATE;" + bring_up_text(version) + "COMMIT;").c_str())) {
    return cannot("cannot bring up the registry");
  }
  if (tables > 0 && version != kVersion)
    note_ = "the registry " + path + (version < kVersion ? " is brought up from version " : " stays at version ") +
            std::to_string(version) + ", this broker's is " + std::to_string(kVersion);
  if (!execute("UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = 'epoch'"))
    return cannot("cannot write the registry");
  commits_ = static_cast<std::uint64_t>(
      std::max<std::int64_t>(number("SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'commits'"), 0));
  epoch_ = static_cast<std::uint64_t>(number("SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'epoch'"));
  const auto last = [this](const char* sql) {
    return static_cast<std::uint64_t>(std::max<std::int64_t>(number(sql), 0));
  };
  // The sequences remember what was given; the rows, in case the sequences do not.
  last_session_ = static_cast<broker::SessionId>(std::max(
      last("SELECT max(seq) FROM sqlite_sequence WHERE name = 'sessions'"), last("SELECT max(id) FROM sessions")));
  last_id_ = last("SELECT max(seq) FROM sqlite_sequence WHERE name <> 'sessions'");
  for (const char* table : {"segments", "topics", "lanes", "handles"})
    last_id_ = std::max(last_id_, last((std::string("SELECT max(id) FROM ") + table).c_str()));
  for (std::size_t index = 0; index < kStatementCount; ++index) {
    sqlite3_stmt* statement = nullptr;
    const std::string sql = statement_text(index);
    if (sqlite3_prepare_v3(database_, sql.c_str(), -1, SQLITE_PREPARE_PERSISTENT, &statement, nullptr) != SQLITE_OK) {
      for (sqlite3_stmt* prepared : statements_) sqlite3_finalize(prepared);
      statements_.clear();
      return cannot("cannot use the registry");
    }
    statements_.push_back(statement);
  }
  return "";
}

// Why a registry of this version is not for us, or "".
std::string Registry::misfit(std::int64_t version) {
  if (version >= kOldest && version <= kVersion) return "";
  const std::string is = "the registry " + path_ + " has version " + std::to_string(version);
  const std::string ours = ", this broker's is " + std::to_string(kVersion);
  if (version < kOldest) return is + ours + ": it can bring up versions from " + std::to_string(kOldest) + " on";
  const std::int64_t reader = number("SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'oldest_reader'");
  if (reader > 0 && reader <= kVersion) return "";
  return is + ours + (reader > 0 ? ", and it takes one of " + std::to_string(reader) + " to go on with it" : "");
}

bool Registry::usable() {
  const std::string same_boot = "SELECT count(*) FROM meta WHERE key = 'boot' AND value = '" + boot_id() + "'";
  if (number(same_boot.c_str()) != 1) return false;
  sqlite3_stmt* statement = nullptr;
  bool sound = sqlite3_prepare_v2(database_, "PRAGMA quick_check(1)", -1, &statement, nullptr) == SQLITE_OK &&
               sqlite3_step(statement) == SQLITE_ROW;
  if (sound) {
    const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement, 0));
    sound = text != nullptr && std::string(text) == "ok";
  }
  sqlite3_finalize(statement);
  return sound;
}

namespace {

// The columns of one row, in order. A value that does not fit its field makes the row bad.
class Columns {
 public:
  explicit Columns(sqlite3_stmt* statement) : statement_(statement) {}

  template <class T>
  Columns& operator>>(T& value) {
    if constexpr (std::is_same_v<T, std::string>) {
      value = bytes();
    } else if constexpr (std::is_enum_v<T>) {
      std::underlying_type_t<T> number{};
      *this >> number;
      value = static_cast<T>(number);
    } else {
      if (sqlite3_column_type(statement_, at_) != SQLITE_INTEGER) good_ = false;
      const sqlite3_int64 number = sqlite3_column_int64(statement_, at_++);
      if constexpr (std::is_same_v<T, bool>) {
        good_ = good_ && (number == 0 || number == 1);
        value = number != 0;
      } else {
        value = static_cast<T>(number);
        // 64 bits without a sign are stored with one.
        good_ = good_ && static_cast<sqlite3_int64>(value) == number;
      }
    }
    return *this;
  }

  std::string bytes() {
    const auto* data = static_cast<const char*>(sqlite3_column_blob(statement_, at_));
    const auto size = static_cast<std::size_t>(sqlite3_column_bytes(statement_, at_));
    const int type = sqlite3_column_type(statement_, at_++);
    if (type != SQLITE_TEXT && type != SQLITE_BLOB) good_ = false;
    return data != nullptr ? std::string(data, size) : std::string();
  }

  bool good() const { return good_; }

 private:
  sqlite3_stmt* statement_;
  int at_ = 0;
  bool good_ = true;
};

}  // namespace

template <class Read>
std::string Registry::each(const std::string& sql, Read&& read) {
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v2(database_, sql.c_str(), -1, &statement, nullptr) != SQLITE_OK)
    return error("cannot read the registry");
  int result = SQLITE_ROW;
  bool good = true;
  while (good && (result = sqlite3_step(statement)) == SQLITE_ROW) {
    Columns columns(statement);
    read(columns);
    good = columns.good();
  }
  sqlite3_finalize(statement);
  if (!good) return "the registry " + path_ + " has a row that no broker has written";
  return result == SQLITE_DONE ? "" : error("cannot read the registry");
}

std::string Registry::load(Legacy& legacy) {
  broker::RegistryRows& rows = legacy.rows;
  std::string why = each(select_text(kPutSession, "id"), [&](Columns& row) {
    broker::SessionFacts& facts = rows.sessions.emplace_back();
    row >> facts.id >> facts.uid >> facts.gid >> facts.pid >> facts.name >> facts.exe >> facts.token_hash >>
        facts.membarrier >> facts.records >> facts.bells >> facts.created_ms;
    if (control::kNext) row >> facts.library;
  });
  if (!why.empty()) return why;
  why = each(select_text(kPutSegment, "id"), [&](Columns& row) {
    broker::SegmentFacts& facts = rows.segments.emplace_back();
    row >> facts.id >> facts.kind;
    std::string name = row.bytes();
    row >> facts.sealed >> facts.bytes >> facts.reserve_bytes >> facts.session >> facts.lane >> facts.created_ms;
    if (!name.empty()) legacy.names[facts.id] = std::move(name);
  });
  if (!why.empty()) return why;
  why = each(select_text(kPutTopic, "id"), [&](Columns& row) {
    broker::TopicFacts& facts = rows.topics.emplace_back();
    broker::TopicOptions& options = facts.options;
    row >> facts.id >> facts.name >> facts.block >> facts.decided >> options.ring >> options.chunks_max >>
        options.clock >> options.exclusive >> options.backing >> options.depth >> options.linger_ms >>
        options.stall_timeout_ms >> facts.type.name >> facts.type.bytes >> facts.type.align >> facts.type.hash;
  });
  if (!why.empty()) return why;
  why = each(select_text(kPutLane, "id"), [&](Columns& row) {
    broker::LaneFacts& facts = rows.lanes.emplace_back();
    row >> facts.id >> facts.topic >> facts.session >> facts.pid >> facts.process >> facts.publisher >> facts.segment >>
        facts.board >> facts.bytes_max >> facts.state >> facts.shown;
    const std::string blocks = row.bytes();
    facts.blocks.resize(blocks.size() / sizeof facts.blocks[0]);
    std::memcpy(facts.blocks.data(), blocks.data(), facts.blocks.size() * sizeof facts.blocks[0]);
  });
  if (!why.empty()) return why;
  why = each(select_text(kPutHandle, "id"), [&](Columns& row) {
    broker::HandleFacts& facts = rows.handles.emplace_back();
    row >> facts.id >> facts.session >> facts.topic >> facts.role >> facts.delivery >> facts.start >> facts.key;
  });
  if (!why.empty()) return why;
  return each(select_text(kPutReader, "lane, handle"), [&](Columns& row) {
    broker::ReaderFacts& facts = rows.readers.emplace_back();
    row >> facts.handle >> facts.lane >> facts.record >> facts.entry >> facts.lossless >> facts.turned >> facts.fresh;
  });
}

std::string Registry::set_aside(const std::string& why, std::string& sentence) {
  const std::uint64_t epoch = epoch_;
  const broker::SessionId session = last_session_;
  const std::uint64_t id = last_id_;
  close();
  if (std::string wrong = begin_anew("the registry " + path_ + " makes no sense (" + why + ")", sentence);
      !wrong.empty())
    return wrong;
  // It was sound enough to be read: whoever still uses its ids is not mistaken for somebody else.
  last_session_ = std::max(last_session_, session);
  last_id_ = std::max(last_id_, id);
  epoch_ = std::max(epoch_, epoch);
  const std::string numbers = "UPDATE meta SET value = '" + std::to_string(epoch_) + "' WHERE key = 'epoch'";
  return execute(numbers.c_str()) ? "" : error("cannot write the registry");
}

void Registry::begin() {
  if (in_transaction_) return;
  in_transaction_ = true;
  Statement(*this, kBegin).run();
  for (const auto& change : uncommitted_) change();
}

// Changes are kept until they are committed.
void Registry::write(std::function<void()> change) {
  begin();
  change();
  uncommitted_.push_back(std::move(change));
}

void Registry::put(const broker::Row& row, const std::string& segment_name) {
  write([this, row, segment_name] { put_now(row, segment_name); });
}

void Registry::put_now(const broker::Row& row, const std::string& segment_name) {
  struct Visitor {
    Registry& registry;
    const std::string& segment_name;

    void operator()(const broker::SessionFacts& facts) const {
      Statement put(registry, kPutSession);
      put << facts.id << facts.uid << facts.gid << facts.pid << facts.name << facts.exe;
      put.blob(facts.token_hash.data(), facts.token_hash.size());
      put << facts.membarrier << facts.records << facts.bells << facts.created_ms;
      if (control::kNext) put << facts.library;
      put.run();
    }
    void operator()(const broker::SegmentFacts& facts) const {
      Statement put(registry, kPutSegment);
      put << facts.id << static_cast<int>(facts.kind) << segment_name << facts.sealed << facts.bytes
          << facts.reserve_bytes << facts.session << facts.lane << facts.created_ms;
      put.run();
    }
    void operator()(const broker::TopicFacts& facts) const {
      const broker::TopicOptions& options = facts.options;
      Statement put(registry, kPutTopic);
      put << facts.id << facts.name << facts.block << facts.decided << options.ring << options.chunks_max
          << static_cast<int>(options.clock) << options.exclusive << static_cast<int>(options.backing) << options.depth
          << options.linger_ms << options.stall_timeout_ms << facts.type.name << facts.type.bytes << facts.type.align
          << facts.type.hash;
      put.run();
    }
    void operator()(const broker::LaneFacts& facts) const {
      Statement put(registry, kPutLane);
      put << facts.id << facts.topic << facts.session << facts.pid << facts.process << facts.publisher << facts.segment
          << facts.board << facts.bytes_max << static_cast<int>(facts.state) << facts.shown;
      put.blob(facts.blocks.data(), facts.blocks.size() * sizeof facts.blocks[0]);
      put.run();
    }
    void operator()(const broker::HandleFacts& facts) const {
      Statement put(registry, kPutHandle);
      put << facts.id << facts.session << facts.topic << static_cast<int>(facts.role)
          << static_cast<int>(facts.delivery) << static_cast<int>(facts.start) << facts.key;
      put.run();
    }
    void operator()(const broker::ReaderFacts& facts) const {
      Statement put(registry, kPutReader);
      put << facts.handle << facts.lane << facts.record << facts.entry << facts.lossless << facts.turned << facts.fresh;
      put.run();
    }
  };
  std::visit(Visitor{*this, segment_name}, row);
}

void Registry::erase(broker::Table table, std::uint64_t id) {
  write([this, table, id] {
    Statement erase(*this, kDeleteSession + static_cast<std::size_t>(table));
    erase << id;
    erase.run();
  });
}

void Registry::erase_reader(broker::HandleId handle, broker::LaneId lane) {
  write([this, handle, lane] {
    Statement erase(*this, kDeleteReader);
    erase << handle << lane;
    erase.run();
  });
}

std::string Registry::commit() {
  if (!in_transaction_ && uncommitted_.empty()) return "";
  begin();
  in_transaction_ = false;
  if (!failed_) (Statement(*this, kCount) << std::to_string(commits_ + 1)).run();
  if (!failed_) Statement(*this, kCommit).run();
  if (!failed_) {
    uncommitted_.clear();
    ++commits_;
    return "";
  }
  Statement(*this, kRollback).run();
  failed_ = false;
  return failure_;
}

}  // namespace holdfast::daemon
