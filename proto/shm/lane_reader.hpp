// SPDX-License-Identifier: MIT
//
// The subscriber's side of a lane. take() and its kin are called by one thread at a time; release() by any thread.
//
// How a sample is taken: look at the stamp of the slot at the cursor. If it is that of this position, read the fields
// into locals and check each one: the lane is another process's memory. Then, for a chunk, pin it:
//   lossless     pin, look whether the broker has turned us, then advance the cursor (release). No fence: the publisher
//                never reclaims above a lossless cursor, and reads cursor before pins.
//   drop-oldest  pin, full fence, read `floor`. At or below our position: the chunk is ours until the pin is cleared,
//                because the publisher raises `floor`, fences, and then reads pins. Above: unpin; we were lapped.
// An inline payload is copied out; a drop-oldest reader then compares `floor`, which is the one seqlock of a lane.
//
// Nothing yet, lapped and ended are three answers. A stamp above the expected one, or a floor above the cursor, moves
// the cursor forward, never backwards, and what it skipped is counted. A lane has ended if its state said so *before*
// one more look at the stamp found nothing.
//
// Wrong bytes are the publisher's error: Take::kCorrupt, after `floor` has shown that they are not merely being
// rewritten under a drop-oldest reader.
//
// Pins are counted per chunk inside the process (`uses`), because a failed take may touch a chunk that a view of this
// process holds if the publisher lies; the last use clears the byte. Between take and release on two threads the count
// of one chunk is never touched at the same time with an honest publisher: it names a chunk again only after it saw
// the pin cleared, which is ordered after the count. A dishonest one can only spoil its own samples.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "proto/shm/lane_layout.hpp"
#include "proto/shm/roster_layout.hpp"
#include "proto/shm/session_layout.hpp"

namespace holdfast::shm {

enum class Take { kSample, kEmpty, kLapped, kFinished, kAborted, kCorrupt };
enum class Start { kNext, kLatest, kOldest };

inline constexpr std::uint32_t kNoChunk = ~std::uint32_t{0};

// Not initialised: it is filled for every sample. `position` and `chunk` are always set by a take, `missed` and `turned`
// with kSample and kLapped, the rest with kSample.
struct Taken {
  std::uint64_t position;
  std::uint64_t payload_bytes;
  std::uint64_t time;
  std::uint64_t offset;  // of the payload in the segment; 0: inline, see words
  std::uint32_t attribute_bytes;
  std::uint32_t type;
  std::uint32_t chunk;
  bool turned;
  std::uint64_t words[4];
  std::uint64_t missed;
};

struct LaneReaderMemory {
  const LaneHeader* header;
  const Slot* ring;
  std::uint32_t ring_slots;
  std::uint32_t chunks_max;
  ReaderRecord* record;  // with chunks_max pins
  const RosterBlock* block;  // of the lane
  const std::uint64_t* entry;  // ours, in the roster
  std::span<std::uint32_t> uses;  // chunks_max, zeroed
  bool lossless;
  bool full_fences;  // this process has no membarrier
};

// What happened instead of a sample: with kLapped all of it, else the position alone.
struct Told {
  std::uint64_t position;
  std::uint64_t missed;
  bool turned;
};

template <class A>
class LaneReader {
 public:
  explicit LaneReader(const LaneReaderMemory& memory)
      : memory_(memory),
        pins_(memory.record->pins),
        mask_(memory.ring_slots - 1),
        state_(&memory.header->state),
        payload_offset_(chunks_offset(memory.ring_slots)),
        size_(A::template load<At::kTakeSize>(memory.block->size)),
        lossless_(memory.lossless) {}

  std::uint64_t cursor() const { return cursor_; }
  bool lossless() const { return lossless_; }
  std::uint64_t valid_bytes() const { return size_; }

  // Begins on a lane that was there before us. Rows 6a and 2b: announce the cursor, heavy fence, then see whether the
  // publisher has passed it meanwhile. If we die here the broker takes our entry off the roster.
  void join(Start start) {
    const std::uint64_t head = std::min(A::template load<At::kJoinHead>(memory_.header->head), kPositionMax);
    const std::uint64_t floor = load_join_floor();
    cursor_ = head;
    if (start == Start::kOldest) cursor_ = floor;
    if (start == Start::kLatest && head > floor) cursor_ = head - 1;
    store_join_cursor();
    // Bounded, because a publisher that we do not trust may raise its floor for ever. Safe after the first round: a scan
    // that missed the first cursor has stored its floor before our fence, one that saw it respects all above it.
    constexpr int kRoundsMax = 8;
    for (int round = 0; lossless_ && round < kRoundsMax; ++round) {
      A::template heavy_fence<At::kJoinFence>();
      const std::uint64_t now = load_join_floor();
      if (now <= cursor_) break;
      cursor_ = now;
      store_join_cursor();
    }
    A::template store<At::kTakeCounter>(memory_.record->joined, cursor_);
  }

