// SPDX-License-Identifier: MIT
//
// Readers on lanes: a record in the reader's session segment and an entry in the lane's roster blocks. Reserved first,
// shown when the memory for both is there, in the order of rows 11 and 11a.
#include <algorithm>

#include "daemon/broker/check.hpp"
#include "daemon/broker/state.hpp"

namespace holdfast::broker {

std::optional<Refusal> State::add_block(Operation& operation, Lane& lane) {
  const auto block = blocks_.allocate(sizeof(shm::RosterBlock));
  if (!block)
    return Refusal(control::Failure::kBusy, "the roster is full: close publishers or subscribers",
                   {{"limit", shm::kRosterReserve}});
  lane.blocks.push_back(*block);
  lane.places.resize(lane.blocks.size() * shm::kRosterEntries);
  return reach(operation, setup_.roster, *block + sizeof(shm::RosterBlock));
}

std::optional<Refusal> State::reserve_reader(Operation& operation, HandleId handle, Lane& lane, bool fresh) {
  Subscriber& subscriber = tables_.subscribers.at(handle);
  Session& session = tables_.sessions.at(subscriber.facts.session);
  // No publisher that maps them only now could see its cursor and its pins, and would wait for what never comes back.
  if (tables_.lost.contains(session.facts.records))
    return Refusal(control::Failure::kNotFound,
                   "the memory of session " + std::to_string(session.facts.id) +
                       " was lost when the broker was restarted: it keeps the lanes that it reads and gets no new one; "
                       "open a new client");
  const std::uint64_t bytes = shm::record_bytes(tables_.topics.at(lane.facts.topic).facts.options.chunks_max);
  const auto record = session.records.allocate(bytes);
  if (!record)
    return Refusal(control::Failure::kBusy,
                   "session " + std::to_string(session.facts.id) + " has no room for another reader record in " +
                       std::to_string(kSessionReserve) + " bytes: use a second session",
                   {{"limit", kSessionReserve}});
  auto refusal = reach(operation, session.facts.records, *record + bytes);
  auto place = std::find(lane.places.begin(), lane.places.end(), HandleId{0});
  if (!refusal && place == lane.places.end()) {
    const std::size_t index = lane.places.size();
    refusal = add_block(operation, lane);
    place = lane.places.begin() + static_cast<std::ptrdiff_t>(std::min(index, lane.places.size()));
  }
  if (refusal) {
    session.records.free(*record, bytes);
    return refusal;
  }
  Reader reader;
  reader.session = session.facts.id;
  reader.facts = {handle,
                  lane.facts.id,
                  *record,
                  static_cast<std::uint32_t>(place - lane.places.begin()),
                  subscriber.facts.delivery == Delivery::kLossless,
                  false,
                  fresh};
  *place = handle;
  lane.readers.emplace(handle, reader);
  subscriber.lanes.insert(lane.facts.id);
  idle_.erase({lane.drop_at, lane.facts.id});
  lane.drop_at = 0;
  operation.readers.emplace_back(handle, lane.facts.id);
  return std::nullopt;
}

// Requires: the reader was reserved and is on no roster.
void State::unreserve_reader(HandleId handle, LaneId id) {
  Lane& lane = tables_.lanes.at(id);
  const auto at = lane.readers.find(handle);
  const Reader reader = at->second;
  lane.readers.erase(at);
  lane.places[reader.facts.entry] = 0;
  trim_blocks(lane);
  const std::uint64_t bytes = shm::record_bytes(tables_.topics.at(lane.facts.topic).facts.options.chunks_max);
  tables_.sessions.at(reader.session).records.free(reader.facts.record, bytes);
  tables_.subscribers.at(handle).lanes.erase(id);
  consider(id);
}

// Blocks at the end of the chain that nobody sees and nobody uses.
void State::trim_blocks(Lane& lane) {
  while (lane.blocks.size() > std::max<std::size_t>(lane.linked, 1)) {
    const auto last = lane.places.end() - shm::kRosterEntries;
    if (std::any_of(last, lane.places.end(), [](HandleId handle) { return handle != 0; })) return;
    lane.places.resize(lane.places.size() - shm::kRosterEntries);
    blocks_.free(lane.blocks.back(), sizeof(shm::RosterBlock));
    lane.blocks.pop_back();
  }
}

std::uint64_t State::block_of(const Lane& lane, std::uint32_t entry) const {
  return lane.blocks[entry / shm::kRosterEntries];
}

// Makes the first `count` blocks of the chain visible. True: the lane's row has changed.
bool State::link_blocks(Lane& lane, std::size_t count) {
  if (lane.linked >= count) return false;
  for (; lane.linked < count; ++lane.linked) {
    actions_.emplace_back(ClearBlock{lane.blocks[lane.linked]});
    if (lane.linked > 0) actions_.emplace_back(StoreNext{lane.blocks[lane.linked - 1], lane.blocks[lane.linked]});
  }
  lane.facts.blocks.assign(lane.blocks.begin(), lane.blocks.begin() + static_cast<std::ptrdiff_t>(lane.linked));
  return true;
}

std::uint64_t State::entry_of(const Reader& reader) {
  std::uint64_t flags = shm::kEntryPresent;
  if (reader.facts.lossless) flags |= shm::kEntryLossless;
  if (reader.facts.turned) flags |= shm::kEntryTurned;
  return shm::make_entry(reader.session, reader.facts.record, flags);
}

void State::store_entry(const Lane& lane, const Reader& reader) {
  const std::uint32_t entry = reader.facts.entry;
  actions_.emplace_back(StoreEntry{block_of(lane, entry), entry % shm::kRosterEntries, entry_of(reader)});
}

void State::commit_readers(const Operation& operation) {
  std::set<LaneId> lanes;
  for (const auto& [handle, id] : operation.readers) {
    commit_reader(handle, tables_.lanes.at(id));
    lanes.insert(id);
  }
  for (const LaneId id : lanes) {
    const Lane& lane = tables_.lanes.at(id);
    bump(lane.blocks.front());
    if (!lane.ended()) ring_session(lane.facts.session);
  }
}

// Row 11: the record, then the entry. `changes` and the reply come after.
void State::commit_reader(HandleId handle, Lane& lane) {
  const Reader& reader = lane.readers.at(handle);
  const Session& session = tables_.sessions.at(reader.session);
  const std::uint32_t chunks_max = tables_.topics.at(lane.facts.topic).facts.options.chunks_max;
  actions_.emplace_back(
      ResetRecord{session.facts.records, reader.facts.record, chunks_max, reader.facts.fresh ? 0 : shm::kCursorNone});
  if (link_blocks(lane, reader.facts.entry / shm::kRosterEntries + 1)) put(lane.facts);
  if (!session.facts.membarrier && (lane.flags & shm::kRosterFullFences) == 0) {
    lane.flags |= shm::kRosterFullFences;
    actions_.emplace_back(StoreFlags{lane.blocks.front(), lane.flags});
  }
  store_entry(lane, reader);
  put(reader.facts);
}

// Row 11a: the entry, then the record, then it may be given again. Row 14b: then the writer is rung.
void State::detach(HandleId handle, LaneId id) {
  Lane& lane = tables_.lanes.at(id);
  const auto at = lane.readers.find(handle);
  const Reader reader = at->second;
  const Topic& topic = tables_.topics.at(lane.facts.topic);
  Session& session = tables_.sessions.at(reader.session);
  const std::uint32_t entry = reader.facts.entry;
  actions_.emplace_back(StoreEntry{block_of(lane, entry), entry % shm::kRosterEntries, 0});
  bump(lane.blocks.front());
  const std::uint32_t chunks_max = topic.facts.options.chunks_max;
  actions_.emplace_back(ResetRecord{session.facts.records, reader.facts.record, chunks_max, shm::kCursorNone});
  session.records.free(reader.facts.record, shm::record_bytes(chunks_max));
  lane.places[entry] = 0;
  lane.readers.erase(at);
  tables_.subscribers.at(handle).lanes.erase(id);
  actions_.emplace_back(DeleteReader{handle, id});
  if (!lane.ended()) ring_session(lane.facts.session);
  lane.idle_since = now_;
  consider(id);
}

}  // namespace holdfast::broker
