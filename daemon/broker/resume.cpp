// SPDX-License-Identifier: MIT
//
// A client that lost its connection, perhaps with its broker, takes its session up again: it shows the token, lists the
// handles that it holds, and the rest is dropped. Until `resume.end` nothing has changed.
#include <openssl/sha.h>

#include "daemon/broker/state.hpp"

namespace holdfast::broker {

std::string hash_token(const std::string& token) {
  std::string hash(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(token.data()), token.size(),
         reinterpret_cast<unsigned char*>(hash.data()));
  return hash;
}

// The handle that this session opened with this key, or 0.
HandleId State::known_key(const Session& session, std::uint64_t key) {
  const auto at = key == 0 ? session.keys.end() : session.keys.find(key);
  return at == session.keys.end() ? 0 : at->second;
}

Refusal State::key_of_another(std::uint64_t key, HandleId handle) {
  return Refusal(control::Failure::kMismatch,
                 "key " + std::to_string(key) + " has opened handle " + std::to_string(handle) +
                     " for something else: a key belongs to one request",
                 {{"option", "key"}, {"topic", handle}, {"asked", key}});
}

void State::resume_begin(Call call, Params& params) {
  if (!agree(call, params)) return;
  const auto id = static_cast<SessionId>(params.required_number("session", 1, UINT32_MAX));
  const std::string token = params.required_text("token", kTokenBytesMax);
  params.finish();
  if (!params.ok()) return;
  Connection& connection = tables_.connections.at(call.connection);
  if (connection.session != 0)
    return refuse(call, Refusal(control::Failure::kRequest, "this connection has a session already"));
  const auto session = tables_.sessions.find(id);
  if (session == tables_.sessions.end() || session->second.facts.token_hash != hash_token(token))
    return refuse(call, Refusal(control::Failure::kNotFound,
                                "session " + std::to_string(id) +
                                    " is not known here, or its token is another one: it has ended, or the broker "
                                    "began anew"));
  const SessionFacts& facts = session->second.facts;
  if (facts.uid != connection.peer.uid)
    return refuse(call, Refusal(control::Failure::kDenied,
                                "session " + std::to_string(id) + " belongs to uid " + std::to_string(facts.uid) +
                                    ", not to uid " + std::to_string(connection.peer.uid),
                                {{"uid", connection.peer.uid}}));
  connection.resuming = id;
  connection.resumed.clear();
  reply(call, {{"session", id},
               {"epoch", setup_.epoch},
               {"instance", setup_.instance},
               {"version", setup_.version},
               {"protocol", connection.protocol},
               {"layout", shm::kLayoutVersion},
               {"full_fences", !facts.membarrier}});
}

void State::resume_handles(Call call, Params& params) {
  const auto handles = params.numbers("handles", kHandlesPerResume, UINT64_MAX);
  const auto keys = params.numbers("keys", kHandlesPerResume, INT64_MAX);
  if (!handles) params.refuse("handles", "is missing: a list of handles");
  params.finish();
  if (!params.ok()) return;
  Connection& connection = tables_.connections.at(call.connection);
  nlohmann::json unknown = nlohmann::json::array();
  const auto session = tables_.sessions.find(connection.resuming);
  for (const HandleId handle : *handles) {
    const bool known = session != tables_.sessions.end() &&
                       (session->second.publishers.contains(handle) || session->second.subscribers.contains(handle));
    if (known)
      connection.resumed.insert(handle);
    else
      unknown.push_back(handle);
  }
  // What they have made, if anything, will be asked for again.
  if (keys && session != tables_.sessions.end())
    for (const std::uint64_t key : *keys)
      if (const HandleId handle = known_key(session->second, key); handle != 0) connection.resumed.insert(handle);
  nlohmann::json result = nlohmann::json::object();
  result["unknown"] = std::move(unknown);
  reply(call, std::move(result));
}

void State::resume_end(Call call, Params& params) {
  params.finish();
  if (!params.ok()) return;
  Connection& connection = tables_.connections.at(call.connection);
  const SessionId id = std::exchange(connection.resuming, 0);
  const std::set<HandleId> held = std::exchange(connection.resumed, {});
  const auto at = tables_.sessions.find(id);
  if (at == tables_.sessions.end())
    return refuse(call, Refusal(control::Failure::kNotFound, "session " + std::to_string(id) + " has ended meanwhile"));
  Session& session = at->second;
  // The newest connection counts: the client has given the other one up.
  if (session.connection != 0) {
    tables_.connections.at(session.connection).session = 0;
    actions_.emplace_back(CutConnection{session.connection});
  }
  session.connection = call.connection;
  actions_.emplace_back(UnwatchProcess{id});
  connection.session = id;
  std::size_t dropped = 0;
  const auto drop = [&](const std::set<HandleId>& handles, auto&& close) {
    for (const HandleId handle : std::set<HandleId>(handles)) {
      if (held.contains(handle)) continue;
      close(handle);
      ++dropped;
    }
  };
  drop(session.publishers, [this](HandleId handle) { close_publisher(handle, shm::LaneState::kFinished); });
  drop(session.subscribers, [this](HandleId handle) { close_subscriber(handle); });
  reply(call, {{"dropped", dropped}});
  actions_.emplace_back(Log{Log::Level::kDebug, "session " + std::to_string(id) + " goes on with " +
                                                    std::to_string(held.size()) + " handles, " +
                                                    std::to_string(dropped) + " dropped"});
}

}  // namespace holdfast::broker
