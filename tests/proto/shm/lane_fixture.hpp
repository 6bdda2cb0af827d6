// SPDX-License-Identifier: MIT
//
// A lane in plain memory, for tests: the segment, its place in a roster, a board, bells and a session segment with
// reader records, all zeroed and aligned as in shared memory; the broker's part as small functions; and a writer and a
// reader with the private books that the client keeps beside them. No process, no system call.
#pragma once

#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <ostream>
#include <vector>

#include "proto/shm/bell.hpp"
#include "proto/shm/lane_reader.hpp"
#include "proto/shm/lane_writer.hpp"
#include "proto/shm/roster.hpp"

namespace holdfast::shm {

inline void PrintTo(Take take, std::ostream* out) {
  constexpr const char* kNames[] = {"sample", "empty", "lapped", "finished", "aborted", "corrupt"};
  *out << kNames[static_cast<int>(take)];
}
inline void PrintTo(Room room, std::ostream* out) {
  constexpr const char* kNames[] = {"ok", "full", "roster changed"};
  *out << kNames[static_cast<int>(room)];
}
inline void PrintTo(At at, std::ostream* out) { *out << (at == At::kCount ? "none" : site(at).name); }

class PageMemory {
 public:
  explicit PageMemory(std::uint64_t bytes)
      : bytes_(round_up(bytes, kPage)),
        memory_(static_cast<std::uint8_t*>(std::aligned_alloc(kPage, bytes_))) {
    std::memset(memory_.get(), 0, bytes_);
  }
  std::uint8_t* at(std::uint64_t offset) const { return memory_.get() + offset; }
  std::uint64_t bytes() const { return bytes_; }

 private:
  struct Free {
    void operator()(std::uint8_t* memory) const { std::free(memory); }
  };
  std::uint64_t bytes_;
  std::unique_ptr<std::uint8_t, Free> memory_;
};

struct LaneShape {
  std::uint32_t ring_slots = 8;
  std::uint32_t chunks_max = 64;
  std::uint32_t chunks = 16;         // that the lane has memory for at first
  std::uint64_t chunk_bytes = 128;
  std::uint32_t chunks_reserve = 0;  // more, for growth
};

// A reader's place: its roster entry and its record.
struct Seat {
  std::uint32_t index = 0;
  std::uint64_t* place = nullptr;
  std::uint64_t record_offset = 0;
};

class TestLane {
 public:
  static constexpr std::uint32_t kSession = 7;
  static constexpr std::uint64_t kBlockOffset = 128;
  static constexpr std::uint32_t kSeatsMax = 64;

  explicit TestLane(const LaneShape& shape = {})
      : shape_(shape),
        segment_(chunks_offset(shape.ring_slots) +
                 (std::uint64_t{shape.chunks} + shape.chunks_reserve) * shape.chunk_bytes),
        roster_(16 * sizeof(RosterBlock)),
        records_(kPage + kSeatsMax * record_bytes(shape.chunks_max)),
        bells_(kBoardsOffset + kPage) {
    roster().valid_bytes = roster_.bytes();
    block().size = chunk_offset(shape.chunks);
  }

  const LaneShape& shape() const { return shape_; }
  PageMemory& segment() { return segment_; }
  LaneHeader& header() { return *reinterpret_cast<LaneHeader*>(segment_.at(0)); }
  Slot* ring() { return reinterpret_cast<Slot*>(segment_.at(kRingOffset)); }
  Slot& slot(std::uint64_t position) { return ring()[position & (shape_.ring_slots - 1)]; }
  std::uint64_t chunk_offset(std::uint64_t chunk) const {
    return chunks_offset(shape_.ring_slots) + chunk * shape_.chunk_bytes;
  }
  RosterHeader& roster() { return *reinterpret_cast<RosterHeader*>(roster_.at(0)); }
  RosterBlock& block(std::uint32_t index = 0) {
    return *reinterpret_cast<RosterBlock*>(roster_.at(kBlockOffset + index * sizeof(RosterBlock)));
  }
  Board& board() { return *reinterpret_cast<Board*>(bells_.at(kBoardsOffset)); }
  Bell& bell(std::uint32_t index) { return reinterpret_cast<BellSegment*>(bells_.at(0))->bells[index]; }
  ReaderRecord& record(const Seat& seat) { return *reinterpret_cast<ReaderRecord*>(records_.at(seat.record_offset)); }
  std::uint8_t* pins(const Seat& seat) { return record(seat).pins; }
  const PageMemory& records() const { return records_; }

