// SPDX-License-Identifier: MIT
//
// Topics come with their first handle and go with their last handle and lane. Ended lanes stay as long as somebody
// reads them, and for a while after.
#include <algorithm>

#include "daemon/broker/check.hpp"
#include "daemon/broker/state.hpp"

namespace holdfast::broker {

void State::close(Call call, Params& params) {
  const HandleId handle = params.required_number("handle", 0, UINT64_MAX);
  params.finish();
  if (!params.ok()) return;
  const Session& session = session_of(call);
  if (session.publishers.contains(handle))
    close_publisher(handle, shm::LaneState::kFinished);
  else if (session.subscribers.contains(handle))
    close_subscriber(handle);
  else
    return refuse(call, Refusal(control::Failure::kNotFound, "session " + std::to_string(session.facts.id) +
                                                                 " has no handle " + std::to_string(handle)));
  reply(call, nlohmann::json::object());
}

// Finds the topic, or makes it, and checks that what is asked fits. `settles`: this handle decides options that nobody
// has decided yet. Whatever it changes is undone with the operation.
std::optional<Refusal> State::enter_topic(Operation& operation, const std::string& name, const AskedOptions& asked,
                                          bool settles) {
  const auto known = tables_.topic_ids.find(name);
  if (known == tables_.topic_ids.end()) {
    if (tables_.topics.size() >= kTopicsMax)
      return Refusal(control::Failure::kBusy,
                     "the broker has " + std::to_string(kTopicsMax) + " topics, as many as it may: close some",
                     {{"limit", kTopicsMax}});
    const auto block = blocks_.allocate(sizeof(shm::RosterBlock));
    if (!block)
      return Refusal(control::Failure::kBusy, "the roster is full: close publishers or subscribers",
                     {{"limit", shm::kRosterReserve}});
    operation.topic = next_id();
    operation.topic_is_new = true;
    Topic& topic = tables_.topics[operation.topic];
    topic.facts.id = operation.topic;
    topic.facts.name = name;
    topic.facts.block = *block;
    tables_.topic_ids.emplace(name, operation.topic);
    if (auto refusal = reach(operation, setup_.roster, *block + sizeof(shm::RosterBlock))) return refusal;
  } else {
    operation.topic = known->second;
    operation.topic_before = tables_.topics.at(operation.topic).facts;
  }
  TopicFacts& facts = tables_.topics.at(operation.topic).facts;
  AskedOptions fitting;
  if (facts.decided) fitting = asked;
  fitting.type = asked.type;
  if (auto refusal = fit(fitting, name, facts.options, facts.type)) return refusal;
  if (!facts.decided && settles) {
    if (asked.backing == Backing::kNamed && tables_.sessions.at(operation.session).facts.uid != setup_.uid)
      return Refusal(control::Failure::kDenied,
                     "named lanes extend the trust of uid " + std::to_string(setup_.uid) +
                         " to their publishers, so only it may ask for them: ask for sealed, or leave backing out",
                     {{"option", "backing"}});
    if (auto refusal = settle(asked, facts.options)) return refusal;
    facts.decided = true;
  }
  if (asked.type && facts.type.name.empty()) facts.type = *asked.type;
  return std::nullopt;
}

void State::commit_topic(const Operation& operation) {
  const TopicFacts& facts = tables_.topics.at(operation.topic).facts;
  if (operation.topic_is_new) actions_.emplace_back(ClearBlock{facts.block});
  const bool settled = operation.topic_is_new || facts.decided != operation.topic_before->decided ||
                       facts.type.name != operation.topic_before->type.name;
  if (settled) put(facts);
}

void State::vanish_if_unused(TopicId id) {
  const auto at = tables_.topics.find(id);
  if (at == tables_.topics.end()) return;
  const Topic& topic = at->second;
  if (!topic.publishers.empty() || !topic.subscribers.empty() || !topic.lanes.empty()) return;
  const auto uses = [id](const auto& entry) { return entry.second.topic == id; };
  if (std::any_of(operations_.begin(), operations_.end(), uses)) return;
  actions_.emplace_back(DeleteRow{Table::kTopics, id});
  blocks_.free(topic.facts.block, sizeof(shm::RosterBlock));
  tables_.topic_ids.erase(topic.facts.name);
  tables_.topics.erase(at);
}

// Decides when an ended lane goes.
void State::consider(LaneId id) {
  Lane& lane = tables_.lanes.at(id);
  if (!lane.ended() || !lane.readers.empty()) return;
  // Nobody can be shown it any more.
  if (tables_.lost.contains(lane.facts.segment)) return remove_lane(id);
  const Topic& topic = tables_.topics.at(lane.facts.topic);
  const std::int64_t linger_ms = topic.facts.options.linger_ms;
  TimeMs at = INT64_MAX;
  if (linger_ms >= 0) {
    at = lane.idle_since + linger_ms;
    if (at <= now_) return remove_lane(id);
  } else {
    // Kept for ever, until a later publisher of the topic has one to show.
    const auto replaces = [&](LaneId other) { return other > id && tables_.lanes.at(other).facts.shown; };
    if (std::any_of(topic.lanes.begin(), topic.lanes.end(), replaces)) return remove_lane(id);
  }
  idle_.erase({lane.drop_at, id});
  lane.drop_at = at;
  idle_.emplace(at, id);
}

// Requires: the lane has ended and has no readers.
void State::remove_lane(LaneId id) {
  const auto at = tables_.lanes.find(id);
  Lane& lane = at->second;
  check(lane.ended() && lane.readers.empty(), "a lane goes when nobody uses it");
  idle_.erase({lane.drop_at, id});
  Topic& topic = tables_.topics.at(lane.facts.topic);
  topic.lanes.erase(id);
  if (lane.facts.shown) bump(topic.facts.block);
  const SegmentId segment = lane.facts.segment;
  if (const auto session = tables_.sessions.find(lane.facts.session); session != tables_.sessions.end())
    session->second.segments.erase(segment);
  discard_lane(id);
  actions_.emplace_back(RemoveSegment{segment});
  actions_.emplace_back(DeleteRow{Table::kSegments, segment});
  actions_.emplace_back(DeleteRow{Table::kLanes, id});
  tables_.segments.erase(segment);
  tables_.lost.erase(segment);
  vanish_if_unused(topic.facts.id);
}

// The lane's places go back; its segment is the caller's.
void State::discard_lane(LaneId id) {
  const auto at = tables_.lanes.find(id);
  const Lane& lane = at->second;
  for (const std::uint64_t block : lane.blocks) blocks_.free(block, sizeof(shm::RosterBlock));
  if (const auto session = tables_.sessions.find(lane.facts.session);
      session != tables_.sessions.end() && lane.facts.board != 0)
    session->second.boards.free(lane.facts.board, sizeof(shm::Board));
  Topic& topic = tables_.topics.at(lane.facts.topic);
  for (const HandleId handle : topic.subscribers) tables_.subscribers.at(handle).unattached.erase(id);
  topic.lanes.erase(id);
  tables_.lanes.erase(at);
}

// Row 8c: the list, then the bells of those who may sleep on it. The reply comes after.
void State::show_lane(Lane& lane) {
  lane.facts.shown = true;
  put(lane.facts);
  Topic& topic = tables_.topics.at(lane.facts.topic);
  bump(topic.facts.block);
  ring_subscribers(topic);
  const std::set<LaneId> lanes = topic.lanes;
  for (const LaneId other : lanes)
    if (other != lane.facts.id) consider(other);
}

// Can it not be handed out yet? Its client has still to give it back, or the bells that ring who waits for its readers.
bool State::away(const Lane& lane) const {
  if (lane.ended()) return false;
  return tables_.lost.contains(lane.facts.segment) ||
         tables_.lost.contains(tables_.sessions.at(lane.facts.session).facts.bells);
}

void State::ring_subscribers(const Topic& topic) {
  for (const HandleId handle : topic.subscribers) ring_session(tables_.subscribers.at(handle).facts.session);
}

void State::ring_session(SessionId id) {
  if (const auto at = tables_.sessions.find(id); at != tables_.sessions.end()) rings_.insert(at->second.facts.bells);
}

void State::flush_rings() {
  if (rings_.empty()) return;
  actions_.emplace_back(RingBells{{rings_.begin(), rings_.end()}});
  rings_.clear();
}

void State::bump(std::uint64_t block) {
  changes_.resize(std::max<std::size_t>(changes_.size(), block / sizeof(shm::RosterBlock) + 1));
  ++changes_[block / sizeof(shm::RosterBlock)];
  actions_.emplace_back(BumpChanges{block});
}

std::uint64_t State::changes(std::uint64_t block) const {
  const std::size_t index = block / sizeof(shm::RosterBlock);
  return index < changes_.size() ? changes_[index] : 0;
}

}  // namespace holdfast::broker
