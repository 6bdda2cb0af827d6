// SPDX-License-Identifier: MIT
#include "tests/model/lane_scenario.hpp"

#include <algorithm>

namespace holdfast::model {

using shm::At;
using Writer = shm::LaneWriter<ModelAtomics>;
using LaneReaderModel = shm::LaneReader<ModelAtomics>;

namespace {
constexpr std::uint32_t kSession = 7;
}

LaneScenario::LaneScenario(const LaneShape& shape)
    : shape_(shape),
      ring_(shape.ring),
      readers_(shape.lossless + shape.dropping + (shape.joins ? 1 : 0)) {
  block_.size = shm::chunks_offset(shape.ring) + kChunksMax * shm::kPage;
  for (std::size_t i = 0; i < readers_.size(); ++i) {
    Reader& reader = readers_[i];
    reader.attached = !shape.joins || i + 1 < readers_.size();
    reader.lossless = i < shape.lossless || !reader.attached;
    reader.entry =
        shm::make_entry(kSession, 4096 + 256 * i, shm::kEntryPresent | (reader.lossless ? shm::kEntryLossless : 0));
    if (reader.attached) block_.entries[i] = reader.entry;
    if (!reader.attached) reader.record.cursor = shm::kCursorNone;
  }
  for (std::uint32_t chunk = shape.chunks; chunk > 0; --chunk) free_.push_back(chunk - 1);
}

bool LaneScenario::may_die(std::size_t process) const {
  if (process == 0) return shape_.publisher_dies;
  return process <= readers_.size() && shape_.readers_die;
}

void LaneScenario::run(std::size_t process) {
  if (process == 0)
    publish();
  else if (process <= readers_.size())
    read(readers_[process - 1]);
  else
    repair();
}

// ---- publisher ----------------------------------------------------------------------------------------------------

void LaneScenario::refresh(Writer& writer) {
  const std::uint64_t changes = ModelAtomics::load<At::kScanRoster>(block_.changes);
  for (std::size_t i = 0; i < refs_.size(); ++i) {
    refs_[i] = {.place = &block_.entries[i], .entry = ModelAtomics::load<At::kScanRoster>(block_.entries[i])};
    if (i >= readers_.size()) continue;
    refs_[i].cursor = &readers_[i].record.cursor;
    refs_[i].pins = readers_[i].record.pins;
  }
  ModelAtomics::heavy_fence<At::kReclaimFence>();
  writer.set_readers(refs_, &block_.next, changes);
}

bool LaneScenario::make_room(Writer& writer, std::uint64_t count) {
  for (int tries = 0; tries < 3; ++tries) {
    const shm::Room room = writer.room(count);
    if (room == shm::Room::kOk) return true;
    if (room == shm::Room::kRosterChanged) refresh(writer);
  }
  return false;
}

bool LaneScenario::loan(Writer& writer, std::uint32_t& chunk) {
  for (int tries = 0; free_.empty() && tries < 3; ++tries) {
    const shm::Room room = writer.reclaim(writer.position(), [&](std::uint32_t freed) { free_.push_back(freed); });
    if (room == shm::Room::kRosterChanged) refresh(writer);
  }
  if (free_.empty()) return false;
  chunk = free_.back();
  free_.pop_back();
  return true;
}

void LaneScenario::publish() {
  Writer writer({.header = &header_,
                 .ring = ring_.data(),
                 .ring_slots = shape_.ring,
                 .chunks_max = kChunksMax,
                 .board = &board_,
                 .block = &block_,
                 .outstanding = outstanding_,
                 .pinned = pinned_,
                 .held = held_,
                 .full_fences = false});
  refresh(writer);
  while (writer.position() < shape_.samples) {
    const std::uint64_t first = writer.position();
    const std::uint64_t count = std::min(shape_.batch, shape_.samples - first);
    std::vector<std::uint32_t> chunks;
    for (std::uint64_t i = 0; shape_.chunks > 0 && i < count; ++i) {
      std::uint32_t chunk = 0;
      if (!loan(writer, chunk)) break;
      chunks.push_back(chunk);
      write_payload(payload_[chunk], first + i);
    }
    const std::uint64_t part = shape_.chunks > 0 ? chunks.size() : count;
    if (part == 0 || !make_room(writer, part)) break;  // readers hold it all: nothing more in this run
    const std::uint64_t size = shape_.chunks == 0 ? 32 | shm::kFlagInline : 8;
    const auto words_of = [&](std::uint64_t i, std::uint64_t(&words)[4]) {
      std::fill(words, words + 4, shape_.chunks == 0 ? first + i : 0);
      if (shape_.chunks == 0) return;
      words[0] = chunks[i];
      words[1] = shm::chunks_offset(shape_.ring) + 64 * chunks[i];
      writer.own(i, chunks[i]);
    };
    std::uint64_t words[4];
    if (part == 1) {
      words_of(0, words);
      writer.publish_one(size, 0, first, words);
    } else {
      writer.begin();
      for (std::uint64_t i = 0; i < part; ++i) {
        words_of(i, words);
        writer.fill(i, size, 0, first + i, words);
      }
      writer.commit(part, 8 * part);
    }
    published_ = writer.position();
  }
  if (shape_.finishes) writer.finish();
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

void LaneScenario::read(Reader& reader) {
  if (!reader.attached) {
    // The broker's reply.
    wait_until([this] { return machine().newest(&joined_, 0) != 0; });
    while (ModelAtomics::load<At::kSleepTopic>(joined_) == 0) {
    }
  }
  const std::size_t index = static_cast<std::size_t>(&reader - readers_.data());
  LaneReaderModel lane({.header = &header_,
                        .ring = ring_.data(),
                        .ring_slots = shape_.ring,
                        .chunks_max = kChunksMax,
                        .record = &reader.record,
                        .block = &block_,
                        .entry = &block_.entries[index],
                        .uses = reader.uses,
                        .lossless = reader.lossless,
                        .full_fences = false});
  if (reader.attached)
    lane.join_fresh();
  else
    lane.join(shm::Start::kOldest);
  reader.first = lane.cursor();
  shm::Taken held{};  // the view that is kept while the next one is taken
  for (std::uint32_t i = 0; i < shape_.takes; ++i) {
    std::array<shm::Taken, 2> taken{};
    std::size_t count = 0;
    const std::uint64_t before = lane.cursor();
    const shm::Take result = shape_.batch > 1 ? lane.take_batch(taken, count) : lane.take(taken[0]);
    if (shape_.batch <= 1 && result == shm::Take::kSample) count = 1;
    require(result != shm::Take::kCorrupt, reader.lossless ? "a lossless reader was lapped" : "corrupt");
    if (result == shm::Take::kLapped) {
      require(taken[0].turned || !reader.lossless || !lane.lossless(), "a lossless reader was lapped");
      reader.missed += taken[0].missed;
    }
    if (result == shm::Take::kFinished || result == shm::Take::kAborted) {
      reader.ended = true;
      break;
    }
    for (std::size_t k = 0; k < count; ++k) {
      look(taken[k], before + k);
      ++reader.got;
    }
    if (held.chunk != shm::kNoChunk && held.payload_bytes != 0) {
      look(held, held.position);
      lane.release(held.chunk);
      held = {};
    }
    for (std::size_t k = 0; k < count; ++k) {
      if (taken[k].chunk == shm::kNoChunk) continue;
      if (k + 1 == count)
        held = taken[k];
      else
        lane.release(taken[k].chunk);
    }
    require(reader.got + reader.missed == lane.cursor() - reader.first, "the count of missed samples is wrong");
  }
  if (held.chunk != shm::kNoChunk && held.payload_bytes != 0) {
    look(held, held.position);
    lane.release(held.chunk);
  }
  reader.cursor = lane.cursor();
}

// ---- broker -------------------------------------------------------------------------------------------------------

void LaneScenario::repair() {
  if (shape_.joins) {
    const std::size_t last = readers_.size() - 1;
    shm::store_entry<ModelAtomics>(block_, static_cast<std::uint32_t>(last), readers_[last].entry);
    shm::bump_changes<ModelAtomics>(block_);
    ModelAtomics::store<At::kRosterChanges>(joined_, std::uint64_t{1});
  }
  if (shape_.turns) {
    shm::store_entry<ModelAtomics>(block_, 0, readers_[0].entry | shm::kEntryTurned);
    shm::bump_changes<ModelAtomics>(block_);
  }
  std::vector<bool> repaired(readers_.size() + 1);
  while (true) {
    const auto fresh = [&]() -> std::size_t {
      for (std::size_t i = 0; i <= readers_.size(); ++i)
        if (dead(i) && !repaired[i]) return i;
      return readers_.size() + 1;
    };
    const auto all_ended = [&] {
      for (std::size_t i = 0; i <= readers_.size(); ++i)
        if (!done(i) && !dead(i)) return false;
      return true;
    };
    wait_until([&] { return fresh() <= readers_.size() || all_ended(); });
    const std::size_t process = fresh();
    if (process > readers_.size()) return;
    repaired[process] = true;
    machine().bury(self(), process);
    if (process == 0) {
      ModelAtomics::compare_exchange<At::kLaneAbort>(header_.state, static_cast<std::uint64_t>(shm::LaneState::kOpen),
                                                     static_cast<std::uint64_t>(shm::LaneState::kAborted));
    } else {
      shm::store_entry<ModelAtomics>(block_, static_cast<std::uint32_t>(process - 1), 0);
      shm::bump_changes<ModelAtomics>(block_);
      shm::reset_record<ModelAtomics>(readers_[process - 1].record, 8, shm::kCursorNone);
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
  }
  for (const Reader& reader : readers_) {
    const std::size_t process = static_cast<std::size_t>(&reader - readers_.data()) + 1;
    if (!done(process) || !reader.ended || dead(0)) continue;
    require(reader.cursor >= published_, "an ended lane was not drained");
  }
}

}  // namespace holdfast::model