  // Begins on a lane that appeared after us: the broker has set the cursor to 0 before the lane had a sample.
  void join_fresh() { cursor_ = 0; }

  // Holds the publisher back no longer. Views and their pins stay.
  void leave() { A::template store<At::kLeaveCursor>(memory_.record->cursor, kCursorNone); }

  // Has the lane ended without its own `state` saying so? As row 9: the end first, then the stamp once more. The roster's
  // word is looked at where the lanes of the topic have changed, and after a sleep that nobody ended, never in a take.
  void see_end() {
    const LaneState end = ended_by(A::template load<At::kScanRoster>(memory_.block->flags));
    if (end == LaneState::kOpen || state_ == &end_) return;
    if (A::template load<At::kTakeState>(*state_) != static_cast<std::uint64_t>(LaneState::kOpen)) return;
    end_ = static_cast<std::uint64_t>(end);
    state_ = &end_;
  }

  // Takes one sample. kSample: `taken` names it; a chunk stays ours until release(taken.chunk).
  Take take(Taken& taken) {
    if (take_ready([&](const Taken& sample) { taken = sample; })) [[likely]]
      return Take::kSample;
    return look_closer(taken);
  }

  // The shortest way: if a sound sample is there and still ours, hands it to deliver(const Taken&). False: something else,
  // which take() will find; nothing is changed.
  template <class Deliver>
  [[gnu::always_inline]] bool take_ready(Deliver&& deliver) {
    std::uint64_t size = 0;
    const Slot* const slot = complete_slot(size);
    if (slot == nullptr) [[unlikely]]
      return false;
    return (size & kFlagInline) != 0 ? take_inline(*slot, size, deliver) : take_chunk(*slot, size, deliver);
  }

  // Its parts, for callers that compile them apart: the sample stays in registers. nullptr: no complete sample.
  [[gnu::always_inline]] const Slot* complete_slot(std::uint64_t& size) const {
    const std::uint64_t cursor = cursor_;
    const Slot& slot = memory_.ring[cursor & mask_];
    if (A::template load<At::kTakeStamp>(slot.stamp) != stamp_of(cursor)) [[unlikely]]
      return nullptr;
    size = A::template load<At::kTakeField>(slot.size);
    return &slot;
  }
  template <class Deliver>
  [[gnu::always_inline]] bool take_inline(const Slot& slot, std::uint64_t size, Deliver&& deliver) {
    Taken taken;
    read_fields(slot, cursor_, taken);
    if (!keep_inline(size, taken)) [[unlikely]]
      return false;
    advance(1);
    deliver(static_cast<const Taken&>(taken));
    return true;
  }
  template <class Deliver>
  [[gnu::always_inline]] bool take_chunk(const Slot& slot, std::uint64_t size, Deliver&& deliver) {
    Taken taken;
    read_fields(slot, cursor_, taken);
    if (!keep_chunk(size, taken)) [[unlikely]]
      return false;
    advance(1);
    deliver(static_cast<const Taken&>(taken));
    return true;
  }

  // Nothing new on a lane that goes on. False: something is there, perhaps an end.
  [[gnu::always_inline]] bool nothing_yet() const {
    return A::template load<At::kTakeStamp>(memory_.ring[cursor_ & mask_].stamp) < stamp_of(cursor_) &&
           A::template load<At::kTakeState>(*state_) == static_cast<std::uint64_t>(LaneState::kOpen);
  }

  // Takes up to taken.size() samples under one fence; `count` says how many. kSample if at least one.
  Take take_batch(std::span<Taken> taken, std::size_t& count) {
    count = 0;
    bool chunks = false;
    while (count < taken.size() && peek(taken[count], count)) {
      if (taken[count].chunk != kNoChunk) chunks = true;
      ++count;
    }
    if (count == 0) {
      const Take one = take(taken[0]);
      count = one == Take::kSample ? 1 : 0;
      return one;
    }
    return keep_batch(taken, count, chunks);
  }