  // ---- what the broker does ----

  // Row 11: the record, then the entry. A second block is chained when the first is full.
  Seat seat(std::uint64_t flags, std::uint64_t cursor = kCursorNone) {
    Seat seat;
    seat.index = seats_++;
    seat.record_offset = kPage + seat.index * record_bytes(shape_.chunks_max);
    const std::uint32_t at = seat.index / kRosterEntries;
    seat.place = &block(at).entries[seat.index % kRosterEntries];
    if (at > 0 && block(at - 1).next == 0)
      store_next<NativeAtomics>(block(at - 1), kBlockOffset + at * sizeof(RosterBlock));
    seat_again(seat, flags, cursor);
    return seat;
  }

  // The place and the record of one who went, for the next.
  void seat_again(const Seat& seat, std::uint64_t flags, std::uint64_t cursor = kCursorNone) {
    reset_record<NativeAtomics>(record(seat), shape_.chunks_max, cursor);
    NativeAtomics::store<At::kRosterEntry>(*seat.place,
                                           make_entry(kSession, seat.record_offset, kEntryPresent | flags));
    bump_changes<NativeAtomics>(block());
  }

  // Row 11a: off the roster, then the record.
  void unseat(const Seat& seat) {
    NativeAtomics::store<At::kRosterEntry>(*seat.place, std::uint64_t{0});
    bump_changes<NativeAtomics>(block());
    reset_record<NativeAtomics>(record(seat), shape_.chunks_max, kCursorNone);
  }

  void turn(const Seat& seat) {
    NativeAtomics::store<At::kRosterEntry>(*seat.place, *seat.place | kEntryTurned);
    bump_changes<NativeAtomics>(block());
  }

  void abort() {
    NativeAtomics::compare_exchange<At::kLaneAbort>(header().state, std::uint64_t{0},
                                                    static_cast<std::uint64_t>(LaneState::kAborted));
  }

  // Row 16. Returns the first of the new chunks.
  std::uint32_t grow(std::uint32_t chunks) {
    const std::uint32_t first = shape_.chunks;
    shape_.chunks += chunks;
    shape_.chunks_reserve -= chunks;
    store_size<NativeAtomics>(block(), chunk_offset(shape_.chunks));
    return first;
  }

 private:
  LaneShape shape_;
  PageMemory segment_;
  PageMemory roster_;
  PageMemory records_;
  PageMemory bells_;
  std::uint32_t seats_ = 0;
};

// The i-th payload word of the sample at `position`.
constexpr std::uint64_t payload_word(std::uint64_t position, std::uint64_t i) {
  std::uint64_t x = position * 0x9e3779b97f4a7c15 + i + 1;
  x = (x ^ (x >> 29)) * 0xbf58476d1ce4e5b9;
  return x ^ (x >> 32);
}

// A writer with what the client keeps beside it: the free chunks, and the readers that it has resolved.
template <class A = NativeAtomics>
class TestWriter {
 public:
  explicit TestWriter(TestLane& lane, bool full_fences = false)
      : lane_(lane),
        outstanding_(lane.shape().chunks_max),
        pinned_(lane.shape().chunks_max),
        held_(lane.shape().chunks_max / 8),
        writer_({.header = &lane.header(),
                 .ring = lane.ring(),
                 .ring_slots = lane.shape().ring_slots,
                 .chunks_max = lane.shape().chunks_max,
                 .board = &lane.board(),
                 .block = &lane.block(),
                 .outstanding = outstanding_,
                 .pinned = pinned_,
                 .held = held_,
                 .full_fences = full_fences}) {
    for (std::uint32_t chunk = 0; chunk < lane.shape().chunks; ++chunk) free_.push_back(chunk);
    resolve();
  }
  TestWriter(const TestWriter&) = delete;
  TestWriter& operator=(const TestWriter&) = delete;

  LaneWriter<A>* operator->() { return &writer_; }
  std::size_t free_chunks() const { return free_.size(); }
  void give(std::uint32_t chunk) { free_.push_back(chunk); }

