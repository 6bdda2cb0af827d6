// SPDX-License-Identifier: MIT
#include "tests/model/mutants.hpp"

#include <algorithm>

namespace holdfast::model {

using shm::At;

namespace {

constexpr Memory kSequential = Memory::kSequential;
constexpr Memory kBuffers = Memory::kBuffers;
constexpr Memory kViews = Memory::kViews;

Entry relaxed(At at, Memory memory, const char* scenario) { return {{at, Change::kRelaxed}, memory, scenario}; }
Entry without(At at, Change change, Memory memory, const char* scenario) { return {{at, change}, memory, scenario}; }
Entry late(At at, At until, Memory memory, const char* scenario) {
  return {{at, Change::kLate, until}, memory, scenario};
}
Entry explained(At at, Change change, const char* reason) { return {{at, change}, kViews, nullptr, reason}; }

// Why a relaxed order may go unnoticed, where several share the reason.
constexpr const char* kTicket =
    "the ticket alone decides, one word; what a wake-up has to see comes with the semaphore's token";
constexpr const char* kHint =
    "a hint: where a reader begins; stamps and the floor after the fence decide what it takes";
constexpr const char* kBrokerFences =
    "the broker's heavy fence comes between this store and its reply (row 8c), and the publisher's between its load "
    "and "
    "the first use of the record (refresh)";

const Entry kMutants[] = {
    // ---- orders and fences, in the order of proto/shm/sites.hpp
    without(At::kPublishFloorBarrier, Change::kNoFence, kBuffers, "full-join"),
    without(At::kPublishFloorBarrier, Change::kNoLightFence, kBuffers, "inline-join"),
    explained(At::kScanRoster, Change::kRelaxed, kBrokerFences),
    relaxed(At::kScanCursor, kViews, "chunk-lossless"),
    without(At::kPublishFence, Change::kNoFence, kViews, "inline-dropping"),
    relaxed(At::kPublishStamp, kViews, "inline-dropping"),
    explained(At::kPublishHead, Change::kRelaxed, kHint),
    without(At::kPublishBoardBarrier, Change::kNoFence, kBuffers, "full-bells-open"),
    without(At::kPublishBoardBarrier, Change::kNoLightFence, kBuffers, "bells"),
    explained(At::kPublishBoard, Change::kRelaxed, "it only says whether to exchange the board, which acquires"),
    without(At::kReclaimFence, Change::kNoFence, kBuffers, "chunk-dropping"),
    without(At::kReclaimFence, Change::kNoHeavyFence, kBuffers, "one-chunk-turned"),
    without(At::kReclaimFence, Change::kOwnHeavyFence, kBuffers, "one-chunk-turned"),
    relaxed(At::kReclaimPin, kViews, "chunk-dropping"),
    relaxed(At::kFinishState, kViews, "finish"),
    explained(
        At::kRoomWaits, Change::kRelaxed,
        "a reader that sees `waits` and not yet `armed` looked before our heavy fence, so we see its room after it"),
    without(At::kRoomFence, Change::kNoHeavyFence, kBuffers, "room-inline"),
    without(At::kRoomFence, Change::kOwnHeavyFence, kBuffers, "room-inline"),
    explained(At::kRoomDisarm, Change::kRelaxed, kTicket),
    explained(At::kRoomDisarm, Change::kSplit, "only this thread arms the bell; whoever else stores, stores 0, too"),
    relaxed(At::kRingBoard, kViews, "full-bells"),
    without(At::kRingBoard, Change::kSplit, kSequential, "bells-two-by-two-late"),
    explained(At::kRingPost, Change::kRelaxed, "a step, not an access: sem_post and write() synchronise by themselves"),
    explained(At::kRingDisarm, Change::kRelaxed, kTicket),
    without(At::kRingDisarm, Change::kSplit, kSequential, "bells-two-lanes"),
    relaxed(At::kTakeState, kViews, "finish"),
    relaxed(At::kTakeStamp, kViews, "inline-dropping"),
    without(At::kTakeFence, Change::kNoFence, kViews, "inline-dropping"),
    without(At::kTakePinFence, Change::kNoFence, kBuffers, "chunk-dropping"),
    explained(At::kTakeFloor, Change::kRelaxed,
              "the number alone decides; a take that it refuses goes on from a stamp, which acquires"),
    explained(At::kTakeMode, Change::kRelaxed, "the mode alone decides; a turned reader goes on from floor and stamp"),
    without(At::kTakeModeBarrier, Change::kNoFence, kBuffers, "full-turned"),
    without(At::kTakeModeBarrier, Change::kNoLightFence, kBuffers, "one-chunk-turned"),
    relaxed(At::kTakeCursor, kViews, "chunk-lossless"),
    explained(At::kTakeUnpin, Change::kRelaxed, "the take was refused: no payload was read under this pin"),
    explained(At::kTakeSize, Change::kRelaxed,
              "size, reply, stamp (release), stamp (acquire), size: the chain of row 16 orders it already"),
    relaxed(At::kReleasePin, kViews, "chunk-dropping"),
    without(At::kMadeRoomBarrier, Change::kNoFence, kBuffers, "full-room"),
    without(At::kMadeRoomBarrier, Change::kNoLightFence, kBuffers, "room-chunk"),
    explained(At::kMadeRoomWaits, Change::kRelaxed, "as room.waits"),
    explained(At::kJoinHead, Change::kRelaxed, kHint),
    explained(At::kJoinCursor, Change::kRelaxed,
              "the heavy fence after it shows it to every scan that matters (row 6a)"),
    without(At::kJoinFence, Change::kNoHeavyFence, kBuffers, "chunk-join"),
    without(At::kJoinFence, Change::kOwnHeavyFence, kBuffers, "inline-join"),
    explained(At::kJoinFloor, Change::kRelaxed, "the number alone decides, after the fence"),
    relaxed(At::kLeaveCursor, kViews, "grow"),
    relaxed(At::kSleepBoard, kViews, "full-bells"),
    without(At::kSleepBoard, Change::kSplit, kSequential, "bells-two-by-two"),
    without(At::kSleepFence, Change::kNoHeavyFence, kBuffers, "bells"),
    without(At::kSleepFence, Change::kOwnHeavyFence, kBuffers, "bells"),
    explained(At::kSleepTopic, Change::kRelaxed, "a number to compare; the lanes themselves come in a message"),
    explained(At::kSleepDisarm, Change::kRelaxed, kTicket),
    explained(At::kSleepDisarm, Change::kSplit, "only this thread arms the bell; whoever else stores, stores 0, too"),
    explained(At::kSegmentMagic, Change::kRelaxed,
              "a segment's descriptor reaches others in a message that is sent after this store"),
    explained(At::kRosterEntry, Change::kRelaxed, kBrokerFences),
    explained(At::kRosterSize, Change::kRelaxed, "the reply that follows orders it (row 16)"),
    explained(At::kRosterFlags, Change::kRelaxed, kBrokerFences),
    explained(At::kRosterNext, Change::kRelaxed, kBrokerFences),
    explained(At::kRosterChanges, Change::kRelaxed, kBrokerFences),
    relaxed(At::kRecordZero, kViews, "room-deaths"),
    explained(At::kLaneAbort, Change::kRelaxed,
              "of the dead: the kernel's word orders it, and readers read the stamp after"),
    explained(At::kLaneAbort, Change::kSplit, "of the dead: nobody else stores then"),

    // ---- the order of the steps, which goes wrong on every machine
    late(At::kPublishField, At::kPublishHead, kSequential, "inline-dropping"),
    late(At::kPublishFloor, At::kPublishStamp, kSequential, "inline-dropping"),
    late(At::kPublishFloor, At::kScanCursor, kSequential, "inline-join"),
    late(At::kPublishStamp, At::kFinishState, kSequential, "finish"),
    late(At::kPublishStamp, At::kPublishBoard, kSequential, "bells"),
    late(At::kReclaimFloor, At::kReclaimPin, kSequential, "room-dropping"),
    late(At::kTakePin, At::kTakeFloor, kSequential, "chunk-dropping"),
    late(At::kTakePin, At::kTakeCursor, kSequential, "chunk-lossless"),
    late(At::kJoinCursor, At::kJoinFloor, kSequential, "inline-join"),
    late(At::kTakeCursor, At::kMadeRoomWaits, kSequential, "room-inline"),
    late(At::kReleasePin, At::kMadeRoomWaits, kSequential, "room-chunk"),
    late(At::kRoomWaits, At::kScanCursor, kSequential, "room-inline"),
    late(At::kRoomArm, At::kScanCursor, kSequential, "room-inline"),
    late(At::kSleepArm, At::kTakeStamp, kSequential, "bells"),
    late(At::kSleepBoard, At::kTakeStamp, kSequential, "bells"),
    // A sleeper comes to its fence in time. A publisher never comes there: who it could not ring is not put back.
    late(At::kSleepBoard, At::kSleepFence, kSequential, "bells-skipped"),
    late(At::kSleepBell, At::kTakeStamp, kSequential, "bells"),
    late(At::kRingBoard, At::kRingDisarm, kSequential, "bells-two-by-two-late"),
    late(At::kRingPost, At::kRingDisarm, kSequential, "bells-stops"),
    late(At::kFinishState, At::kCount, kSequential, "bells-two-lanes"),
    late(At::kTakeUnpin, At::kCount, kSequential, "room-dropping"),
    late(At::kRecordZero, At::kCount, kSequential, "again-deaths"),
    late(At::kRosterChanges, At::kCount, kSequential, "bells-late-lane"),
    late(At::kRosterEntry, At::kCount, kSequential, "inline-join"),
    late(At::kRosterEntry, At::kRingArmed, kSequential, "room-turned"),
    late(At::kRosterSize, At::kCount, kSequential, "grow"),
    late(At::kRosterNext, At::kCount, kSequential, "roster-chain"),
    late(At::kRosterFlags, At::kCount, kBuffers, "lacking-join"),
};

const char* word_of(Change change) {
  switch (change) {
    case Change::kNone:
      return "unchanged";
    case Change::kRelaxed:
      return "relaxed";
    case Change::kNoFence:
      return "no fence";
    case Change::kNoLightFence:
      return "no compiler barrier";
    case Change::kNoHeavyFence:
      return "no fence, no membarrier";
    case Change::kOwnHeavyFence:
      return "a fence for the membarrier";
    case Change::kSplit:
      return "load and store";
    case Change::kLate:
      return "late";
    case Change::kCount:
      break;
  }
  return "";
}

}  // namespace

std::span<const Entry> mutants() { return kMutants; }

std::string name_of(const Mutant& mutant) {
  std::string name = std::string(shm::site(mutant.at).name) + "/" + word_of(mutant.change);
  if (mutant.change != Change::kLate) return name;
  return name + (mutant.until == At::kCount ? " until the end" : std::string(" until ") + shm::site(mutant.until).name);
}

const Entry* find_mutant(const std::string& name) {
  const auto at = std::find_if(std::begin(kMutants), std::end(kMutants),
                               [&](const Entry& entry) { return name_of(entry.mutant) == name; });
  return at == std::end(kMutants) ? nullptr : &*at;
}

bool has_entry(At at, Change change) {
  return std::any_of(std::begin(kMutants), std::end(kMutants),
                     [=](const Entry& entry) { return entry.mutant.at == at && entry.mutant.change == change; });
}

}  // namespace holdfast::model