  // Of the last take that gave no sample; what its Taken says, too.
  const Told& told() const { return told_; }

  // Would the next take pin a chunk? Moves nothing.
  bool next_pins() const {
    std::uint64_t size = 0;
    return complete_slot(size) != nullptr && (size & kFlagInline) == 0;
  }

  // Is there something to take, or an end to report? Moves nothing.
  bool ready() const { return !nothing_yet(); }

  // Gives a chunk back, from any thread. Row 4: pairs with the acquire load of the pins in LaneWriter::scan_pins().
  // If we die here, the broker takes our entry off the roster, and with it all our pins.
  void release(std::uint32_t chunk) {
    if (drop_use(chunk)) A::template store<At::kReleasePin>(pins_[chunk], std::uint8_t{0});
  }

  // Row 14: after every store that makes room. 0, or 1 + the bell on which the publisher waits.
  std::uint64_t writer_waits() const {
    A::template light_fence<At::kMadeRoomBarrier>(full_fences());
    return A::template load<At::kMadeRoomWaits>(memory_.header->waits);
  }

  bool full_fences() const {
    return memory_.full_fences || (A::template load<At::kScanRoster>(memory_.block->flags) & kRosterFullFences) != 0;
  }

 private:
  Take tell(Take result, Taken& taken) const {
    taken.position = told_.position;
    taken.missed = told_.missed;
    taken.turned = told_.turned;
    taken.chunk = kNoChunk;
    return result;
  }

  // take_ready() found nothing that it could deliver.
  [[gnu::noinline]] Take look_closer(Taken& taken) {
    const std::uint64_t stamp = A::template load<At::kTakeStamp>(memory_.ring[cursor_ & mask_].stamp);
    if (stamp != stamp_of(cursor_)) {
      if (const Take result = missing(stamp); result != Take::kSample) return tell(result, taken);
    }
    // It came just now, or it is there and was refused.
    if (take_ready([&](const Taken& sample) { taken = sample; })) return Take::kSample;
    return tell(refused(), taken);
  }

  [[gnu::always_inline]] static void read_fields(const Slot& slot, std::uint64_t position, Taken& taken) {
    std::uint64_t tags = 0;
    load_two<A, At::kTakeField>(slot.tags, slot.time, tags, taken.time);
    load_two<A, At::kTakeField>(slot.words[0], slot.words[1], taken.words[0], taken.words[1]);
    load_two<A, At::kTakeField>(slot.words[2], slot.words[3], taken.words[2], taken.words[3]);
    taken.attribute_bytes = static_cast<std::uint32_t>(tags);
    taken.type = static_cast<std::uint32_t>(tags >> 32);
    taken.position = position;
    taken.missed = 0;
    taken.turned = false;
  }

  // Is the inline sample whose fields were read ours?
  [[gnu::always_inline]] bool keep_inline(std::uint64_t size, Taken& taken) {
    // Rows 2 and 5. Pairs with the release fence between `floor` and the fields in LaneWriter::begin().
    A::template fence<At::kTakeFence>();
    if (lossless_ ? turned() : load_floor() > cursor_) [[unlikely]]
      return false;
    taken.payload_bytes = size & kSizeMask;
    taken.offset = 0;
    taken.chunk = kNoChunk;
    return inline_is_sound(size, taken);
  }

  // Pins the chunk whose fields were read, if it is ours.
  [[gnu::always_inline]] bool keep_chunk(std::uint64_t size, Taken& taken) {
    if (!chunk_is_sound(size, taken)) [[unlikely]]
      return false;
    add_use(taken.chunk);
    bool ours = false;
    if (lossless_) {
      A::template store<At::kTakePin>(pins_[taken.chunk], std::uint8_t{1});
      // Row 7. Pairs with the publisher's membarrier after it first saw the new mode.
      A::template light_fence<At::kTakeModeBarrier>(full_fences());
      ours = !turned();
    } else {
      // Row 3. Pairs with the full fence between `floor` and the pins in LaneWriter::reclaim().
      A::template store_full<At::kTakePin, At::kTakePinFence>(pins_[taken.chunk], std::uint8_t{1});
      ours = load_floor() <= cursor_;
    }
    if (!ours) [[unlikely]]
      unpin(taken.chunk);
    return ours;
  }

