// SPDX-License-Identifier: MIT
#include "tests/model/bell_scenario.hpp"

namespace holdfast::model {

using shm::At;

BellScenario::BellScenario(const BellShape& shape) : shape_(shape), subscribers_(shape.subscribers) {
  for (std::size_t l = 0; l < 2; ++l) {
    if (shape.full_fences) lanes_[l].block.flags = shm::kRosterFullFences;
    if (l == 1 && shape.late_lane) continue;
    for (std::uint32_t s = shape.late_subscriber ? 1 : 0; s < subscribers_.size(); ++s)
      lanes_[l].block.entries[s] = shm::make_entry(s + 1, 4096 + 256 * l, shm::kEntryPresent);
  }
}

std::string BellScenario::role(std::size_t process) const {
  if (process < 2) return "publisher" + std::to_string(process);
  if (process < 2 + subscribers_.size()) return "subscriber" + std::to_string(process - 2);
  return "broker";
}

bool BellScenario::may_die(std::size_t process) const {
  if (process < 2) return shape_.publishers_die;
  return shape_.subscribers_die && process < 2 + subscribers_.size();
}

bool BellScenario::may_stop(std::size_t process) const {
  if (process < 2) return shape_.publishers_stop;
  return shape_.subscribers_stop && process < 2 + subscribers_.size();
}

void BellScenario::run(std::size_t process) {
  if (process < 2)
    publish(process);
  else if (process < 2 + subscribers_.size())
    subscribe(subscribers_[process - 2]);
  else
    serve();
}

// ---- publishers ---------------------------------------------------------------------------------------------------

void BellScenario::refresh(Writer& writer, Lane& lane) {
  const std::uint64_t changes = ModelAtomics::load<At::kScanRoster>(lane.block.changes);
  for (std::size_t s = 0; s < subscribers_.size(); ++s) {
    const std::uint64_t& place = lane.block.entries[s];
    lane.refs[s] = {.place = &place, .entry = ModelAtomics::load<At::kScanRoster>(place)};
  }
  ModelAtomics::heavy_fence<At::kReclaimFence>();
  writer.set_readers(std::span(lane.refs).first(subscribers_.size()), &lane.block.next, changes);
}

// False: armed, and the broker has still to say how to ring it.
bool BellScenario::ring(std::size_t subscriber, bool last) {
  shm::Bell& bell = subscribers_[subscriber].bell;
  if (shape_.unknown_bell && subscriber == 0 && !last) return ModelAtomics::load<At::kRingArmed>(bell.armed) == 0;
  shm::ring<ModelAtomics>(bell, ModelSound{});
  return true;
}

// `last`: this publisher publishes nothing after it.
void BellScenario::ring_sleepers(Writer& writer, Lane& lane, bool last) {
  const std::uint64_t sleepers = writer.take_board();
  const std::size_t index = static_cast<std::size_t>(&lane - lanes_.data());
  if (writer.roster_changed()) refresh(writer, lane);
  for (std::size_t s = 0; s < subscribers_.size(); ++s) {
    if ((sleepers >> s & 1) == 0 || lane.refs[s].entry == 0) continue;
    if (ModelAtomics::load<At::kObserve>(subscribers_[s].records[index].bell) != 0 && !ring(s, last))
      writer.keep_on_board(std::uint64_t{1} << s);
  }
}

void BellScenario::publish(std::size_t index) {
  Lane& lane = lanes_[index];
  if (index == 1 && shape_.late_lane) receive(lane.opened);
  Writer writer({.header = &lane.header,
                 .ring = lane.ring.data(),
                 .ring_slots = kRing,
                 .chunks_max = kChunksMax,
                 .board = &lane.board,
                 .block = &lane.block,
                 .outstanding = {},
                 .pinned = {},
                 .held = {},
                 .full_fences = shape_.full_fences});
  refresh(writer, lane);
  for (std::uint64_t i = 0; i < shape_.samples[index]; ++i) {
    const std::uint64_t words[4] = {i, i, i, i};
    const bool last = !shape_.finishes && i + 1 == shape_.samples[index];
    if (writer.publish_one(32 | shm::kFlagInline, 0, i, words)) ring_sleepers(writer, lane, last);
  }
  if (!shape_.finishes) return;
  writer.finish();
  ring_sleepers(writer, lane, true);
}

// ---- subscribers --------------------------------------------------------------------------------------------------

void BellScenario::attach(Subscriber& subscriber, std::size_t lane) {
  const std::size_t index = static_cast<std::size_t>(&subscriber - subscribers_.data());
  subscriber.lanes[lane].emplace(shm::LaneReaderMemory{.header = &lanes_[lane].header,
                                                       .ring = lanes_[lane].ring.data(),
                                                       .ring_slots = kRing,
                                                       .chunks_max = kChunksMax,
                                                       .record = &subscriber.records[lane],
                                                       .block = &lanes_[lane].block,
                                                       .entry = &lanes_[lane].block.entries[index],
                                                       .uses = subscriber.uses,
                                                       .lossless = false,
                                                       .full_fences = shape_.full_fences});
  if (shape_.late_subscriber && index == 0)
    subscriber.lanes[lane]->join(shm::Start::kOldest);
  else
    subscriber.lanes[lane]->join_fresh();
}

bool BellScenario::lanes_changed(const Subscriber& subscriber) const {
  return ModelAtomics::load<At::kSleepTopic>(topic_.changes) != subscriber.changes;
}

bool BellScenario::ready(Subscriber& subscriber) const {
  if (lanes_changed(subscriber)) return true;
  for (const auto& lane : subscriber.lanes)
    if (lane && lane->ready()) return true;
  return false;
}

bool BellScenario::take_any(Subscriber& subscriber) {
  if (lanes_changed(subscriber)) {
    receive(listed_);
    attach(subscriber, 1);
    ++subscriber.changes;
  }
  bool found = false;
  for (std::size_t l = 0; l < 2; ++l) {
    if (!subscriber.lanes[l]) continue;
    shm::Taken taken;
    const shm::Take result = subscriber.lanes[l]->take(taken);
    if (result == shm::Take::kEmpty) continue;
    found = true;
    if (result == shm::Take::kFinished || result == shm::Take::kAborted) {
      require(result == shm::Take::kAborted || subscriber.got[l] == shape_.samples[l], "an ended lane was not drained");
      subscriber.lanes[l].reset();
      continue;
    }
    require(result == shm::Take::kSample, "corrupt or lapped");
    for (const std::uint64_t word : taken.words) require(word == subscriber.got[l], "torn inline sample");
    ++subscriber.got[l];
  }
  return found;
}

// As hf_wait does it: drain and arm, announce on every lane, heavy fence, look at all again, sleep.
void BellScenario::sleep_once(Subscriber& subscriber) {
  const auto index = static_cast<std::uint32_t>(&subscriber - subscribers_.data());
  shm::arm<ModelAtomics, At::kSleepArm>(subscriber.bell, ++subscriber.ticket, ModelSound{});
  for (std::size_t l = 0; l < 2; ++l)
    if (subscriber.lanes[l])
      shm::announce_sleep<ModelAtomics>(lanes_[l].board, subscriber.records[l].bell, index, index);
  ModelAtomics::heavy_fence<At::kSleepFence>();
  if (!ready(subscriber)) {
    ModelSound::sleep(subscriber.bell);
    ready(subscriber);
  }
  shm::disarm<ModelAtomics, At::kSleepDisarm>(subscriber.bell, subscriber.ticket);
}

void BellScenario::subscribe(Subscriber& subscriber) {
  if (shape_.late_subscriber && &subscriber == subscribers_.data()) receive(subscriber.admitted);
  attach(subscriber, 0);
  if (!shape_.late_lane) attach(subscriber, 1);
  const auto over = [&] {
    if (shape_.late_lane && subscriber.changes == 0) return false;
    if (shape_.finishes) return !subscriber.lanes[0] && !subscriber.lanes[1];
    return subscriber.got == shape_.samples;
  };
  while (!over())
    if (!take_any(subscriber)) sleep_once(subscriber);
}

// ---- broker -------------------------------------------------------------------------------------------------------

// Rows 8b and 8c.
void BellScenario::ring_all() {
  ModelAtomics::heavy_fence<At::kSleepFence>();
  for (Subscriber& subscriber : subscribers_) shm::ring<ModelAtomics>(subscriber.bell, ModelSound{});
}

void BellScenario::add_lane() {
  for (std::uint32_t s = 0; s < subscribers_.size(); ++s) {
    shm::reset_record<ModelAtomics>(subscribers_[s].records[1], kChunksMax, 0);
    shm::store_entry<ModelAtomics>(lanes_[1].block, s, shm::make_entry(s + 1, 4096 + 256, shm::kEntryPresent));
  }
  shm::bump_changes<ModelAtomics>(lanes_[1].block);
  send(listed_);
  shm::bump_changes<ModelAtomics>(topic_);
  ring_all();
  send(lanes_[1].opened);
}

void BellScenario::end_lane(std::size_t lane) {
  ModelAtomics::compare_exchange<At::kLaneAbort>(lanes_[lane].header.state,
                                                 static_cast<std::uint64_t>(shm::LaneState::kOpen),
                                                 static_cast<std::uint64_t>(shm::LaneState::kAborted));
  ring_all();
}

void BellScenario::detach(std::size_t subscriber) {
  for (std::size_t l = 0; l < 2; ++l) {
    shm::store_entry<ModelAtomics>(lanes_[l].block, static_cast<std::uint32_t>(subscriber), 0);
    shm::bump_changes<ModelAtomics>(lanes_[l].block);
    shm::reset_record<ModelAtomics>(subscribers_[subscriber].records[l], kChunksMax, shm::kCursorNone);
  }
}

// Row 11, on both lanes.
void BellScenario::admit(std::size_t subscriber) {
  for (std::size_t l = 0; l < 2; ++l) {
    shm::reset_record<ModelAtomics>(subscribers_[subscriber].records[l], kChunksMax, shm::kCursorNone);
    shm::store_entry<ModelAtomics>(lanes_[l].block, static_cast<std::uint32_t>(subscriber),
                                   shm::make_entry(1, 4096 + 256 * l, shm::kEntryPresent));
    shm::bump_changes<ModelAtomics>(lanes_[l].block);
  }
  ModelAtomics::heavy_fence<At::kSleepFence>();  // the publishers are rung; here they wait for nobody
  send(subscribers_[subscriber].admitted);
}

void BellScenario::serve() {
  if (shape_.late_subscriber) admit(0);
  if (shape_.late_lane) add_lane();
  std::vector<bool> repaired(processes());
  const auto fresh = [&]() -> std::size_t {
    for (std::size_t i = 0; i + 1 < processes(); ++i)
      if (dead(i) && !repaired[i]) return i;
    return processes();
  };
  const auto all_over = [&] {
    for (std::size_t i = 0; i + 1 < processes(); ++i)
      if (!done(i) && !dead(i) && !stopped(i)) return false;
    return true;
  };
  while (true) {
    wait_until([&] { return fresh() < processes() || all_over(); });
    const std::size_t process = fresh();
    if (process == processes()) return;
    repaired[process] = true;
    machine().bury(self(), process);
    process < 2 ? end_lane(process) : detach(process - 2);
  }
}

void BellScenario::check() {
  for (std::size_t s = 0; s < subscribers_.size(); ++s) {
    if (done(2 + s) || dead(2 + s) || stopped(2 + s)) continue;
    require(asleep(2 + s), "a subscriber is stuck");
    Subscriber& subscriber = subscribers_[s];
    see_all(2 + s);
    require(!lanes_changed(subscriber), "a subscriber sleeps although a lane came");
    for (std::size_t l = 0; l < 2; ++l)
      require(!subscriber.lanes[l] || stopped(l) || !subscriber.lanes[l]->ready(),
              "a subscriber sleeps although there is something to take");
    require(stopped(0) || stopped(1) || (!shape_.finishes && (dead(0) || dead(1))), "a subscriber sleeps for ever");
  }
}

}  // namespace holdfast::model
