// SPDX-License-Identifier: MIT
#include "tests/model/lane_scenario.hpp"

#include <algorithm>

#include "proto/shm/bell.hpp"

namespace holdfast::model {

using shm::At;

namespace {
constexpr std::uint32_t kSession = 7;
}

LaneScenario::LaneScenario(const LaneShape& shape)
    : shape_(shape),
      ring_(shape.ring),
      readers_(shape.lossless + shape.dropping + (shape.joins ? 1 : 0)) {
  given_ = shape.grows ? 1 : shape.chunks;
  roster_.header.valid_bytes = sizeof roster_;
  block_.size = shm::chunks_offset(shape.ring) + 64 * given_;
  block_.flags = shape.full_fences ? shm::kRosterFullFences : 0;
  for (std::uint32_t i = 0; i < readers_.size(); ++i) {
    Reader& reader = readers_[i];
    reader.attached = !shape.joins || i + 1 < readers_.size();
    reader.lossless = i < shape.lossless || (!reader.attached && !shape.again);
    const bool second = shape.again && !reader.attached;
    reader.place = second ? 0 : i;
    if (shape.chained && !reader.attached) reader.place = shm::kRosterEntries;
    reader.record = second ? &readers_[0].own_record : &reader.own_record;
    reader.entry = shm::make_entry(kSession, 4096 + 256 * reader.place,
                                   shm::kEntryPresent | (reader.lossless ? shm::kEntryLossless : 0));
    if (second) reader.lossless = readers_[0].lossless;
    if (second) reader.entry = readers_[0].entry;
    if (reader.attached) block_.entries[i] = reader.entry;
    if (!reader.attached && !second) reader.own_record.cursor = shm::kCursorNone;
  }
  for (std::uint32_t chunk = given_; chunk > 0; --chunk) free_.push_back(chunk - 1);
}

std::string LaneScenario::role(std::size_t process) const {
  if (process == 0) return "publisher";
  if (process > reader_count()) return "broker";
  return std::string(readers_[process - 1].lossless ? "lossless" : "dropping") + std::to_string(process);
}

bool LaneScenario::may_die(std::size_t process) const {
  if (process == 0) return shape_.publisher_dies;
  return process <= reader_count() && shape_.readers_die;
}

bool LaneScenario::may_stop(std::size_t process) const {
  return process > 0 && process <= reader_count() && shape_.readers_stop;
}

bool LaneScenario::registered(std::size_t process) const {
  if (shape_.full_fences) return false;
  return !(shape_.joiner_lacks && process == reader_count());
}

void LaneScenario::run(std::size_t process) {
  if (process == 0)
    publish();
  else if (process <= reader_count())
    read(readers_[process - 1]);
  else
    serve();
}

// ---- publisher ----------------------------------------------------------------------------------------------------

// The readers' places, and the last block's `next`. Places that stay empty in a scenario are left out, unless the
// roster has two blocks: then it is walked as it ships.
const std::uint64_t* LaneScenario::find_readers() {
  refs_.clear();
  if (!shape_.chained) {
    // A second reader of a place has the record of the first.
    for (Reader& reader : readers_)
      if (reader.record == &reader.own_record) refs_.push_back({.place = &place_of(reader)});
    return &block_.next;
  }
  return shm::walk_roster<ModelAtomics>(
      roster_.header, block_, [&](std::uint32_t, const std::uint64_t& place) { refs_.push_back({.place = &place}); });
}

void LaneScenario::refresh() {
  const std::uint64_t changes = ModelAtomics::load<At::kScanRoster>(block_.changes);
  const std::uint64_t* const tail = find_readers();
  for (shm::ReaderRef& ref : refs_) {
    ref.entry = ModelAtomics::load<At::kScanRoster>(*ref.place);
    for (Reader& reader : readers_) {
      if (&place_of(reader) != ref.place) continue;
      ref.cursor = &reader.record->cursor;
      ref.pins = reader.record->pins;
    }
  }
  ModelAtomics::heavy_fence<At::kReclaimFence>();
  writer_->set_readers(refs_, tail, changes);
}

bool LaneScenario::has_room(std::uint64_t count) {
  constexpr int kTriesMax = 10;
  for (int tries = 0; tries < kTriesMax; ++tries) {
    const shm::Room room = writer_->room(count);
    if (room != shm::Room::kRosterChanged) return room == shm::Room::kOk;
    refresh();
  }
  return false;
}

bool LaneScenario::make_room(std::uint64_t count) {
  wanted_ = count;
  for (int tries = 0; tries < (shape_.waits ? 10 : 3); ++tries) {
    if (has_room(count)) return true;
    if (shape_.waits && sleep_until([&] { return has_room(count); })) return true;
  }
  return false;
}

// Row 14, as the client does it: true if there was room at the second look.
template <class Ready>
bool LaneScenario::sleep_until(Ready&& ready) {
  shm::arm<ModelAtomics, At::kRoomArm>(bell_, ++ticket_, ModelSound{});
  writer_->announce_wait(0);
  const bool found = ready();
  if (!found) ModelSound::sleep(bell_);
  writer_->end_wait();
  shm::disarm<ModelAtomics, At::kRoomDisarm>(bell_, ticket_);
  return found;
}

void LaneScenario::freed(std::uint32_t chunk) {
  require(std::find(free_.begin(), free_.end(), chunk) == free_.end(), "a chunk is freed twice");
  free_.push_back(chunk);
}

bool LaneScenario::take_back() {
  constexpr int kTriesMax = 10;
  for (int tries = 0; tries < kTriesMax; ++tries) {
    const shm::Room room = writer_->reclaim(writer_->position(), [&](std::uint32_t chunk) { freed(chunk); });
    if (room != shm::Room::kRosterChanged) break;
    refresh();
  }
  return !free_.empty();
}

// Row 16: the broker makes the lane longer, and says so in the roster before it replies.
bool LaneScenario::grow() {
  if (given_ == shape_.chunks) return false;
  send(asked_);
  wait_until([&] { return machine().newest(&grown_, 0) == given_; });
  receive(grown_);
  free_.push_back(given_++);
  return true;
}

bool LaneScenario::loan(std::uint32_t& chunk) {
  wanted_ = 0;
  for (int tries = 0; free_.empty() && tries < (shape_.waits ? 10 : 3); ++tries) {
    if (take_back() || grow()) break;
    if (shape_.waits) sleep_until([&] { return take_back(); });
  }
  if (free_.empty()) return false;
  chunk = free_.back();
  free_.pop_back();
  return true;
}

void LaneScenario::publish_part(std::uint64_t first, std::uint64_t count, const std::vector<std::uint32_t>& chunks) {
  const std::uint64_t size = chunks.empty() ? 32 | shm::kFlagInline : 8;
  const auto words_of = [&](std::uint64_t i, std::uint64_t(&words)[4]) {
    std::fill(words, words + 4, chunks.empty() ? first + i : 0);
    if (chunks.empty()) return;
    words[0] = chunks[i];
    words[1] = shm::chunks_offset(shape_.ring) + 64 * chunks[i];
    writer_->own(i, chunks[i]);
  };
  std::uint64_t words[4];
  if (count == 1) {
    words_of(0, words);
    writer_->publish_one(size, 0, first, words);
    return;
  }
  writer_->begin();
  for (std::uint64_t i = 0; i < count; ++i) {
    words_of(i, words);
    writer_->fill(i, size, 0, first + i, words);
  }
  writer_->commit(count, 8 * count);
}

void LaneScenario::publish() {
  writer_.emplace(shm::LaneWriterMemory{.header = &header_,
                                        .ring = ring_.data(),
                                        .ring_slots = shape_.ring,
                                        .chunks_max = kChunksMax,
                                        .board = &board_,
                                        .block = &block_,
                                        .outstanding = outstanding_,
                                        .pinned = pinned_,
                                        .held = held_,
                                        .full_fences = shape_.full_fences});
  refresh();
  while (writer_->position() < shape_.samples) {
    const std::uint64_t first = writer_->position();
    const std::uint64_t count = std::min(shape_.batch, shape_.samples - first);
    std::vector<std::uint32_t> chunks;
    for (std::uint64_t i = 0; shape_.chunks > 0 && i < count; ++i) {
      std::uint32_t chunk = 0;
      if (!loan(chunk)) break;
      chunks.push_back(chunk);
      write_payload(payload_[chunk], first + i);
    }
    const std::uint64_t part = shape_.chunks > 0 ? chunks.size() : count;
    if (part == 0 || !make_room(part)) {
      for (const std::uint32_t chunk : chunks) freed(chunk);
      break;  // readers hold it all: nothing more in this run
    }
    publish_part(first, part, chunks);
    published_ = writer_->position();
  }
  if (shape_.finishes) writer_->finish();
  if (!shape_.waits) collect_all();
}

// When every reader has left or was repaired, every chunk comes back.
void LaneScenario::collect_all() {
  wait_until([this] { return machine().newest(&gone_, 0) == reader_count(); });
  receive(gone_);
  take_back();
  require(free_.size() == given_, "a chunk is leaked");
}

// ---- readers ------------------------------------------------------------------------------------------------------

void LaneScenario::look(const shm::Taken& taken, std::uint64_t position) {
  require(taken.position == position, "a sample of another position");
  require(taken.time == position, "torn descriptor");
  if (taken.chunk == shm::kNoChunk) {
    for (const std::uint64_t word : taken.words) require(word == position, "torn inline sample");
    return;
  }
  require(read_payload(payload_[taken.chunk]) == position, "a view shows another sample");
}

void LaneScenario::made_room(const LaneReader& lane) {
  if (lane.writer_waits() != 0) shm::ring<ModelAtomics>(bell_, ModelSound{});
}

void LaneScenario::begin(Reader& reader, LaneReader& lane) {
  if (reader.attached)
    lane.join_fresh();
  else
    lane.join(shape_.start);
  reader.first = lane.cursor();
  if (!reader.attached) made_room(lane);
}

void LaneScenario::let_go(LaneReader& lane, shm::Taken& held) {
  if (held.chunk == shm::kNoChunk) return;
  look(held, held.position);
  lane.release(held.chunk);
  made_room(lane);
  held.chunk = shm::kNoChunk;
}

// One take, or one batch. `held`: the view that is kept while the next one is taken. False: the lane has ended.
bool LaneScenario::take_some(Reader& reader, LaneReader& lane, shm::Taken& held) {
  std::array<shm::Taken, 2> taken{};
  std::size_t count = 0;
  const std::uint64_t before = lane.cursor();
  const bool gating = lane.lossless();
  const shm::Take result = shape_.batch > 1 ? lane.take_batch(taken, count) : lane.take(taken[0]);
  if (shape_.batch <= 1 && result == shm::Take::kSample) count = 1;
  require(result != shm::Take::kCorrupt, gating ? "a lossless reader was lapped" : "corrupt");
  if (result == shm::Take::kLapped) {
    require(taken[0].turned || !gating, "a lossless reader was lapped");
    reader.missed += taken[0].missed;
  }
  if (result == shm::Take::kFinished || result == shm::Take::kAborted) return false;
  if (count > 0 ? lane.lossless() : result != shm::Take::kEmpty) made_room(lane);
  for (std::size_t k = 0; k < count; ++k) look(taken[k], before + k);
  reader.got += count;
  let_go(lane, held);
  for (std::size_t k = 0; k < count; ++k) {
    if (k + 1 == count)
      held = taken[k];
    else
      let_go(lane, taken[k]);
  }
  require(reader.got + reader.missed == lane.cursor() - reader.first, "the count of missed samples is wrong");
  return true;
}

void LaneScenario::read(Reader& reader) {
  if (!reader.attached) receive(reader.admitted);
  LaneReader lane({.header = &header_,
                   .ring = ring_.data(),
                   .ring_slots = shape_.ring,
                   .chunks_max = kChunksMax,
                   .record = reader.record,
                   .block = &block_,
                   .entry = &place_of(reader),
                   .uses = reader.uses,
                   .lossless = reader.lossless,
                   .full_fences = !model::registered()});
  begin(reader, lane);
  shm::Taken held{};
  held.chunk = shm::kNoChunk;
  for (std::uint32_t i = 0; i < shape_.takes && !reader.ended; ++i) reader.ended = !take_some(reader, lane, held);
  reader.cursor = lane.cursor();
  if (shape_.waits) return let_go(lane, held);  // who left would ring: nobody may depend on it
  // A view outlives the subscriber that took it.
  lane.leave();
  made_room(lane);
  let_go(lane, held);
  if (shape_.again && reader.attached && reader.place == 0) send(left_);
  send(gone_);
}

// ---- broker -------------------------------------------------------------------------------------------------------

void LaneScenario::ring_writer() {
  ModelAtomics::heavy_fence<At::kSleepFence>();
  shm::ring<ModelAtomics>(bell_, ModelSound{});
}

const std::uint64_t& LaneScenario::place_of(const Reader& reader) const {
  if (reader.place < shm::kRosterEntries) return roster_.first.entries[reader.place];
  return roster_.second.entries[reader.place - shm::kRosterEntries];
}

void LaneScenario::store_entry(const Reader& reader, std::uint64_t entry) {
  shm::RosterBlock& block = reader.place < shm::kRosterEntries ? roster_.first : roster_.second;
  shm::store_entry<ModelAtomics>(block, reader.place % shm::kRosterEntries, entry);
}

// The second block was another lane's before.
void LaneScenario::link_second() {
  shm::store_entry<ModelAtomics>(roster_.second, 0, 0);
  shm::store_next<ModelAtomics>(block_, sizeof(shm::RosterHeader) + sizeof(shm::RosterBlock));
}

// Row 11: record, flags, entry, `changes`, ring, reply.
void LaneScenario::admit(Reader& reader) {
  shm::reset_record<ModelAtomics>(*reader.record, kChunksMax, shm::kCursorNone);
  if (shape_.joiner_lacks) shm::store_flags<ModelAtomics>(block_, shm::kRosterFullFences);
  if (shape_.chained) link_second();
  store_entry(reader, reader.entry);
  shm::bump_changes<ModelAtomics>(block_);
  ring_writer();
  send(reader.admitted);
}

// Rows 11a and 14b: entry, `changes`, record, ring.
void LaneScenario::detach(Reader& reader) {
  store_entry(reader, 0);
  shm::bump_changes<ModelAtomics>(block_);
  shm::reset_record<ModelAtomics>(*reader.record, kChunksMax, shm::kCursorNone);
  ring_writer();
}

void LaneScenario::turn(Reader& reader) {
  store_entry(reader, reader.entry | shm::kEntryTurned);
  shm::bump_changes<ModelAtomics>(block_);
  ring_writer();
}

void LaneScenario::repair(std::size_t process) {
  machine().bury(self(), process);
  if (process == 0) {
    ModelAtomics::compare_exchange<At::kLaneAbort>(header_.state, static_cast<std::uint64_t>(shm::LaneState::kOpen),
                                                   static_cast<std::uint64_t>(shm::LaneState::kAborted));
    return;
  }
  Reader& reader = readers_[process - 1];
  if (!(process == 1 && handed_on_)) detach(reader);
  send(gone_);
  if (process == 1) hand_on();
}

// The first reader's place and record go to the joining one, once.
void LaneScenario::hand_on() {
  if (!shape_.again || handed_on_) return;
  handed_on_ = true;
  admit(readers_.back());
}

bool LaneScenario::due(const std::uint64_t& message, std::uint64_t handled) const {
  return machine().newest(&message, 0) > handled;
}

void LaneScenario::serve() {
  if (shape_.joins && !shape_.again) admit(readers_.back());
  if (shape_.turns) turn(readers_[0]);
  std::vector<bool> repaired(reader_count() + 1);
  std::uint64_t growths = 0;
  std::uint64_t leaves = 0;
  const auto fresh = [&]() -> std::size_t {
    for (std::size_t i = 0; i <= reader_count(); ++i)
      if (dead(i) && !repaired[i]) return i;
    return reader_count() + 1;
  };
  const auto all_ended = [&] {
    for (std::size_t i = 0; i <= reader_count(); ++i)
      if (!over(i)) return false;
    return true;
  };
  while (true) {
    wait_until([&] { return fresh() <= reader_count() || due(asked_, growths) || due(left_, leaves) || all_ended(); });
    if (const std::size_t process = fresh(); process <= reader_count()) {
      repaired[process] = true;
      repair(process);
    } else if (due(asked_, growths)) {
      receive(asked_);
      ++growths;
      shm::store_size<ModelAtomics>(block_, shm::chunks_offset(shape_.ring) + 64 * (growths + 1));
      send(grown_);
    } else if (due(left_, leaves)) {
      receive(left_);
      ++leaves;
      if (handed_on_) continue;
      detach(readers_[0]);
      hand_on();
    } else {
      return;
    }
  }
}

void LaneScenario::check() {
  if (dead(0)) {
    // What was published is whole, without a hole: every position up to the highest stamp.
    std::uint64_t top = 0;
    for (const shm::Slot& slot : ring_) top = std::max(top, machine().newest(&slot.stamp, slot.stamp));
    if (top == 0) return;
    const std::uint64_t last = shm::position_of(top);
    for (std::uint64_t p = last + 1 > shape_.ring ? last + 1 - shape_.ring : 0; p <= last; ++p) {
      const std::uint64_t stamp = machine().newest(&ring_[p % shape_.ring].stamp, 0);
      require(stamp >= shm::stamp_of(p), "a hole below a published sample");
    }
    return;
  }
  if (asleep(0)) {
    see_all(0);
    require(!(wanted_ > 0 ? has_room(wanted_) : take_back()), "the writer sleeps although there is room");
    return;
  }
  bool one_stopped = false;
  for (std::size_t i = 1; i <= reader_count(); ++i) one_stopped = one_stopped || stopped(i);
  require(done(0) || one_stopped, "the publisher is stuck");
  for (const Reader& reader : readers_) {
    const std::size_t process = static_cast<std::size_t>(&reader - readers_.data()) + 1;
    require(done(process) || dead(process) || one_stopped, "a reader is stuck");
    if (done(process) && reader.ended) require(reader.cursor >= published_, "an ended lane was not drained");
  }
}

}  // namespace holdfast::model
