// SPDX-License-Identifier: MIT
//
// Operations: what a request needs, one by one, then all of it or nothing.
#include <algorithm>

#include "daemon/broker/check.hpp"
#include "daemon/broker/state.hpp"

namespace holdfast::broker {

namespace {

// Tells an action which operation it belongs to.
struct Assign {
  OperationId operation;
  void operator()(CreateSegment& need) const { need.operation = operation; }
  void operator()(GrowSegment& need) const { need.operation = operation; }
  void operator()(SealSegment& need) const { need.operation = operation; }
  void operator()(ReadCursor& need) const { need.operation = operation; }
  void operator()(OpenEvent& need) const { need.operation = operation; }
  template <class Other>
  void operator()(Other&) const {
    check(false, "only actions with an answer are needs");
  }
};

}  // namespace

void State::begin(Operation operation) {
  plan_growth(operation);
  const OperationId id = next_id();
  for (Action& need : operation.needs) std::visit(Assign{id}, need);
  operations_.emplace(id, std::move(operation));
  proceed(id);
}

void State::proceed(OperationId id) {
  const auto at = operations_.find(id);
  Operation& operation = at->second;
  if (operation.next < operation.needs.size()) {
    actions_.push_back(operation.needs[operation.next]);
    return;
  }
  const Operation done = std::move(operation);
  operations_.erase(at);
  commit(done);
}

void State::commit(const Operation& operation) {
  switch (operation.kind) {
    case Kind::kHello:
      return commit_hello(operation);
    case Kind::kOpenPublisher:
      return commit_lane(operation);
    case Kind::kMapped:
      return commit_mapped(operation);
    case Kind::kOpenSubscriber:
      return commit_subscriber(operation);
    case Kind::kListLanes:
      return commit_list(operation);
    case Kind::kGrowLane:
      return commit_grow(operation);
    case Kind::kTurn:
      return commit_turn(operation);
    case Kind::kOpenEvent:
      return commit_event(operation);
  }
}

// Requires: the operation is not in operations_ (any more).
void State::abandon(Operation operation, const Refusal& refusal) {
  undo(operation);
  refuse(operation.call, refusal);
}

// The reverse of everything that was reserved.
void State::undo(Operation& operation) {
  for (auto at = operation.readers.rbegin(); at != operation.readers.rend(); ++at)
    unreserve_reader(at->first, at->second);
  // The first `next` needs were met; what they created goes.
  for (std::size_t i = 0; i < operation.next; ++i)
    if (const auto* created = std::get_if<CreateSegment>(&operation.needs[i]))
      actions_.emplace_back(RemoveSegment{created->facts.id});
  for (const SegmentId segment : operation.added) {
    const auto at = tables_.segments.find(segment);
    const auto owner = tables_.sessions.find(at->second.session);
    if (owner != tables_.sessions.end()) owner->second.segments.erase(segment);
    tables_.segments.erase(at);
  }
  if (operation.kind == Kind::kHello) tables_.sessions.erase(operation.session);
  if (operation.kind == Kind::kOpenPublisher && operation.lane != 0) discard_lane(operation.lane);
  if (operation.kind == Kind::kOpenSubscriber) tables_.subscribers.erase(operation.handle);
  if (operation.kind == Kind::kGrowLane)
    if (const auto lane = tables_.lanes.find(operation.lane); lane != tables_.lanes.end()) lane->second.growing_to = 0;
  if (operation.topic == 0) return;
  // It may have gone with its last lane a moment ago.
  const auto topic = tables_.topics.find(operation.topic);
  if (topic == tables_.topics.end()) return;
  if (operation.topic_before) topic->second.facts = std::move(*operation.topic_before);
  vanish_if_unused(operation.topic);
}

Refusal State::explain(const Outcome& outcome) {
  switch (*outcome.failure) {
    case control::Failure::kNoMemory:
      return Refusal(control::Failure::kNoMemory,
                     "the machine has " + std::to_string(outcome.free_bytes) + " bytes left for shared memory, " +
                         std::to_string(outcome.asked_bytes) +
                         " were asked for: ask for less, or free memory (`holdfast holders` says who has it)",
                     {{"asked_bytes", outcome.asked_bytes}, {"free_bytes", outcome.free_bytes}});
    case control::Failure::kBusy:
      return Refusal(
          control::Failure::kBusy,
          "the broker has no descriptor left for this: close something, or raise its limit of open files (for "
          "sealed memory FileDescriptorStoreMax= of its unit, too)",
          {{"limit", "descriptors"}});
    default:
      return Refusal(control::Failure::kSystem,
                     outcome.call + " failed in the broker with errno " + std::to_string(outcome.error),
                     {{"call", outcome.call}, {"errno", outcome.error}});
  }
}

void State::note_grown(const GrowSegment& grown) {
  // A lane may be gone when its growth is done.
  const auto at = tables_.segments.find(grown.segment);
  if (at == tables_.segments.end()) return;
  at->second.bytes = std::max(at->second.bytes, grown.bytes);
  if (at->second.kind == shm::SegmentKind::kRoster) changes_.resize(at->second.bytes / sizeof(shm::RosterBlock));
  put(at->second);
}

bool State::drop_one_idle_lane() {
  if (idle_.empty()) return false;
  remove_lane(idle_.begin()->second);
  return true;
}

// What lingers goes before an open is refused because there are too many lanes, of this topic or in all.
void State::make_place_for_lane(const std::string& topic_name) {
  if (const auto id = tables_.topic_ids.find(topic_name); id != tables_.topic_ids.end()) {
    const std::set<LaneId>& lanes = tables_.topics.at(id->second).lanes;
    const auto idle = std::find_if(lanes.begin(), lanes.end(), [this](LaneId lane) {
      const Lane& one = tables_.lanes.at(lane);
      return one.ended() && one.readers.empty();
    });
    if (lanes.size() >= kLanesPerTopicMax && idle != lanes.end()) return remove_lane(*idle);
  }
  if (tables_.lanes.size() >= kLanesMax) drop_one_idle_lane();
}

// The operation needs `segment` to be valid up to `end`.
std::optional<Refusal> State::reach(Operation& operation, SegmentId segment, std::uint64_t end) {
  const SegmentFacts& facts = tables_.segments.at(segment);
  std::uint64_t& planned = operation.ends[segment];
  const std::uint64_t before = std::max(facts.bytes, planned);
  if (end <= before) return std::nullopt;
  planned = shm::round_up(end, shm::kPage);
  const std::uint64_t asked = planned - before;
  if (facts.session == 0) return std::nullopt;
  auto refusal = over_quota(operation, facts.session, asked);
  if (refusal) planned = before;
  return refusal;
}

// Is this session over its quota, with what the operation plans for it? `asked`: what the last step of the plan added.
std::optional<Refusal> State::over_quota(const Operation& operation, SessionId session, std::uint64_t asked) const {
  const std::uint64_t limit = setup_.session_bytes_max;
  if (limit == 0) return std::nullopt;
  const std::uint64_t used = used_bytes(tables_.sessions.at(session), &operation);
  if (used <= limit) return std::nullopt;
  return Refusal(control::Failure::kQuota,
                 "session " + std::to_string(session) + " may hold " + std::to_string(limit) + " bytes and holds " +
                     std::to_string(used - asked) + ", " + std::to_string(asked) +
                     " more do not fit: close something, or raise limits.session_bytes_max",
                 {{"asked_bytes", asked}, {"used_bytes", used - asked}, {"limit_bytes", limit}});
}

// What a session holds: the sum over its segments, as they are and as they are about to be.
std::uint64_t State::used_bytes(const Session& session, const Operation* operation) const {
  std::uint64_t sum = 0;
  for (const SegmentId id : session.segments) {
    const SegmentFacts& segment = tables_.segments.at(id);
    std::uint64_t bytes = segment.bytes;
    if (operation != nullptr)
      if (const auto end = operation->ends.find(id); end != operation->ends.end()) bytes = std::max(bytes, end->second);
    if (const auto lane = tables_.lanes.find(segment.lane); lane != tables_.lanes.end())
      bytes = std::max(bytes, lane->second.growing_to);
    sum += bytes;
  }
  return sum;
}

// Growth comes before creation: it stays if something fails later.
void State::plan_growth(Operation& operation) {
  std::vector<Action> growth;
  for (const auto& [id, end] : operation.ends) {
    const SegmentFacts& segment = tables_.segments.at(id);
    if (end <= segment.bytes) continue;
    const bool charged = segment.session != 0 && setup_.session_bytes_max != 0;
    const std::uint64_t roomy = end + (charged ? 0 : std::min(segment.bytes, kGrowthStepMax));
    growth.emplace_back(GrowSegment{0, id, std::min(roomy, segment.reserve_bytes)});
  }
  operation.needs.insert(operation.needs.begin(), growth.begin(), growth.end());
}

// A segment that the operation makes. Requires: its owner has a row.
std::optional<Refusal> State::add_segment(Operation& operation, CreateSegment create) {
  const SegmentId id = create.facts.id;
  const SessionId owner = create.facts.session;
  const std::uint64_t bytes = create.facts.bytes;
  create.facts.created_ms = now_;
  tables_.segments.emplace(id, create.facts);
  tables_.sessions.at(owner).segments.insert(id);
  operation.added.push_back(id);
  operation.needs.emplace_back(std::move(create));
  return over_quota(operation, owner, bytes);
}

void State::put_added(const Operation& operation) {
  for (const SegmentId segment : operation.added) put(tables_.segments.at(segment));
}

}  // namespace holdfast::broker
