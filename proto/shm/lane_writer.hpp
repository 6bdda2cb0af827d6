// SPDX-License-Identifier: MIT
//
// The publisher's side of a lane. One thread of one process calls it; nobody else writes the lane, but for the broker,
// which may turn `state` from open to aborted when the process is gone.
//
// How a sample gets out:
//   1. room(n) makes sure that the n slots after the last position may be rewritten: their old positions are below
//      `floor`, and every lossless cursor is beyond them. `floor` is raised a quarter of the ring at a time, so that the
//      readers' copy of its line stays valid for most takes.
//   2. begin() orders that raise before the fields; fill() writes fields; commit() stores the stamps, ascending, then
//      `head`. A reader that sees a stamp sees the fields. A publisher that dies before the stamp has published nothing.
//   3. commit() looks at the board: is somebody asleep on this lane? No fence: a sleeper pays for it with a membarrier.
//
// How a chunk comes back: reclaim() raises `floor`, full fence, then reads roster, cursors and pins, in this order. A
// chunk is free if its position is below `floor`, below every lossless cursor, and no reader pins it. A drop-oldest
// reader pins, full fence, then reads `floor`: so either we see its pin, or it sees our floor.
//
// Invariants:
//   (1) floor_ <= position_, both only grow.
//   (2) slot_limit_ is a bound that was true once and stays true: lossless cursors and floor only grow.
//   (3) each chunk is in one place: with a loan, in `outstanding_`, in `pinned_`, or free (the caller's).
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "proto/shm/atomics.hpp"
#include "proto/shm/bells_layout.hpp"
#include "proto/shm/lane_layout.hpp"
#include "proto/shm/roster_layout.hpp"
#include "proto/shm/session_layout.hpp"

namespace holdfast::shm {

// What the publisher knows of one place in the roster. `entry` is what it saw there when it last resolved it; the
// pointers lead into the reader's session segment. Kept by the caller, who resolves entries with the broker's help.
struct ReaderRef {
  const std::uint64_t* place = nullptr;
  std::uint64_t entry = 0;
  const std::uint64_t* cursor = nullptr;
  const std::uint8_t* pins = nullptr;
};

enum class Room { kOk, kFull, kRosterChanged };

struct Published {
  std::uint64_t position;
  std::uint32_t chunk;
};

// Memory that a writer works on. Requires: all of it outlives the writer; `outstanding` and `pinned` have chunks_max
// elements, `held` chunks_max / 8.
struct LaneWriterMemory {
  LaneHeader* header;
  Slot* ring;
  std::uint32_t ring_slots;
  std::uint32_t chunks_max;
  Board* board;
  const RosterBlock* block;
  std::span<Published> outstanding;
  std::span<std::uint32_t> pinned;
  std::span<std::uint64_t> held;
  bool full_fences;  // this process has no membarrier
};

template <class A>
class LaneWriter {
 public:
  explicit LaneWriter(const LaneWriterMemory& memory)
      : memory_(memory),
        mask_(memory.ring_slots - 1),
        slot_limit_(memory.ring_slots),
        tail_next_(&memory.block->next) {}

  std::uint64_t position() const { return position_; }
  std::uint64_t floor() const { return floor_; }

  // Tells which readers there are. `tail_next` is the `next` word of the last block that `readers` covers.
  // `changes`: the block's counter as it was before the places were read.
  void set_readers(std::span<const ReaderRef> readers, const std::uint64_t* tail_next, std::uint64_t changes) {
    readers_ = readers;
    tail_next_ = tail_next;
    changes_ = changes;
    lowest_cursor_ = 0;
  }

  // May the next `count` slots be rewritten? Requires: 1 <= count <= ring_slots.
  Room room(std::uint64_t count) {
    if (position_ + count <= slot_limit_) [[likely]]
      return Room::kOk;
    return scan_room(count);
  }

  // How many slots may be rewritten as of the last scan.
  std::uint64_t available() const { return slot_limit_ - position_; }

  // Row 2: `floor` (in room()) is ordered before the fields.
  void begin() { A::template fence<At::kPublishFence>(); }

