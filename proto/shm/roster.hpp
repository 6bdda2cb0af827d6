// SPDX-License-Identifier: MIT
//
// Reading and writing the roster. The broker writes, clients read; each entry appears and disappears in one store.
//
// Order of a join (row 11): record initialised → entry, release → `changes`, release → reply. Of a leave (row 11a):
// entry 0, release → record zeroed → the record may be given again. A broker that dies between two of these stores
// leaves an entry whose record is valid, or a record that nobody names.
#pragma once

#include <cstdint>

#include "proto/shm/roster_layout.hpp"
#include "proto/shm/session_layout.hpp"

namespace holdfast::shm {

// The block at `offset`, or nullptr if it does not lie whole within what the broker says is valid. Clients use it for
// every offset that they get, so that a wrong one is an error and no signal.
template <class A>
const RosterBlock* roster_block(const RosterHeader& roster, std::uint64_t offset) {
  const std::uint64_t valid = A::template load<At::kScanRoster>(roster.valid_bytes);
  if (offset < sizeof(RosterHeader) || offset % sizeof(RosterBlock) != 0 || offset > valid ||
      valid - offset < sizeof(RosterBlock) || offset > kRosterReserve - sizeof(RosterBlock))
    return nullptr;
  return reinterpret_cast<const RosterBlock*>(reinterpret_cast<const std::uint8_t*>(&roster) + offset);
}

// Calls visit(index, place) for every place of a lane's chain and returns the last block's `next` word.
// Stops at a chain longer than kReadersMax, which no honest broker makes.
template <class A, class Visit>
const std::uint64_t* walk_roster(const RosterHeader& roster, const RosterBlock& first, Visit&& visit) {
  const RosterBlock* block = &first;
  std::uint32_t index = 0;
  while (true) {
    for (const std::uint64_t& entry : block->entries) visit(index++, entry);
    const std::uint64_t next = A::template load<At::kScanRoster>(block->next);
    if (next == 0 || index >= kReadersMax) return &block->next;
    const RosterBlock* following = roster_block<A>(roster, next);
    if (following == nullptr) return &block->next;
    block = following;
  }
}

// The place of entry `index` in a lane's chain, or nullptr.
template <class A>
const std::uint64_t* roster_entry(const RosterHeader& roster, const RosterBlock& first, std::uint32_t index) {
  const std::uint64_t* found = nullptr;
  walk_roster<A>(roster, first, [&](std::uint32_t at, const std::uint64_t& place) {
    if (at == index) found = &place;
  });
  return found;
}

// The broker's stores.
template <class A>
void store_entry(RosterBlock& block, std::uint32_t place, std::uint64_t entry) {
  A::template store<At::kRosterEntry>(block.entries[place], entry);
}
template <class A>
void store_size(RosterBlock& block, std::uint64_t bytes) {
  A::template store<At::kRosterSize>(block.size, bytes);
}
template <class A>
void store_flags(RosterBlock& block, std::uint64_t flags) {
  A::template store<At::kRosterFlags>(block.flags, flags);
}
template <class A>
void store_next(RosterBlock& block, std::uint64_t offset) {
  A::template store<At::kRosterNext>(block.next, offset);
}
template <class A>
void bump_changes(RosterBlock& block) {
  A::template store<At::kRosterChanges>(block.changes, A::template load<At::kObserve>(block.changes) + 1);
}

// Row 11 and 11a: a record before it is given, and after it left the roster. `cursor`: 0 for a lane that is new to its
// reader, kCursorNone for one that the reader joins by itself.
template <class A>
void reset_record(ReaderRecord& record, std::uint32_t chunks_max, std::uint64_t cursor) {
  for (std::uint32_t i = 0; i < round_up(chunks_max, kLine); ++i)
    A::template store<At::kRecordZero>(record.pins[i], std::uint8_t{0});
  A::template store<At::kRecordZero>(record.joined, std::uint64_t{0});
  A::template store<At::kRecordZero>(record.missed, std::uint64_t{0});
  A::template store<At::kRecordZero>(record.bell, std::uint64_t{0});
  A::template store<At::kRecordZero>(record.cursor, cursor);
}

}  // namespace holdfast::shm