  // Row 18, first half: fields of the index-th sample from the cursor, pinned if it has a chunk. False: not there or
  // not sound; the single take says which.
  bool peek(Taken& taken, std::size_t index) {
    const std::uint64_t position = cursor_ + index;
    if (index >= memory_.ring_slots) return false;
    const Slot& slot = memory_.ring[position & mask_];
    if (A::template load<At::kTakeStamp>(slot.stamp) != stamp_of(position)) return false;
    const std::uint64_t size = A::template load<At::kTakeField>(slot.size);
    read_fields(slot, position, taken);
    taken.chunk = kNoChunk;
    if ((size & kFlagInline) != 0) {
      taken.payload_bytes = size & kSizeMask;
      taken.offset = 0;
      return inline_is_sound(size, taken);
    }
    if (!chunk_is_sound(size, taken)) {
      taken.chunk = kNoChunk;
      return false;
    }
    add_use(taken.chunk);
    A::template store<At::kTakePin>(pins_[taken.chunk], std::uint8_t{1});
    return true;
  }

  // Row 18, second half: one fence, one look at the floor. Pins are counted, so dropping one sample of the batch never
  // clears a byte that another one needs.
  Take keep_batch(std::span<Taken> taken, std::size_t& count, bool chunks) {
    bool lapped = false;
    if (lossless_) {
      A::template fence<At::kTakeFence>();
      A::template light_fence<At::kTakeModeBarrier>(full_fences());
      lapped = turned();
    } else {
      if (chunks)
        A::template fence<At::kTakePinFence>();
      else
        A::template fence<At::kTakeFence>();
      lapped = load_floor() > cursor_;
    }
    if (!lapped) [[likely]] {
      advance(count);
      return Take::kSample;
    }
    for (std::size_t i = 0; i < count; ++i)
      if (taken[i].chunk != kNoChunk) unpin(taken[i].chunk);
    count = 0;
    return tell(lossless_ ? turn() : jump(load_floor()), taken[0]);
  }

  bool inline_is_sound(std::uint64_t size, const Taken& taken) const {
    return (size & ~(kSizeMask | kFlagsKnown)) == 0 && (size & kSizeMask) <= kInlineBytesMax &&
           taken.attribute_bytes == 0;
  }

  // Checks what the slot says of its chunk, and says it in `taken`.
  [[gnu::always_inline]] bool chunk_is_sound(std::uint64_t size, Taken& taken) {
    const std::uint64_t chunk = taken.words[0];
    const std::uint64_t offset = taken.words[1];
    const std::uint64_t payload_bytes = size & kSizeMask;
    if ((size & ~kSizeMask) != 0 || chunk >= memory_.chunks_max || taken.attribute_bytes > kAttributeBytesMax)
      return false;
    if (offset % kPayloadAlign != 0 || offset < payload_offset_ || offset > kPayloadBytesMax) return false;
    // No overflow: both are below 2^48.
    const std::uint64_t end = offset + attributes_offset(payload_bytes) + taken.attribute_bytes;
    if (end > size_) {
      // Row 16: the valid size is loaded after the stamp and the fields.
      size_ = A::template load<At::kTakeSize>(memory_.block->size);
      if (end > size_) return false;
    }
    taken.chunk = static_cast<std::uint32_t>(chunk);
    taken.offset = offset;
    taken.payload_bytes = payload_bytes;
    return true;
  }

  // The stamp is right and the sample is not ours: we were turned or lapped, or the fields are wrong.
  Take refused() {
    A::template fence<At::kTakeFence>();
    if (lossless_) {
      if (turned()) return turn();
    } else if (const std::uint64_t floor = load_floor(); floor > cursor_) {
      return jump(floor);
    }
    return skip_corrupt();
  }

  // The slot at the cursor does not hold the position of the cursor. kSample: now it does.
  Take missing(std::uint64_t stamp) {
    told_ = {cursor_, 0, false};
    if (stamp < stamp_of(cursor_)) {
      const std::uint64_t state = A::template load<At::kTakeState>(*state_);
      if (state == static_cast<std::uint64_t>(LaneState::kOpen)) return Take::kEmpty;
      // Row 9: the state first, then the stamp once more.
      stamp = A::template load<At::kTakeStamp>(memory_.ring[cursor_ & mask_].stamp);
      if (stamp == stamp_of(cursor_)) return Take::kSample;
      if (stamp < stamp_of(cursor_))
        return state == static_cast<std::uint64_t>(LaneState::kFinished) ? Take::kFinished : Take::kAborted;
    }
    return lapped(stamp);
  }