  // Looks at the whole roster again, as a publisher does that was told kRosterChanged.
  void resolve() {
    const std::uint64_t changes = NativeAtomics::load<At::kScanRoster>(lane_.block().changes);
    readers_.clear();
    const std::uint64_t* tail =
        walk_roster<NativeAtomics>(lane_.roster(), lane_.block(), [&](std::uint32_t, const std::uint64_t& place) {
          ReaderRef reader{.place = &place, .entry = NativeAtomics::load<At::kScanRoster>(place)};
          if (reader.entry != 0) {
            const ReaderRecord& record = lane_.record(Seat{.record_offset = entry_record(reader.entry)});
            reader.cursor = &record.cursor;
            reader.pins = record.pins;
          }
          readers_.push_back(reader);
        });
    writer_.set_readers(readers_, tail, changes);
  }

  Room room(std::uint64_t count) {
    Room room = writer_.room(count);
    while (room == Room::kRosterChanged) {
      resolve();
      room = writer_.room(count);
    }
    return room;
  }

  Room reclaim(std::uint64_t floor) {
    const auto scan = [&] { return writer_.reclaim(floor, [&](std::uint32_t chunk) { free_.push_back(chunk); }); };
    Room room = scan();
    while (room == Room::kRosterChanged) {
      resolve();
      room = scan();
    }
    return room;
  }

  // A free chunk: reclaims for it, the newest sample last.
  bool loan(std::uint32_t& chunk) {
    if (free_.empty()) reclaim(writer_.floor_keeping(std::max<std::uint64_t>(1, writer_.outstanding() / 2)));
    if (free_.empty()) reclaim(writer_.position());
    if (free_.empty()) return false;
    chunk = free_.front();
    free_.pop_front();
    return true;
  }

  // Fills the index-th slot of the publish that follows with 32 bytes inline.
  void fill_inline(std::uint64_t index) {
    const std::uint64_t position = writer_.position() + index;
    std::uint64_t words[4];
    for (std::uint64_t i = 0; i < 4; ++i) words[i] = payload_word(position, i);
    writer_.fill(index, kInlineBytesMax | kFlagInline, position << 32, position, words);
  }

  // Writes a whole chunk and fills the index-th slot of the publish that follows with it.
  void fill_chunk(std::uint64_t index, std::uint32_t chunk) {
    const std::uint64_t position = writer_.position() + index;
    const std::uint64_t offset = lane_.chunk_offset(chunk);
    auto* payload = reinterpret_cast<std::uint64_t*>(lane_.segment().at(offset));
    for (std::uint64_t i = 0; i < lane_.shape().chunk_bytes / 8; ++i) payload[i] = payload_word(position, i);
    const std::uint64_t words[4] = {chunk, offset, 0, 0};
    writer_.fill(index, lane_.shape().chunk_bytes, position << 32, position, words);
    writer_.own(index, chunk);
  }

  // Publishes one sample. False: the ring is full, or no chunk is free.
  bool publish_inline() {
    if (room(1) != Room::kOk) return false;
    const std::uint64_t position = writer_.position();
    std::uint64_t words[4];
    for (std::uint64_t i = 0; i < 4; ++i) words[i] = payload_word(position, i);
    sleepers_ = writer_.publish_one(kInlineBytesMax | kFlagInline, position << 32, position, words);
    return true;
  }
  bool publish_chunk() {
    std::uint32_t chunk = 0;
    if (room(1) != Room::kOk || !loan(chunk)) return false;
    writer_.begin();
    fill_chunk(0, chunk);
    sleepers_ = writer_.commit(1, lane_.shape().chunk_bytes);
    return true;
  }

  // Every third sample inline, the others with chunks as long as there are some.
  bool publish_mixed() { return (writer_.position() % 3 != 2 && publish_chunk()) || publish_inline(); }

  // A batch of `count` samples, chunks or inline as in publish_mixed().
  bool publish_batch(std::uint64_t count) {
    if (room(count) != Room::kOk) return false;
    std::vector<std::uint32_t> chunks;
    for (std::uint32_t chunk = 0; chunks.size() < count && loan(chunk);) chunks.push_back(chunk);
    writer_.begin();
    std::uint64_t bytes = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
      if (!chunks.empty() && (writer_.position() + i) % 3 != 2) {
        fill_chunk(i, chunks.back());
        chunks.pop_back();
        bytes += lane_.shape().chunk_bytes;
      } else {
        fill_inline(i);
        bytes += kInlineBytesMax;
      }
    }
    sleepers_ = writer_.commit(count, bytes);
    for (const std::uint32_t chunk : chunks) free_.push_front(chunk);
    return true;
  }

