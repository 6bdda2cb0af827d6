// SPDX-License-Identifier: MIT
//
// Sessions: how one begins and ends, and what it may know of others.
#include <algorithm>

#include "daemon/broker/check.hpp"
#include "daemon/broker/state.hpp"
#include "proto/control/versions.hpp"

namespace holdfast::broker {

namespace {

nlohmann::json descriptor_json(const SegmentFacts& segment, const char* kind, const char* access) {
  return {{"segment", segment.id}, {"kind", kind}, {"access", access}, {"bytes", segment.bytes}};
}

// A name for lists: at most kProcessNameBytesMax bytes, cut between two characters.
std::string shortened(std::string name) {
  if (name.size() <= kProcessNameBytesMax) return name;
  std::size_t end = kProcessNameBytesMax;
  while (end > 0 && (static_cast<unsigned char>(name[end]) & 0xc0) == 0x80) --end;
  name.resize(end);
  return name;
}

}  // namespace

void State::hello(Call call, Params& params) {
  if (!agree(call, params)) return;
  SessionFacts facts;
  facts.name = shortened(params.text("name", kExecutableBytesMax).value_or(""));
  facts.exe = params.text("exe", kExecutableBytesMax).value_or("");
  facts.membarrier = params.flag("membarrier").value_or(false);
  if (control::kNext) facts.library = params.text("library", kLibraryBytesMax).value_or("");
  params.finish();
  if (!params.ok()) return;
  const Connection& connection = tables_.connections.at(call.connection);
  if (connection.session != 0)
    return refuse(call, Refusal(control::Failure::kRequest, "this connection has a session already"));
  if (tables_.sessions.size() >= setup_.sessions_max)
    return refuse(call, Refusal(control::Failure::kBusy,
                                "the broker serves " + std::to_string(setup_.sessions_max) +
                                    " sessions and has as many: close some",
                                {{"limit", setup_.sessions_max}}));
  facts.id = ++last_session_;
  facts.uid = connection.peer.uid;
  facts.gid = connection.peer.gid;
  facts.pid = connection.peer.pid;
  facts.token = connection.token;
  facts.token_hash = hash_token(facts.token);
  facts.created_ms = now_;
  facts.records = next_id();
  facts.bells = next_id();
  Session& session = tables_.sessions[facts.id];
  session.facts = facts;
  Operation operation(Kind::kHello, call);
  operation.session = facts.id;
  CreateSegment create;
  create.pid = facts.pid;
  create.facts.session = facts.id;
  create.facts.sealed = facts.uid != setup_.uid;
  create.facts.id = facts.records;
  create.facts.kind = shm::SegmentKind::kSession;
  create.facts.bytes = kSessionBytesFirst;
  create.facts.reserve_bytes = kSessionReserve;
  auto refusal = add_segment(operation, create);
  // Whoever reads or writes with this session may write its bells. Where that can be another uid, nobody must be able to
  // cut them short: that would be a signal for all who ring them.
  create.facts.sealed = create.facts.sealed || setup_.group.has_value();
  create.facts.id = facts.bells;
  create.facts.kind = shm::SegmentKind::kBells;
  create.facts.bytes = kBellsBytesFirst;
  create.facts.reserve_bytes = kBellsReserve;
  if (!refusal) refusal = add_segment(operation, create);
  if (refusal) return abandon(std::move(operation), *refusal);
  begin(std::move(operation));
}

void State::commit_hello(const Operation& operation) {
  Session& session = tables_.sessions.at(operation.session);
  session.connection = operation.call.connection;
  Connection& connection = tables_.connections.at(operation.call.connection);
  connection.session = operation.session;
  put(session.facts);
  put_added(operation);
  const SegmentFacts& records = tables_.segments.at(session.facts.records);
  const SegmentFacts& bells = tables_.segments.at(session.facts.bells);
  const SegmentFacts& roster = tables_.segments.at(setup_.roster);
  nlohmann::json fds = nlohmann::json::array();
  fds.push_back(descriptor_json(records, "session", "rw"));
  fds.back()["reserve_bytes"] = records.reserve_bytes;
  fds.back()["keep"] = to_be_kept(records);
  fds.push_back(descriptor_json(bells, "bells", "rw"));
  fds.back()["reserve_bytes"] = bells.reserve_bytes;
  fds.back()["keep"] = to_be_kept(bells);
  fds.push_back(descriptor_json(roster, "roster", "ro"));
  nlohmann::json result{{"session", session.facts.id},
                        {"token", session.facts.token},
                        {"epoch", setup_.epoch},
                        {"instance", setup_.instance},
                        {"version", setup_.version},
                        {"protocol", connection.protocol},
                        {"layout", shm::kLayoutVersion},
                        {"quota_bytes_max", setup_.session_bytes_max},
                        {"full_fences", !session.facts.membarrier}};
  result["fds"] = std::move(fds);
  reply(operation.call, std::move(result), {{records.id, true}, {bells.id, true}, {roster.id, false}},
        session.facts.id);
  actions_.emplace_back(Log{Log::Level::kDebug, "session " + std::to_string(session.facts.id) + " begins: pid " +
                                                    std::to_string(session.facts.pid) + ", uid " +
                                                    std::to_string(session.facts.uid)});
}

void State::bye(Call call, Params& params) {
  params.finish();
  if (!params.ok()) return;
  // Its handles were closed, or are by this.
  end_session(session_of(call).facts.id, shm::LaneState::kFinished);
  reply(call, nlohmann::json::object());
  actions_.emplace_back(CloseConnection{call.connection});
}

// Every step follows from rows, so that a broker that dies on the way does the rest at its next start. The row is last.
void State::end_session(SessionId id, shm::LaneState state) {
  Session& session = tables_.sessions.at(id);
  const auto publishers = session.publishers;
  for (const HandleId handle : publishers) close_publisher(handle, state);
  const auto subscribers = session.subscribers;
  for (const HandleId handle : subscribers) close_subscriber(handle);
  rings_.erase(session.facts.bells);
  // Rows 8b and 14b: its readers and the writers that it held back, after they are off the rosters.
  flush_rings();
  for (const SegmentId segment : {session.facts.records, session.facts.bells}) {
    actions_.emplace_back(RemoveSegment{segment});
    actions_.emplace_back(DeleteRow{Table::kSegments, segment});
    tables_.segments.erase(segment);
    tables_.lost.erase(segment);
  }
  if (session.connection != 0) tables_.connections.at(session.connection).session = 0;
  to_ask_.erase(id);
  actions_.emplace_back(UnwatchProcess{id});
  actions_.emplace_back(DeleteRow{Table::kSessions, id});
  actions_.emplace_back(Log{Log::Level::kDebug, "session " + std::to_string(id) + " has ended"});
  tables_.sessions.erase(id);
}

#if HOLDFAST_NEXT
// A session that began with a broker that did not ask.
void State::session_library(Call call, Params& params) {
  const std::string library = params.required_text("library", kLibraryBytesMax);
  params.finish();
  if (!params.ok()) return;
  Session& session = session_of(call);
  session.facts.library = library;
  put(session.facts);
  reply(call, nlohmann::json::object());
}
#endif

void State::peers(Call call, Params& params) {
  const auto asked = params.numbers("sessions", kPeersPerRequest, UINT32_MAX);
  if (!asked) params.refuse("sessions", "is missing: a list of session ids");
  params.finish();
  if (!params.ok()) return;
  nlohmann::json list = nlohmann::json::array();
  nlohmann::json fds = nlohmann::json::array();
  std::vector<DescriptorRequest> descriptors;
  for (const std::uint64_t id : *asked) {
    const auto at = tables_.sessions.find(static_cast<SessionId>(id));
    nlohmann::json peer{{"session", id}, {"alive", at != tables_.sessions.end()}};
    if (at != tables_.sessions.end() && !tables_.lost.contains(at->second.facts.records) &&
        !tables_.lost.contains(at->second.facts.bells)) {
      const SegmentFacts& records = tables_.segments.at(at->second.facts.records);
      const SegmentFacts& bells = tables_.segments.at(at->second.facts.bells);
      peer["session_bytes"] = records.bytes;
      peer["session_reserve_bytes"] = records.reserve_bytes;
      peer["bells_reserve_bytes"] = bells.reserve_bytes;
      fds.push_back(descriptor_json(records, "session", "ro"));
      fds.back()["session"] = id;
      fds.push_back(descriptor_json(bells, "bells", "rw"));
      fds.back()["session"] = id;
      descriptors.push_back({records.id, false});
      descriptors.push_back({bells.id, true});
    }
    list.push_back(std::move(peer));
  }
  nlohmann::json result = nlohmann::json::object();
  result["peers"] = std::move(list);
  result["fds"] = std::move(fds);
  reply(call, std::move(result), std::move(descriptors));
}

void State::bell_open(Call call, Params& params) {
  const auto bell = static_cast<std::uint32_t>(params.required_number("bell", 0, shm::kBellCount - 1));
  params.finish();
  if (!params.ok()) return;
  const Session& session = session_of(call);
  Operation operation(Kind::kOpenEvent, call);
  operation.session = session.facts.id;
  operation.value = bell;
  if (!session.events.contains(bell)) {
    std::size_t count = 0;
    for (const auto& [id, other] : tables_.sessions) count += other.events.size();
    if (count >= kEventsMax)
      return refuse(call, Refusal(control::Failure::kBusy,
                                  "the broker has made " + std::to_string(count) + " eventfds, as many as it may",
                                  {{"limit", kEventsMax}}));
    operation.needs.emplace_back(OpenEvent{0, session.facts.bells, bell, next_id()});
  }
  begin(std::move(operation));
}

void State::commit_event(const Operation& operation) {
  Session& session = tables_.sessions.at(operation.session);
  const auto bell = static_cast<std::uint32_t>(operation.value);
  if (!operation.needs.empty()) session.events[bell] = std::get<OpenEvent>(operation.needs.front()).event;
  const std::uint64_t event = session.events.at(bell);
  reply(operation.call,
        {{"event", event},
         {"fds", nlohmann::json::array({{{"segment", session.facts.bells},
                                         {"kind", "event"},
                                         {"access", "rw"},
                                         {"bytes", sizeof(std::uint64_t)}}})}},
        {{0, true, event}});
}

void State::bell_event(Call call, Params& params) {
  const auto id = static_cast<SessionId>(params.required_number("session", 0, UINT32_MAX));
  const auto bell = static_cast<std::uint32_t>(params.required_number("bell", 0, shm::kBellCount - 1));
  params.finish();
  if (!params.ok()) return;
  const auto at = tables_.sessions.find(id);
  if (at == tables_.sessions.end() || !at->second.events.contains(bell))
    return refuse(
        call, Refusal(control::Failure::kNotFound, "bell " + std::to_string(bell) + " of session " +
                                                       std::to_string(id) + " has no eventfd, or the session is gone"));
  const std::uint64_t event = at->second.events.at(bell);
  reply(call,
        {{"event", event},
         {"fds", nlohmann::json::array({{{"segment", at->second.facts.bells},
                                         {"kind", "event"},
                                         {"access", "rw"},
                                         {"bytes", sizeof(std::uint64_t)}}})}},
        {{0, true, event}});
}

}  // namespace holdfast::broker