  // Writes the fields of the index-th slot of this publish. Requires: room(index + 1) was kOk, begin() was called.
  // If we die here the slot keeps its old stamp: readers see an old position, lossless ones have passed it, drop-oldest
  // ones compare `floor` after reading.
  void fill(std::uint64_t index, std::uint64_t size, std::uint64_t tags, std::uint64_t time,
            const std::uint64_t (&words)[4]) {
    write_fields(memory_.ring[(position_ + index) & mask_], size, tags, time, words);
  }

  // begin(), fill() and commit() for one sample, with every word of ours in a register: they might alias the slot's.
  // Requires: room(1) was kOk; own(0, chunk) was called if the sample has a chunk.
  [[gnu::always_inline]] bool publish_one(std::uint64_t size, std::uint64_t tags, std::uint64_t time,
                                          const std::uint64_t (&words)[4]) {
    const std::uint64_t position = position_;
    const std::uint64_t payload_bytes = payload_bytes_ + (size & kSizeMask);
    LaneHeader& header = *memory_.header;
    Slot& slot = memory_.ring[position & mask_];
    begin();
    write_fields(slot, size, tags, time, words);
    A::template store<At::kPublishStamp>(slot.stamp, stamp_of(position));
    position_ = position + 1;
    payload_bytes_ = payload_bytes;
    store_two<A, At::kPublishHead, At::kTakeCounter>(header.head, header.payload_bytes, position + 1, payload_bytes);
    return somebody_sleeps();
  }

  // Notes that the index-th slot of this publish names `chunk`.
  void own(std::uint64_t index, std::uint32_t chunk) {
    std::uint64_t at = outstanding_first_ + outstanding_count_++;
    if (at >= memory_.outstanding.size()) at -= memory_.outstanding.size();
    memory_.outstanding[at] = {position_ + index, chunk};
  }

  // Publishes `count` filled slots. Returns whether somebody is asleep on this lane: then ring (take_board()).
  // Pairs with the acquire load of the stamp in LaneReader. If we die between two stamps, those below are published.
  bool commit(std::uint64_t count, std::uint64_t payload_bytes) {
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::uint64_t position = position_ + i;
      A::template store<At::kPublishStamp>(memory_.ring[position & mask_].stamp, stamp_of(position));
    }
    position_ += count;
    payload_bytes_ += payload_bytes;
    A::template store<At::kPublishHead>(memory_.header->head, position_);
    A::template store<At::kTakeCounter>(memory_.header->payload_bytes, payload_bytes_);
    return somebody_sleeps();
  }

  // Row 8: down with an exchange, before anybody is rung. If we die after it, the broker rings.
  // Readers whose bell could not be rung now. A sleeper sets the same bit in the same way.
  void keep_on_board(std::uint64_t sleepers) {
    A::template fetch_or<At::kSleepBoard>(memory_.board->sleepers, sleepers);
  }
  std::uint64_t take_board() { return A::template exchange<At::kRingBoard>(memory_.board->sleepers, std::uint64_t{0}); }

  // How many published samples still have their chunk.
  std::uint64_t outstanding() const { return outstanding_count_; }

  // The floor that leaves the newest `keep` samples with chunks readable; the present one if there are no more.
  std::uint64_t floor_keeping(std::uint64_t keep) const {
    if (outstanding_count_ <= keep) return floor_;
    return outstanding_at(outstanding_count_ - keep - 1).position + 1;
  }

  // Raises the floor to `floor` and calls free(chunk) for every chunk that nobody can reach any more.
  template <class Free>
  Room reclaim(std::uint64_t floor, Free&& free) {
    floor_ = std::max(floor_, std::min(floor, position_));
    // Row 3. If we die after this store, drop-oldest readers skip samples that nobody would have reclaimed: counted.
    A::template store<At::kReclaimFloor>(memory_.header->floor, floor_);
    A::template fence<At::kReclaimFence>();
    std::uint64_t limit = floor_;
    if (!scan_cursors(limit)) return Room::kRosterChanged;
    slot_limit_ = std::max(slot_limit_, limit + memory_.ring_slots);
    scan_pins();
    collect(limit, free);
    return Room::kOk;
  }