  // Publishes up to `count` and says how many it were.
  std::uint64_t publish_up_to(std::uint64_t count) {
    std::uint64_t published = 0;
    while (published < count && publish_mixed()) ++published;
    return published;
  }

  bool sleepers() const { return sleepers_; }

 private:
  TestLane& lane_;
  std::vector<Published> outstanding_;
  std::vector<std::uint32_t> pinned_;
  std::vector<std::uint64_t> held_;
  std::vector<ReaderRef> readers_;
  std::deque<std::uint32_t> free_;
  bool sleepers_ = false;
  LaneWriter<A> writer_;
};

// A reader with its seat and its book of uses.
template <class A = NativeAtomics>
class TestReader {
 public:
  TestReader(TestLane& lane, const Seat& seat, bool lossless, bool full_fences = false)
      : lane_(lane),
        seat_(seat),
        uses_(lane.shape().chunks_max),
        reader_({.header = &lane.header(),
                 .ring = lane.ring(),
                 .ring_slots = lane.shape().ring_slots,
                 .chunks_max = lane.shape().chunks_max,
                 .record = &lane.record(seat),
                 .block = &lane.block(),
                 .entry = seat.place,
                 .uses = uses_,
                 .lossless = lossless,
                 .full_fences = full_fences}) {}
  TestReader(const TestReader&) = delete;
  TestReader& operator=(const TestReader&) = delete;

  LaneReader<A>* operator->() { return &reader_; }
  LaneReader<A>& operator*() { return reader_; }
  const Seat& seat() const { return seat_; }
  std::uint8_t pin(std::uint32_t chunk) { return lane_.pins(seat_)[chunk]; }
  std::size_t pins() {
    std::size_t count = 0;
    for (std::uint32_t i = 0; i < lane_.shape().chunks_max; ++i) count += lane_.pins(seat_)[i];
    return count;
  }

  // Is this what the writer published at this position?
  bool intact(const Taken& taken) {
    if (taken.time != taken.position || taken.type != static_cast<std::uint32_t>(taken.position)) return false;
    const std::uint64_t* words = taken.words;
    std::uint64_t bytes = kInlineBytesMax;
    if (taken.chunk != kNoChunk) {
      words = reinterpret_cast<const std::uint64_t*>(lane_.segment().at(taken.offset));
      bytes = lane_.shape().chunk_bytes;
    }
    if (taken.payload_bytes != bytes) return false;
    for (std::uint64_t i = 0; i < bytes / 8; ++i)
      if (words[i] != payload_word(taken.position, i)) return false;
    return true;
  }

  void release(const Taken& taken) {
    if (taken.chunk != kNoChunk) reader_.release(taken.chunk);
  }

 private:
  TestLane& lane_;
  Seat seat_;
  std::vector<std::uint32_t> uses_;
  LaneReader<A> reader_;
};

// A fresh drop-oldest or lossless reader that was there before the first sample.
template <class A = NativeAtomics>
std::unique_ptr<TestReader<A>> fresh_reader(TestLane& lane, bool lossless) {
  auto reader = std::make_unique<TestReader<A>>(lane, lane.seat(lossless ? kEntryLossless : 0, 0), lossless);
  (*reader)->join_fresh();
  return reader;
}

// What a reader found until there was nothing more.
struct Drained {
  std::uint64_t taken = 0;
  std::uint64_t missed = 0;
  std::uint64_t corrupt = 0;
  std::uint64_t torn = 0;
  std::uint64_t turned = 0;
  bool in_order = true;
  Take end = Take::kEmpty;
};

template <class A>
Drained drain(TestReader<A>& reader, std::uint64_t most = 100'000) {
  Drained drained;
  std::uint64_t next = reader->cursor();
  for (std::uint64_t i = 0; i < most; ++i) {
    Taken taken;
    const Take result = reader->take(taken);
    if (result == Take::kSample) {
      drained.in_order = drained.in_order && taken.position == next;
      drained.torn += reader.intact(taken) ? 0 : 1;
      reader.release(taken);
      ++drained.taken;
      next = taken.position + 1;
    } else if (result == Take::kLapped) {
      drained.missed += taken.missed;
      drained.turned += taken.turned ? 1 : 0;
      next += taken.missed;
    } else if (result == Take::kCorrupt) {
      ++drained.corrupt;
      next = reader->cursor();
    } else {
      drained.end = result;
      return drained;
    }
  }
  return drained;
}

}  // namespace holdfast::shm
