// SPDX-License-Identifier: MIT
//
// What happens to the broker. The shell turns the world into these; State::step() answers with actions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <nlohmann/json.hpp>

#include "daemon/broker/rows.hpp"
#include "proto/control/errors.hpp"

namespace holdfast::broker {

// Who the kernel says a peer is.
struct Peer {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::int32_t pid = 0;
  std::vector<std::uint32_t> groups;
};

struct Connected {
  ConnectionId connection;
  Peer peer;
  std::string token;  // fresh and secret: for the session that this connection may become
};

struct Request {
  ConnectionId connection;
  nlohmann::json id;  // integer or string
  std::string method;
  nlohmann::json params;  // an object
};

// How an action that can fail has ended.
struct Outcome {
  std::optional<control::Failure> failure;
  std::uint64_t asked_bytes = 0;  // no_memory
  std::uint64_t free_bytes = 0;
  std::string call;  // system
  int error = 0;
  std::uint64_t value = 0;  // ReadCursor: the cursor
};

// The answer to an action that has an operation.
struct SegmentReady {
  OperationId operation;
  Outcome outcome;
};

struct Disconnected {
  ConnectionId connection;
};

// The process is gone, or has let go of the session, says the kernel.
struct SessionEnded {
  SessionId session;
};

// The descriptors of a reply could not be sent: what the reply was about does not come to be.
struct ReplyLost {
  SessionId session;
  HandleId handle;  // 0: the session itself
};

// A client that resumes has given back a segment that was lost: its file is there again.
struct SegmentBack {
  SegmentId segment;
};

struct Tick {};
struct Drain {};

using Event =
    std::variant<Connected, Request, SegmentReady, Disconnected, SessionEnded, ReplyLost, SegmentBack, Tick, Drain>;

}  // namespace holdfast::broker