  // Row 14: says in the lane that we wait on `bell` for room. The caller has armed the bell. If we die here, readers
  // ring a bell that nobody waits on.
  void announce_wait(std::uint32_t bell) {
    A::template store<At::kRoomWaits>(memory_.header->waits, std::uint64_t{bell} + 1);
    A::template store<At::kRoomFloor>(memory_.header->floor, floor_);
    A::template heavy_fence<At::kRoomFence>();
  }
  void end_wait() { A::template store<At::kRoomWaitsClear>(memory_.header->waits, std::uint64_t{0}); }

  // Row 9: after the last stamp. Pairs with the acquire load of the state before a reader's last look at the stamp.
  void finish() {
    A::template store<At::kFinishState>(memory_.header->state, static_cast<std::uint64_t>(LaneState::kFinished));
  }

  void count_full() { bump(memory_.header->full); }
  void count_exhausted() { bump(memory_.header->exhausted); }

  // Is there a chunk that would come back if readers took more, or released views?
  bool owed() const { return outstanding_count_ > 0 || pinned_count_ > 0; }

  // Does a lossless reader hold a view of this lane? Row 6: ask after its cursor.
  bool lossless_views() const {
    for (const ReaderRef& reader : readers_) {
      if (!entry_gates(reader.entry)) continue;
      for (std::size_t w = 0; w < memory_.held.size(); ++w)
        if (A::template load_bytes8<At::kReclaimPin>(reader.pins + 8 * w) != 0) return true;
    }
    return false;
  }

  // The lossless reader that holds the ring back most: its place and cursor. Returns false where there is none.
  bool slowest(std::size_t& place, std::uint64_t& cursor) const {
    cursor = kCursorNone;
    for (std::size_t i = 0; i < readers_.size(); ++i) {
      const ReaderRef& reader = readers_[i];
      if (!entry_gates(reader.entry)) continue;
      const std::uint64_t at = A::template load<At::kScanCursor>(*reader.cursor);
      if (at < cursor) {
        cursor = at;
        place = i;
      }
    }
    return cursor != kCursorNone;
  }

  // Has anything changed since set_readers()? The broker bumps the counter of the first block for the whole chain.
  bool roster_changed() const { return A::template load<At::kScanRoster>(memory_.block->changes) != changes_; }

  bool full_fences() const {
    return memory_.full_fences || (A::template load<At::kScanRoster>(memory_.block->flags) & kRosterFullFences) != 0;
  }

 private:
  [[gnu::always_inline]] static void write_fields(Slot& slot, std::uint64_t size, std::uint64_t tags,
                                                  std::uint64_t time, const std::uint64_t (&words)[4]) {
    A::template store<At::kPublishField>(slot.size, size);
    store_two<A, At::kPublishField, At::kPublishField>(slot.tags, slot.time, tags, time);
    store_two<A, At::kPublishField, At::kPublishField>(slot.words[0], slot.words[1], words[0], words[1]);
    store_two<A, At::kPublishField, At::kPublishField>(slot.words[2], slot.words[3], words[2], words[3]);
  }

  // Row 8. Pairs with the sleeper's membarrier between setting the board and looking at the stamp.
  bool somebody_sleeps() const {
    A::template light_fence<At::kPublishBoardBarrier>(full_fences());
    return A::template load<At::kPublishBoard>(memory_.board->sleepers) != 0;
  }

  // Row 2a and 6b: `floor` first, then who is attached, then how far they are. No full fence: slots need none, and a
  // lossless reader that joins pays with a membarrier (6a).
  [[gnu::noinline]] Room scan_room(std::uint64_t count) {
    const std::uint64_t ring = memory_.ring_slots;
    const std::uint64_t floor = std::min(position_, position_ + count - ring + ring / 4);
    if (floor > floor_) {
      floor_ = floor;
      A::template store<At::kPublishFloor>(memory_.header->floor, floor_);
    }
    A::template light_fence<At::kPublishFloorBarrier>(full_fences());
    // The roster in every scan: a lossless reader that joined below our floor shows in `changes`, which the broker
    // bumps before its reply. (A place may leave and come back unchanged; the counter never does.)
    if (A::template load<At::kScanRoster>(memory_.block->changes) != changes_) return Room::kRosterChanged;
    if (position_ + count > std::min(floor_, lowest_cursor_) + ring) {
      lowest_cursor_ = kCursorPast;
      joining_ = false;
      if (!scan_cursors(lowest_cursor_)) {
        lowest_cursor_ = 0;
        return Room::kRosterChanged;
      }
    }
    slot_limit_ = std::max(slot_limit_, std::min(floor_, lowest_cursor_) + ring);
    // A reader that is about to join will have a cursor at or above our floor, but maybe below this bound.
    if (joining_) lowest_cursor_ = 0;
    return position_ + count <= slot_limit_ ? Room::kOk : Room::kFull;
  }

