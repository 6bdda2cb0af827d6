// SPDX-License-Identifier: MIT
#include "daemon/broker/state.hpp"

#include <algorithm>

#include "daemon/broker/check.hpp"
#include "proto/control/versions.hpp"

namespace holdfast::broker {

namespace {

constexpr std::uint32_t kOverflowUid = 65'534;  // the kernel's word for a uid that this namespace does not know

bool admits(const BrokerSetup& setup, const Peer& peer) {
  if (peer.uid == setup.uid || peer.uid == 0) return true;
  if (peer.uid == kOverflowUid || !setup.group) return false;
  return peer.gid == *setup.group ||
         std::find(peer.groups.begin(), peer.groups.end(), *setup.group) != peer.groups.end();
}

}  // namespace

const State::MethodRow State::kMethods[] = {
    {"ping", false, &State::ping},
    {"stats", false, &State::stats},
    {"topics", false, &State::topics},
    {"sessions", false, &State::sessions},
    {"segments", false, &State::segments},
    {"hello", false, &State::hello},
    {"publisher.open", true, &State::publisher_open},
    {"publisher.mapped", true, &State::publisher_mapped},
    {"resume.begin", false, &State::resume_begin},
    {"resume.memory", false, &State::resume_memory},
    {"resume.handles", false, &State::resume_handles},
    {"resume.end", false, &State::resume_end},
    {"subscriber.open", true, &State::subscriber_open},
    {"subscriber.lanes", true, &State::subscriber_lanes},
    {"subscriber.release", true, &State::subscriber_release},
    {"lane.grow", true, &State::lane_grow},
    {"lane.turn", true, &State::lane_turn},
    {"peers", true, &State::peers},
    {"bell.open", true, &State::bell_open},
    {"bell.event", true, &State::bell_event},
    {"close", true, &State::close},
    {"bye", true, &State::bye},
#if HOLDFAST_NEXT
    {"session.library", true, &State::session_library},
#endif
};

State::State(BrokerSetup setup)
    : setup_(std::move(setup)),
      blocks_(sizeof(shm::RosterHeader), shm::kRosterReserve, sizeof(shm::RosterBlock)),
      last_session_(setup_.last_session),
      last_id_(std::max(setup_.last_id, setup_.roster)) {
  SegmentFacts& roster = tables_.segments[setup_.roster];
  roster.id = setup_.roster;
  roster.kind = shm::SegmentKind::kRoster;
  roster.bytes = setup_.roster_bytes;
  roster.reserve_bytes = shm::kRosterReserve;
  roster.created_ms = setup_.started_ms;
}

Actions State::step(TimeMs now, Event event) {
  check(now >= now_, "time does not go back");
  now_ = now;
  actions_.clear();
  std::visit([this](const auto& happened) { on(happened); }, event);
  flush_rings();
  schedule();
  return std::exchange(actions_, {});
}

void State::schedule() {
  std::optional<TimeMs> at;
  if (!idle_.empty() && idle_.begin()->first != INT64_MAX) at = idle_.begin()->first;
  if (to_ask_.empty() || draining_)
    ask_at_.reset();
  else if (!ask_at_)
    ask_at_ = now_ + kAskLocksMs;
  if (ask_at_ && (!at || *ask_at_ < *at)) at = ask_at_;
  if (at == timer_) return;
  timer_ = at;
  actions_.emplace_back(SetTimer{at});
}

void State::on(const Connected& event) {
  auto& of_uid = tables_.connections_of_uid[event.peer.uid];
  const bool full = tables_.connections.size() >= setup_.connections_max;
  if (full || of_uid.size() >= setup_.connections_per_uid) {
    const std::size_t limit = full ? setup_.connections_max : setup_.connections_per_uid;
    if (of_uid.empty()) tables_.connections_of_uid.erase(event.peer.uid);
    refuse({event.connection, nullptr},
           Refusal(control::Failure::kBusy,
                   full ? "the broker serves " + std::to_string(limit) + " connections and has as many: close some"
                        : "uid " + std::to_string(event.peer.uid) + " has " + std::to_string(limit) +
                              " connections, as many as it may: close some, or raise limits.connections_per_uid",
                   {{"limit", limit}}));
    actions_.emplace_back(CloseConnection{event.connection});
    return;
  }
  Connection& connection = tables_.connections[event.connection];
  connection.peer = event.peer;
  connection.token = event.token;
  connection.admitted = admits(setup_, event.peer);
  of_uid.insert(event.connection);
}

void State::on(const Disconnected& event) {
  const auto at = tables_.connections.find(event.connection);
  if (at == tables_.connections.end()) return;
  const auto of_uid = tables_.connections_of_uid.find(at->second.peer.uid);
  of_uid->second.erase(event.connection);
  if (of_uid->second.empty()) tables_.connections_of_uid.erase(of_uid);
  const SessionId session = at->second.session;
  tables_.connections.erase(at);
  if (session == 0) return;
  tables_.sessions.at(session).connection = 0;
  actions_.emplace_back(WatchProcess{session, event.connection});
  watch_lock(session);
  if (!draining_ && to_ask_.contains(session)) actions_.emplace_back(AskLock{session});
}

// The process may live on without this session, and nothing else would tell us. Where its memory is lost there is no lock
// to ask.
void State::watch_lock(SessionId id) {
  if (!tables_.lost.contains(tables_.sessions.at(id).facts.records)) to_ask_.insert(id);
}

void State::on(const Request& event) {
  const auto at = tables_.connections.find(event.connection);
  if (at == tables_.connections.end()) return;
  const Call call{event.connection, event.id};
  const auto* row = std::find_if(std::begin(kMethods), std::end(kMethods),
                                 [&](const MethodRow& known) { return known.name == event.method; });
  if (row == std::end(kMethods)) {
    std::string sentence = "there is no such method; there are";
    for (const MethodRow& known : kMethods) sentence += " " + std::string(known.name);
    return refuse(call, Refusal(control::Failure::kMethod, std::move(sentence)));
  }
  if (auto refusal = may_call(at->second, *row)) return refuse(call, std::move(*refusal));
  std::optional<Refusal> wrong;
  Params params(event.params, wrong);
  if (at->second.newer) params.tolerate();
  (this->*row->method)(call, params);
  if (wrong) refuse(call, std::move(*wrong));
}

std::optional<Refusal> State::may_call(const Connection& connection, const MethodRow& row) const {
  if (!connection.admitted)
    return Refusal(control::Failure::kDenied,
                   "uid " + std::to_string(connection.peer.uid) +
                       " may not use this broker: run as its user, or join the group of its socket",
                   {{"uid", connection.peer.uid}});
  const bool resumes = row.name.starts_with("resume.") && row.name != "resume.begin";
  if (resumes != (connection.resuming != 0) && row.name != "ping" && row.name != "stats")
    return Refusal(control::Failure::kRequest,
                   resumes
                       ? std::string(row.name) + " comes after resume.begin"
                       : "between resume.begin and resume.end come only resume.memory, resume.handles, ping and stats");
  if (draining_ && (row.name == "hello" || row.name == "publisher.open" || row.name == "subscriber.open"))
    return Refusal(control::Failure::kDraining, "the broker is shutting down and opens nothing new: try again later");
  if (row.needs_session && connection.session == 0)
    return Refusal(control::Failure::kHello, std::string(row.name) + " needs a session: send hello first");
  return std::nullopt;
}

void State::on(const SegmentReady& event) {
  const auto at = operations_.find(event.operation);
  check(at != operations_.end(), "an answer has its operation");
  Operation& operation = at->second;
  if (event.outcome.failure) {
    // What lingers goes before a request fails for want of memory.
    if (event.outcome.failure == control::Failure::kNoMemory && drop_one_idle_lane()) return proceed(event.operation);
    Operation failed = std::move(operation);
    operations_.erase(at);
    return abandon(std::move(failed), explain(event.outcome));
  }
  operation.outcome = event.outcome;
  if (const auto* grown = std::get_if<GrowSegment>(&operation.needs[operation.next])) note_grown(*grown);
  ++operation.next;
  proceed(event.operation);
}

void State::on(const SessionEnded& event) {
  if (tables_.sessions.contains(event.session)) end_session(event.session, shm::LaneState::kAborted);
}

void State::on(const ReplyLost& event) {
  if (event.handle == 0) return on(SessionEnded{event.session});
  if (tables_.publishers.contains(event.handle)) return close_publisher(event.handle, shm::LaneState::kAborted);
  if (tables_.subscribers.contains(event.handle)) close_subscriber(event.handle);
}

void State::on(const Tick&) {
  while (!idle_.empty() && idle_.begin()->first <= now_) remove_lane(idle_.begin()->second);
  if (!ask_at_ || *ask_at_ > now_) return;
  ask_at_.reset();
  for (const SessionId session : to_ask_) actions_.emplace_back(AskLock{session});
}

void State::on(const Drain&) {
  draining_ = true;
  actions_.emplace_back(Log{Log::Level::kNotice, "draining: nothing new is opened"});
}

void State::reply(const Call& call, nlohmann::json result, std::vector<DescriptorRequest> descriptors,
                  SessionId session, HandleId handle) {
  flush_rings();
  actions_.emplace_back(Reply{call.connection, call.id, std::move(result), std::move(descriptors), session, handle});
}

void State::refuse(const Call& call, Refusal refusal) {
  flush_rings();
  actions_.emplace_back(
      ReplyError{call.connection, call.id, refusal.failure, std::move(refusal.sentence), std::move(refusal.numbers)});
}

Session& State::session_of(const Call& call) {
  return tables_.sessions.at(tables_.connections.at(call.connection).session);
}

}  // namespace holdfast::broker
