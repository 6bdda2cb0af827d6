// SPDX-License-Identifier: MIT
//
// The invariants of tables.hpp, spelled out. Tests call it after every step.
#include <algorithm>

#include "daemon/broker/check.hpp"
#include "daemon/broker/state.hpp"

namespace holdfast::broker {

void State::audit() const {
  std::map<SessionId, std::uint64_t> record_bytes;
  std::map<SessionId, std::uint64_t> board_bytes;
  std::uint64_t block_bytes = 0;
  std::size_t lane_segments = 0;
  std::set<HandleId> unfinished;  // subscribers of operations that are under way
  for (const auto& [id, operation] : operations_) unfinished.insert(operation.handle);

  for (const auto& [id, topic] : tables_.topics) {
    block_bytes += sizeof(shm::RosterBlock);
    check(tables_.topic_ids.at(topic.facts.name) == id, "a topic is found by its name");
    check(!topic.publishers.empty() || !topic.subscribers.empty() || !topic.lanes.empty() || !operations_.empty(),
          "a topic is used");
    for (const HandleId handle : topic.publishers)
      check(tables_.publishers.at(handle).facts.topic == id, "a publisher knows its topic");
    for (const HandleId handle : topic.subscribers)
      check(tables_.subscribers.at(handle).facts.topic == id, "a subscriber knows its topic");
    for (const LaneId lane : topic.lanes) check(tables_.lanes.at(lane).facts.topic == id, "a lane knows its topic");
  }
  check(tables_.topic_ids.size() == tables_.topics.size(), "names and topics match");

  for (const auto& [id, lane] : tables_.lanes) {
    ++lane_segments;
    const Topic& topic = tables_.topics.at(lane.facts.topic);
    const std::uint64_t bytes = shm::record_bytes(topic.facts.options.chunks_max);
    block_bytes += lane.blocks.size() * sizeof(shm::RosterBlock);
    check(topic.lanes.contains(id), "a topic knows its lanes");
    check(tables_.segments.at(lane.facts.segment).lane == id, "a segment knows its lane");
    check(lane.places.size() == lane.blocks.size() * shm::kRosterEntries, "each block has its places");
    check(lane.linked <= lane.blocks.size(), "what is linked is there");
    check(lane.ended() || !lane.facts.shown || tables_.publishers.at(lane.facts.publisher).lane == id,
          "an open lane has its publisher");
    check(idle_.contains({lane.drop_at, id}) == (lane.ended() && lane.readers.empty()), "idle lanes are listed");
    if (tables_.sessions.contains(lane.facts.session)) board_bytes[lane.facts.session] += sizeof(shm::Board);
    std::size_t places = 0;
    for (const HandleId handle : lane.places) places += handle != 0 ? 1 : 0;
    check(places == lane.readers.size(), "each reader has one place");
    for (const auto& [handle, reader] : lane.readers) {
      record_bytes[reader.session] += bytes;
      check(lane.places[reader.facts.entry] == handle, "a place names its reader");
      check(tables_.subscribers.at(handle).lanes.contains(id), "a reader knows its lane");
    }
  }

  for (const auto& [id, subscriber] : tables_.subscribers) {
    check(unfinished.contains(id) || tables_.sessions.at(subscriber.facts.session).subscribers.contains(id),
          "a session knows its subscribers");
    for (const LaneId lane : subscriber.lanes)
      check(tables_.lanes.at(lane).readers.contains(id), "a lane knows its readers");
    for (const LaneId lane : subscriber.unattached)
      check(tables_.lanes.contains(lane) && !tables_.lanes.at(lane).readers.contains(id),
            "not attached is not a reader");
  }
  for (const auto& [id, publisher] : tables_.publishers)
    check(tables_.sessions.at(publisher.facts.session).publishers.contains(id), "a session knows its publishers");

  std::size_t session_segments = 0;
  for (const auto& [id, session] : tables_.sessions) {
    session_segments += 2;
    check(session.records.given_bytes() == record_bytes[id], "records given are records held");
    check(session.boards.given_bytes() == board_bytes[id], "boards given are boards held");
    for (const SegmentId segment : session.segments)
      check(tables_.segments.at(segment).session == id, "a segment knows its session");
    if (session.connection != 0)
      check(tables_.connections.at(session.connection).session == id, "a connection knows its session");
    const bool askable = session.connection == 0 && !tables_.lost.contains(session.facts.records);
    check(to_ask_.contains(id) == askable, "the lock of a session without a connection is asked");
  }
  for (const auto& [id, connection] : tables_.connections)
    if (connection.session != 0)
      check(tables_.sessions.at(connection.session).connection == id, "a session has one connection");
  check(blocks_.given_bytes() == block_bytes, "blocks given are blocks held");
  check(tables_.segments.size() == 1 + lane_segments + session_segments, "every segment has a use");
}

}  // namespace holdfast::broker