  // Lowers `limit` to the lowest lossless cursor. Returns false if the roster is not the one that we know.
  // A cursor is the reader's to write: a wrong one hurts that reader, or makes us wait until it is turned.
  bool scan_cursors(std::uint64_t& limit) {
    if (A::template load<At::kScanRoster>(*tail_next_) != 0) return false;
    for (const ReaderRef& reader : readers_) {
      const std::uint64_t entry = A::template load<At::kScanRoster>(*reader.place);
      if (entry != reader.entry) return false;
      if (!entry_gates(entry)) continue;
      const std::uint64_t cursor = A::template load<At::kScanCursor>(*reader.cursor);
      if (cursor == kCursorNone) joining_ = true;
      limit = std::min(limit, cursor);
    }
    return true;
  }

  // Row 6: after the cursors. Pairs with the release store that clears a pin.
  void scan_pins() {
    const std::size_t words = memory_.held.size();
    std::fill(memory_.held.begin(), memory_.held.end(), 0);
    for (const ReaderRef& reader : readers_) {
      if (reader.entry == 0) continue;
      for (std::size_t w = 0; w < words; ++w)
        memory_.held[w] |= A::template load_bytes8<At::kReclaimPin>(reader.pins + 8 * w);
    }
  }

  bool is_held(std::uint32_t chunk) const { return ((memory_.held[chunk / 8] >> (8 * (chunk % 8))) & 0xff) != 0; }

  template <class Free>
  void collect(std::uint64_t limit, Free&& free) {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < pinned_count_; ++i) {
      const std::uint32_t chunk = memory_.pinned[i];
      if (is_held(chunk))
        memory_.pinned[kept++] = chunk;
      else
        free(chunk);
    }
    pinned_count_ = kept;
    while (outstanding_count_ > 0 && outstanding_at(0).position < limit) {
      const std::uint32_t chunk = outstanding_at(0).chunk;
      if (++outstanding_first_ == memory_.outstanding.size()) outstanding_first_ = 0;
      --outstanding_count_;
      if (is_held(chunk))
        memory_.pinned[pinned_count_++] = chunk;
      else
        free(chunk);
    }
  }

  const Published& outstanding_at(std::uint64_t index) const {
    std::uint64_t at = outstanding_first_ + index;
    if (at >= memory_.outstanding.size()) at -= memory_.outstanding.size();
    return memory_.outstanding[at];
  }

  static void bump(std::uint64_t& counter) {
    A::template store<At::kTakeCounter>(counter, A::template load<At::kObserve>(counter) + 1);
  }

  static constexpr std::uint64_t kCursorPast = std::uint64_t{1} << 63;  // beyond every position: nobody gates

  LaneWriterMemory memory_;
  std::uint64_t mask_;
  alignas(16) std::uint64_t position_ = 0;
  std::uint64_t payload_bytes_ = 0;  // beside position_: one store writes both
  std::uint64_t slot_limit_;
  std::uint64_t floor_ = 0;
  std::span<const ReaderRef> readers_;
  const std::uint64_t* tail_next_;
  std::uint64_t changes_ = 0;  // of the roster, when readers_ was read
  std::uint64_t lowest_cursor_ = 0;  // of the lossless readers, when it was last looked up: it only grows
  bool joining_ = false;  // a lossless reader has no cursor yet
  std::uint64_t outstanding_first_ = 0;
  std::uint64_t outstanding_count_ = 0;
  std::size_t pinned_count_ = 0;
};

}  // namespace holdfast::shm
