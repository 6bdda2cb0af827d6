// SPDX-License-Identifier: MIT
//
// A broker takes over what an earlier one left. Rows are facts: each was committed before anybody was told of it, so what
// the rows do not know nobody uses, and what they know somebody may. Memory is made to agree with them by difference: a
// word that is right is not written, so nobody who reads it meanwhile sees it go and come back.
//
// Every step may be the last one of this broker, too. None changes a row before memory agrees with it, and all begin
// anew from rows; so the next broker does the same, and the rest.
#include <algorithm>

#include "daemon/broker/check.hpp"
#include "daemon/broker/state.hpp"

namespace holdfast::broker {

namespace {

std::uint64_t index_of(std::uint64_t block) { return block / sizeof(shm::RosterBlock); }

}  // namespace

Actions State::adopt(TimeMs now, const RegistryRows& rows, const std::vector<shm::RosterBlock>& roster,
                     const std::set<SessionId>& gone, std::set<SegmentId> lost) {
  check(tables_.sessions.empty() && tables_.topics.empty() && now >= now_, "a broker adopts before anything else");
  now_ = now;
  actions_.clear();
  tables_.lost = std::move(lost);
  adopt_rows(rows);
  changes_.resize(std::max(changes_.size(), roster.size()));
  for (std::size_t i = 0; i < roster.size(); ++i) changes_[i] = roster[i].changes;
  find_unattached();
  repair_roster(roster);
  // Rows 8b and 14b: the earlier broker may have died between a change and its ring.
  for (const auto& [id, topic] : tables_.topics) bump(topic.facts.block);
  for (const auto& [id, lane] : tables_.lanes) {
    bump(lane.blocks.front());
    if (lane.ended()) actions_.emplace_back(EndLane{lane.facts.segment, lane.facts.state});
  }
  for (const auto& [id, session] : tables_.sessions) ring_session(id);
  flush_rings();
  for (const SessionId id : gone)
    if (tables_.sessions.contains(id)) end_session(id, shm::LaneState::kAborted);
  for (const auto& [id, session] : tables_.sessions) watch_lock(id);
  std::vector<TopicId> topics;
  for (const auto& [id, topic] : tables_.topics) topics.push_back(id);
  for (const TopicId id : topics) vanish_if_unused(id);
  std::vector<LaneId> lanes;
  for (const auto& [id, lane] : tables_.lanes) lanes.push_back(id);
  for (const LaneId id : lanes)
    if (tables_.lanes.contains(id)) consider(id);
  flush_rings();
  schedule();
  return std::exchange(actions_, {});
}

// Requires: check_rows() found them sound.
void State::adopt_rows(const RegistryRows& rows) {
  const auto taken = [](bool ok) { check(ok, "a place that rows name is free"); };
  for (const SessionFacts& facts : rows.sessions) tables_.sessions[facts.id].facts = facts;
  for (const SegmentFacts& facts : rows.segments) {
    tables_.segments[facts.id] = facts;
    if (const auto owner = tables_.sessions.find(facts.session); owner != tables_.sessions.end())
      owner->second.segments.insert(facts.id);
  }
  for (const TopicFacts& facts : rows.topics) {
    tables_.topics[facts.id].facts = facts;
    tables_.topic_ids.emplace(facts.name, facts.id);
    taken(blocks_.take(facts.block, sizeof(shm::RosterBlock)));
  }
  for (const LaneFacts& facts : rows.lanes) {
    Lane& lane = tables_.lanes[facts.id];
    lane.facts = facts;
    lane.blocks = facts.blocks;
    lane.linked = lane.blocks.size();
    lane.places.resize(lane.blocks.size() * shm::kRosterEntries);
    lane.idle_since = now_;
    lane.ends_on_roster = tables_.segments.at(facts.segment).sealed || tables_.lost.contains(facts.segment);
    if (lane.ends_on_roster) lane.flags |= shm::roster_end(facts.state);
    for (const std::uint64_t block : lane.blocks) taken(blocks_.take(block, sizeof(shm::RosterBlock)));
    tables_.topics.at(facts.topic).lanes.insert(facts.id);
    const auto owner = tables_.sessions.find(facts.session);
    if (owner == tables_.sessions.end()) continue;
    taken(owner->second.boards.take(facts.board, sizeof(shm::Board)));
    if (!owner->second.facts.membarrier) lane.flags |= shm::kRosterFullFences;
  }
  for (const HandleFacts& facts : rows.handles) {
    Session& session = tables_.sessions.at(facts.session);
    Topic& topic = tables_.topics.at(facts.topic);
    if (facts.key != 0) session.keys[facts.key] = facts.id;
    if (facts.role == Role::kPublisher) {
      tables_.publishers[facts.id].facts = facts;
      session.publishers.insert(facts.id);
      topic.publishers.insert(facts.id);
    } else {
      tables_.subscribers[facts.id].facts = facts;
      session.subscribers.insert(facts.id);
      topic.subscribers.insert(facts.id);
    }
  }
  for (const auto& [id, lane] : tables_.lanes)
    if (!lane.ended()) tables_.publishers.at(lane.facts.publisher).lane = id;
  for (const ReaderFacts& facts : rows.readers) adopt_reader(facts);
}

void State::adopt_reader(const ReaderFacts& facts) {
  Subscriber& subscriber = tables_.subscribers.at(facts.handle);
  Lane& lane = tables_.lanes.at(facts.lane);
  Session& session = tables_.sessions.at(subscriber.facts.session);
  const std::uint64_t bytes = shm::record_bytes(tables_.topics.at(lane.facts.topic).facts.options.chunks_max);
  check(session.records.take(facts.record, bytes), "a record that rows name is free");
  lane.readers[facts.handle] = {facts, session.facts.id};
  lane.places.at(facts.entry) = facts.handle;
  subscriber.lanes.insert(facts.lane);
  if (!session.facts.membarrier) lane.flags |= shm::kRosterFullFences;
}

// Open lanes that a subscriber has no record for: there was no room, as in plan_readers().
void State::find_unattached() {
  for (auto& [handle, subscriber] : tables_.subscribers)
    for (const LaneId lane : tables_.topics.at(subscriber.facts.topic).lanes)
      if (!tables_.lanes.at(lane).ended() && !subscriber.lanes.contains(lane)) subscriber.unattached.insert(lane);
}

void State::repair_block(std::uint64_t offset, const shm::RosterBlock& seen, const shm::RosterBlock& wanted) {
  for (std::uint32_t place = 0; place < shm::kRosterEntries; ++place)
    if (seen.entries[place] != wanted.entries[place])
      actions_.emplace_back(StoreEntry{offset, place, wanted.entries[place]});
  if (seen.next != wanted.next) actions_.emplace_back(StoreNext{offset, wanted.next});
  if (seen.size != wanted.size) actions_.emplace_back(StoreSize{offset, wanted.size});
  if (seen.flags != wanted.flags) actions_.emplace_back(StoreFlags{offset, wanted.flags});
}

// Rows 11 and 11a: an entry that no row knows was never told to anybody; one that is missing belongs to a reader whose
// leaving had begun, and its client will say so again.
void State::repair_roster(const std::vector<shm::RosterBlock>& roster) {
  for (const auto& [id, topic] : tables_.topics)
    repair_block(topic.facts.block, roster.at(index_of(topic.facts.block)), {});
  for (const auto& [id, lane] : tables_.lanes) {
    for (std::size_t i = 0; i < lane.blocks.size(); ++i) {
      shm::RosterBlock wanted{};
      if (i + 1 < lane.blocks.size()) wanted.next = lane.blocks[i + 1];
      if (i == 0) {
        wanted.size = tables_.segments.at(lane.facts.segment).bytes;
        wanted.flags = lane.flags;
      }
      for (std::uint32_t place = 0; place < shm::kRosterEntries; ++place) {
        const HandleId handle = lane.places[i * shm::kRosterEntries + place];
        if (handle != 0) wanted.entries[place] = entry_of(lane.readers.at(handle));
      }
      repair_block(lane.blocks[i], roster.at(index_of(lane.blocks[i])), wanted);
    }
  }
}

}  // namespace holdfast::broker