  // Row 2b. The stamp is of a later position: it must be one of this slot.
  Take lapped(std::uint64_t stamp) {
    const std::uint64_t position = position_of(stamp);
    if (stamp % 2 != 0 || ((position ^ cursor_) & mask_) != 0) return impossible_stamp();
    if (lossless_) {
      if (turned()) return turn();
      // An honest publisher waits for a lossless reader.
      jump(position - mask_);
      return Take::kCorrupt;
    }
    const std::uint64_t head = A::template load<At::kJoinHead>(memory_.header->head);
    std::uint64_t target = std::max(position - mask_, load_floor());
    if (head >= memory_.ring_slots) target = std::max(target, head - memory_.ring_slots);
    return jump(target);
  }

  // Which position it is nobody can tell, so the cursor stays. A publisher that lives may put it right; one that has
  // ended will not: the lane is reported once, and then its end.
  Take impossible_stamp() {
    const std::uint64_t state = A::template load<At::kTakeState>(*state_);
    if (!reported_ || state == static_cast<std::uint64_t>(LaneState::kOpen)) {
      reported_ = true;
      return Take::kCorrupt;
    }
    return state == static_cast<std::uint64_t>(LaneState::kFinished) ? Take::kFinished : Take::kAborted;
  }

  // Forward to `target`, and counts what that skips. Nowhere, if no publisher can have got as far.
  Take jump(std::uint64_t target) {
    target = std::max(target, cursor_);
    told_ = {cursor_, 0, false};
    if (target > kPositionMax) [[unlikely]]
      return Take::kCorrupt;
    told_.missed = target - cursor_;
    missed_ += told_.missed;
    A::template store<At::kTakeCounter>(memory_.record->missed, missed_);
    advance(target - cursor_);
    return Take::kLapped;
  }

  // Row 7: the broker has made us drop-oldest. Told once, with what was missed by now.
  Take turn() {
    lossless_ = false;
    const Take result = jump(std::max(load_floor(), cursor_));
    told_.turned = true;
    return result;
  }

  // A slot that is complete and wrong: it is this position's, so the next one may be right.
  Take skip_corrupt() {
    told_ = {cursor_, 0, false};
    advance(1);
    return Take::kCorrupt;
  }

  bool turned() const { return (A::template load<At::kTakeMode>(*memory_.entry) & kEntryTurned) != 0; }
  std::uint64_t load_floor() const { return A::template load<At::kTakeFloor>(memory_.header->floor); }

  // Row 6: after the pin. Pairs with the acquire load in LaneWriter::scan_cursors(). If we die before it, the sample
  // counts as not taken; nobody else depends on it.
  void advance(std::uint64_t count) {
    cursor_ += count;
    A::template store<At::kTakeCursor>(memory_.record->cursor, cursor_);
  }

  std::uint64_t load_join_floor() const {
    return std::min(A::template load<At::kJoinFloor>(memory_.header->floor), kPositionMax);
  }
  void store_join_cursor() { A::template store<At::kJoinCursor>(memory_.record->cursor, cursor_); }

  void unpin(std::uint32_t chunk) {
    if (drop_use(chunk)) A::template store<At::kTakeUnpin>(pins_[chunk], std::uint8_t{0});
  }

  // Private to the process, not shared memory: relaxed, see the head of the file.
  void add_use(std::uint32_t chunk) {
    std::uint32_t& uses = memory_.uses[chunk];
    __atomic_store_n(&uses, __atomic_load_n(&uses, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
  }
  bool drop_use(std::uint32_t chunk) {
    std::uint32_t& uses = memory_.uses[chunk];
    const std::uint32_t left = __atomic_load_n(&uses, __ATOMIC_RELAXED);
    if (left > 1) {
      __atomic_store_n(&uses, left - 1, __ATOMIC_RELAXED);
      return false;
    }
    __atomic_store_n(&uses, 0, __ATOMIC_RELAXED);
    return true;
  }

  LaneReaderMemory memory_;
  std::uint8_t* pins_;
  std::uint64_t mask_;
  const std::uint64_t* state_;  // in the header, until see_end() finds what the broker could not write there
  std::uint64_t payload_offset_;
  std::uint64_t cursor_ = 0;
  std::uint64_t missed_ = 0;
  std::uint64_t size_;
  bool lossless_;
  bool reported_ = false;  // a stamp of no position
  std::uint64_t end_ = 0;  // what state_ leads to when the roster says more than the lane
  Told told_{};
};

}  // namespace holdfast::shm
