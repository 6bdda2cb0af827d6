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
  connection.memory_asked = 0;
  reply(call, {{"session", id},
               {"lost", ask_for_memory(connection)},
               {"epoch", setup_.epoch},
               {"instance", setup_.instance},
               {"version", setup_.version},
               {"protocol", connection.protocol},
               {"layout", shm::kLayoutVersion},
               {"full_fences", !facts.membarrier}});
}

// Sealed segments of this session that nobody has kept for the broker. Each is asked for once.
nlohmann::json State::ask_for_memory(Connection& connection) {
  nlohmann::json asked = nlohmann::json::array();
  const auto session = tables_.sessions.find(connection.resuming);
  if (session != tables_.sessions.end()) {
    const std::set<SegmentId>& own = session->second.segments;
    auto at = own.upper_bound(connection.memory_asked);
    for (; at != own.end() && asked.size() < kDescriptorsPerRequest; ++at) {
      connection.memory_asked = *at;
      if (lost_segment(*at)) asked.push_back(*at);
    }
  }
  connection.awaits_memory = !asked.empty();
  return asked;
}

// May its client give it back? A lane that has ended it has let go of.
bool State::lost_segment(SegmentId segment) const {
  if (!tables_.lost.contains(segment)) return false;
  const auto lane = tables_.lanes.find(tables_.segments.at(segment).lane);
  return lane == tables_.lanes.end() || !lane->second.ended();
}

bool State::awaits_memory(ConnectionId connection) const {
  const auto at = tables_.connections.find(connection);
  return at != tables_.connections.end() && at->second.resuming != 0 && at->second.awaits_memory;
}

const SegmentFacts* State::awaited_segment(ConnectionId connection, SegmentId segment) const {
  if (!awaits_memory(connection) || !tables_.lost.contains(segment) || !lost_segment(segment)) return nullptr;
  const SegmentFacts& facts = tables_.segments.at(segment);
  return facts.session == tables_.connections.at(connection).resuming ? &facts : nullptr;
}

// As if it had never been away: who could not be given it, or could not use it, looks again.
void State::on(const SegmentBack& event) {
  tables_.lost.erase(event.segment);
  const SegmentFacts& segment = tables_.segments.at(event.segment);
  const auto show = [this](const Lane& lane) {
    const Topic& topic = tables_.topics.at(lane.facts.topic);
    bump(topic.facts.block);
    ring_subscribers(topic);
  };
  if (segment.kind == shm::SegmentKind::kLane) return show(tables_.lanes.at(segment.lane));
  const Session& session = tables_.sessions.at(segment.session);
  if (session.connection == 0) watch_lock(segment.session);
  for (const HandleId handle : session.publishers) show(tables_.lanes.at(tables_.publishers.at(handle).lane));
  for (const HandleId handle : session.subscribers)
    for (const LaneId id : tables_.subscribers.at(handle).lanes) {
      const Lane& lane = tables_.lanes.at(id);
      bump(lane.blocks.front());
      if (!lane.ended()) ring_session(lane.facts.session);
    }
}

// The descriptors came with it, and the shell has looked at them.
void State::resume_memory(Call call, Params& params) {
  params.finish();
  if (!params.ok()) return;
  nlohmann::json result = nlohmann::json::object();
  result["lost"] = ask_for_memory(tables_.connections.at(call.connection));
  reply(call, std::move(result));
}

bool State::lane_lost(HandleId publisher) const {
  const auto at = tables_.publishers.find(publisher);
  return at != tables_.publishers.end() && tables_.lost.contains(tables_.lanes.at(at->second.lane).facts.segment);
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
                       (session->second.publishers.contains(handle) || session->second.subscribers.contains(handle)) &&
                       !lane_lost(handle);
    if (known)
      connection.resumed.insert(handle);
    else
      unknown.push_back(handle);
  }
  // What they have made, if anything, will be asked for again.
  if (keys && session != tables_.sessions.end())
    for (const std::uint64_t key : *keys)
      if (const HandleId handle = known_key(session->second, key); handle != 0 && !lane_lost(handle))
        connection.resumed.insert(handle);
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
  // What it holds stays as it is until its process is gone.
  if (tables_.lost.contains(session.facts.records) || tables_.lost.contains(session.facts.bells))
    return refuse(call, Refusal(control::Failure::kNotFound,
                                "the memory of session " + std::to_string(id) +
                                    " is lost: it was sealed, and neither systemd nor its client has kept it for this "
                                    "broker"));
  // The newest connection counts: the client has given the other one up.
  if (session.connection != 0) {
    tables_.connections.at(session.connection).session = 0;
    actions_.emplace_back(CutConnection{session.connection});
  }
  session.connection = call.connection;
  to_ask_.erase(id);
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
  drop(session.publishers, [this](HandleId handle) {
    close_publisher(handle, lane_lost(handle) ? shm::LaneState::kAborted : shm::LaneState::kFinished);
  });
  drop(session.subscribers, [this](HandleId handle) { close_subscriber(handle); });
  reply(call, {{"dropped", dropped}});
  actions_.emplace_back(Log{Log::Level::kDebug, "session " + std::to_string(id) + " goes on with " +
                                                    std::to_string(held.size()) + " handles, " +
                                                    std::to_string(dropped) + " dropped"});
}

}  // namespace holdfast::broker
