// SPDX-License-Identifier: MIT
//
// What the state machine wants done. The shell carries the actions of one step out in order, each before the next;
// rows are committed before the next reply and at the latest at the end of the step. Actions with an `operation` can
// fail: the shell answers each with SegmentReady. All others cannot, or their failure changes nothing for anybody.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <nlohmann/json.hpp>

#include "daemon/broker/report.hpp"
#include "daemon/broker/rows.hpp"
#include "proto/control/errors.hpp"

namespace holdfast::broker {

// ---- with an answer

// Makes the file, reserves its memory, maps it and writes its header. `lane`, `topic`, `ring`, `chunks_max`: lanes only.
struct CreateSegment {
  OperationId operation;
  SegmentFacts facts;
  std::int32_t pid = 0;
  TopicId topic = 0;
  std::uint32_t ring = 0;
  std::uint32_t chunks_max = 0;
};

// Reserves memory up to `bytes`. The roster's valid size is published at once, that of a lane by StoreSize.
struct GrowSegment {
  OperationId operation;
  SegmentId segment;
  std::uint64_t bytes;
};

// Nobody can shrink the file or map it writable from now on.
struct SealSegment {
  OperationId operation;
  SegmentId segment;
};

// Loads the cursor of a reader record, once.
struct ReadCursor {
  OperationId operation;
  SegmentId segment;
  std::uint64_t record;
};

// Makes the eventfd of a bell and says so in the bell.
struct OpenEvent {
  OperationId operation;
  SegmentId segment;
  std::uint32_t bell;
  std::uint64_t event;
};

// ---- shared memory

// Nothing uses it any more. Its memory is free when the rows that go with it are committed: no row may name a file that is
// not there.
struct RemoveSegment {
  SegmentId segment;
};
// Row 11 and 11a of the ordering rules. Counters that were in it are added to the totals first.
struct ResetRecord {
  SegmentId segment;
  std::uint64_t record;
  std::uint32_t chunks_max;
  std::uint64_t cursor;
};
struct ClearBoard {
  SegmentId segment;
  std::uint64_t board;
};
// All of a block but its `changes`, which never goes back.
struct ClearBlock {
  std::uint64_t block;
};
struct StoreEntry {
  std::uint64_t block;
  std::uint32_t place;
  std::uint64_t entry;
};
struct StoreSize {
  std::uint64_t block;
  std::uint64_t bytes;
};
struct StoreFlags {
  std::uint64_t block;
  std::uint64_t flags;
};
struct StoreNext {
  std::uint64_t block;
  std::uint64_t next;
};
struct BumpChanges {
  std::uint64_t block;
};
// Compare-and-swap from open.
struct EndLane {
  SegmentId segment;
  shm::LaneState state;
};
// One heavy fence, then every armed bell of these segments.
struct RingBells {
  std::vector<SegmentId> bells;
};

// ---- the registry

struct PutRow {
  Row row;
};
struct DeleteRow {
  Table table;
  std::uint64_t id;
};
struct DeleteReader {
  HandleId handle;
  LaneId lane;
};

// ---- the socket

struct DescriptorRequest {
  SegmentId segment = 0;
  bool writable = false;
  std::uint64_t event = 0;  // not 0: the eventfd of this number
};

struct Reply {
  ConnectionId connection;
  nlohmann::json id;
  nlohmann::json result;
  std::vector<DescriptorRequest> descriptors;
  // What to undo (ReplyLost) if the descriptors cannot be had.
  SessionId session = 0;
  HandleId handle = 0;
};
struct ReplyError {
  ConnectionId connection;
  nlohmann::json id;
  control::Failure failure;
  std::string sentence;
  nlohmann::json numbers;
};
struct ReplyReport {
  ConnectionId connection;
  nlohmann::json id;
  Report report;
};
// After what was replied has been sent.
struct CloseConnection {
  ConnectionId connection;
};
// Nothing more is read from it: another connection has taken its session.
struct CutConnection {
  ConnectionId connection;
};

// ---- the rest

// Tick at this time; nothing: no timer.
struct SetTimer {
  std::optional<TimeMs> at;
};
// Nobody holds the lock of this session: SessionEnded. A client holds it from `hello` on until it closes the session, and
// its process lets go of it when it ends, or becomes another program.
struct AskLock {
  SessionId session;
};
// The connection of this session hung up: SessionEnded when its process is gone.
struct WatchProcess {
  SessionId session;
  ConnectionId connection;
};
// It has a connection again, or is gone.
struct UnwatchProcess {
  SessionId session;
};
struct Log {
  enum class Level : std::uint8_t { kDebug, kNotice, kWarning } level;
  std::string text;
};

using Action = std::variant<CreateSegment, GrowSegment, SealSegment, ReadCursor, OpenEvent, RemoveSegment, ResetRecord,
                            ClearBoard, ClearBlock, StoreEntry, StoreSize, StoreFlags, StoreNext, BumpChanges, EndLane,
                            RingBells, PutRow, DeleteRow, DeleteReader, Reply, ReplyError, ReplyReport, CloseConnection,
                            CutConnection, SetTimer, AskLock, WatchProcess, UnwatchProcess, Log>;

using Actions = std::vector<Action>;

}  // namespace holdfast::broker
