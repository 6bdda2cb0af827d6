// SPDX-License-Identifier: MIT
//
// Every access to a shared word, by name.
//
// Each load, store, exchange and fence in proto/shm carries a site: a name, the row of the ordering rules that
// asks for it, and its memory order. The atomics policy (atomics.hpp) looks the order up here, so the table is
// the one place where an order is written down. Crash tests kill a process right after a chosen site, and
// tests/docs compares this table with the crash tables in docs/shm-layout.md.
//
// A site whose kind is a store or an exchange is a crash point: a survivor sees the memory as it is after it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace holdfast::shm {

enum class Order : std::uint8_t { kRelaxed, kAcquire, kRelease, kAcqRel, kSeqCst };
enum class Access : std::uint8_t { kLoad, kStore, kExchange, kFence };

enum class At : std::uint8_t {
  // Publisher, slots.
  kPublishFloor,
  kPublishFloorBarrier,
  kScanRoster,
  kScanCursor,
  kPublishFence,
  kPublishField,
  kPublishStamp,
  kPublishHead,
  kPublishBoardBarrier,
  kPublishBoard,
  // Publisher, chunks.
  kReclaimFloor,
  kReclaimFence,
  kReclaimPin,
  kFinishState,
  // Publisher, waiting for room.
  kRoomArm,
  kRoomWaits,
  kRoomFloor,
  kRoomFence,
  kRoomWaitsClear,
  kRoomDisarm,
  // Whoever rings.
  kRingBoard,
  kRingArmed,
  kRingPost,
  kRingDisarm,
  // Subscriber, take.
  kTakeState,
  kTakeStamp,
  kTakeField,
  kTakeFence,
  kTakePin,
  kTakePinFence,
  kTakeFloor,
  kTakeMode,
  kTakeModeBarrier,
  kTakeCursor,
  kTakeUnpin,
  kTakeSize,
  kReleasePin,
  kMadeRoomBarrier,
  kMadeRoomWaits,
  kTakeCounter,
  // Subscriber, joining and leaving a lane.
  kJoinHead,
  kJoinCursor,
  kJoinFence,
  kJoinFloor,
  kLeaveCursor,
  // Subscriber, going to sleep.
  kSleepArm,
  kSleepBell,
  kSleepBoard,
  kSleepFence,
  kSleepTopic,
  kSleepDisarm,
  // Broker.
  kSegmentMagic,
  kRosterEntry,
  kRosterSize,
  kRosterFlags,
  kRosterNext,
  kRosterChanges,
  kRecordZero,
  kLaneAbort,
  kObserve,
  kCount,
};

struct Site {
  At at;
  const char* name;
  const char* row;  // of the ordering rules
  Order order;
  Access access;
};

inline constexpr Site kSites[] = {
    {At::kPublishFloor, "publish.floor", "2a", Order::kRelaxed, Access::kStore},
    {At::kPublishFloorBarrier, "publish.floor_barrier", "6b", Order::kSeqCst, Access::kFence},
    {At::kScanRoster, "scan.roster", "3", Order::kAcquire, Access::kLoad},
    {At::kScanCursor, "scan.cursor", "6", Order::kAcquire, Access::kLoad},
    {At::kPublishFence, "publish.fence", "2", Order::kRelease, Access::kFence},
    {At::kPublishField, "publish.field", "5", Order::kRelaxed, Access::kStore},
    {At::kPublishStamp, "publish.stamp", "1", Order::kRelease, Access::kStore},
    {At::kPublishHead, "publish.head", "18", Order::kRelease, Access::kStore},
    {At::kPublishBoardBarrier, "publish.board_barrier", "8", Order::kSeqCst, Access::kFence},
    {At::kPublishBoard, "publish.board", "8", Order::kAcquire, Access::kLoad},
    {At::kReclaimFloor, "reclaim.floor", "3", Order::kRelaxed, Access::kStore},
    {At::kReclaimFence, "reclaim.fence", "3", Order::kSeqCst, Access::kFence},
    {At::kReclaimPin, "reclaim.pin", "4", Order::kAcquire, Access::kLoad},
    {At::kFinishState, "finish.state", "9", Order::kRelease, Access::kStore},
    {At::kRoomArm, "room.arm", "14", Order::kRelaxed, Access::kStore},
    {At::kRoomWaits, "room.waits", "14", Order::kRelease, Access::kStore},
    {At::kRoomFloor, "room.floor", "14", Order::kRelaxed, Access::kStore},
    {At::kRoomFence, "room.fence", "14", Order::kSeqCst, Access::kFence},
    {At::kRoomWaitsClear, "room.waits_clear", "14", Order::kRelaxed, Access::kStore},
    {At::kRoomDisarm, "room.disarm", "14", Order::kAcqRel, Access::kExchange},
    {At::kRingBoard, "ring.board", "8", Order::kAcqRel, Access::kExchange},
    {At::kRingArmed, "ring.armed", "8", Order::kRelaxed, Access::kLoad},
    {At::kRingPost, "ring.post", "8", Order::kAcqRel, Access::kExchange},
    {At::kRingDisarm, "ring.disarm", "8", Order::kAcqRel, Access::kExchange},
    {At::kTakeState, "take.state", "9", Order::kAcquire, Access::kLoad},
    {At::kTakeStamp, "take.stamp", "1", Order::kAcquire, Access::kLoad},
    {At::kTakeField, "take.field", "5", Order::kRelaxed, Access::kLoad},
    {At::kTakeFence, "take.fence", "2", Order::kAcquire, Access::kFence},
    {At::kTakePin, "take.pin", "3", Order::kRelaxed, Access::kStore},
    {At::kTakePinFence, "take.pin_fence", "3", Order::kSeqCst, Access::kFence},
    {At::kTakeFloor, "take.floor", "2", Order::kAcquire, Access::kLoad},
    {At::kTakeMode, "take.mode", "7", Order::kAcquire, Access::kLoad},
    {At::kTakeModeBarrier, "take.mode_barrier", "7", Order::kSeqCst, Access::kFence},
    {At::kTakeCursor, "take.cursor", "6", Order::kRelease, Access::kStore},
    {At::kTakeUnpin, "take.unpin", "3", Order::kRelease, Access::kStore},
    {At::kTakeSize, "take.size", "16", Order::kAcquire, Access::kLoad},
    {At::kReleasePin, "release.pin", "4", Order::kRelease, Access::kStore},
    {At::kMadeRoomBarrier, "made_room.barrier", "14", Order::kSeqCst, Access::kFence},
    {At::kMadeRoomWaits, "made_room.waits", "14", Order::kAcquire, Access::kLoad},
    {At::kTakeCounter, "take.counter", "-", Order::kRelaxed, Access::kStore},
    {At::kJoinHead, "join.head", "6a", Order::kAcquire, Access::kLoad},
    {At::kJoinCursor, "join.cursor", "6a", Order::kRelease, Access::kStore},
    {At::kJoinFence, "join.fence", "6a", Order::kSeqCst, Access::kFence},
    {At::kJoinFloor, "join.floor", "6a", Order::kAcquire, Access::kLoad},
    {At::kLeaveCursor, "leave.cursor", "6", Order::kRelease, Access::kStore},
    {At::kSleepArm, "sleep.arm", "8", Order::kRelaxed, Access::kStore},
    {At::kSleepBell, "sleep.bell", "8", Order::kRelaxed, Access::kStore},
    {At::kSleepBoard, "sleep.board", "8", Order::kAcqRel, Access::kExchange},
    {At::kSleepFence, "sleep.fence", "8", Order::kSeqCst, Access::kFence},
    {At::kSleepTopic, "sleep.topic", "8", Order::kAcquire, Access::kLoad},
    {At::kSleepDisarm, "sleep.disarm", "8", Order::kAcqRel, Access::kExchange},
    {At::kSegmentMagic, "segment.magic", "-", Order::kRelease, Access::kStore},
    {At::kRosterEntry, "roster.entry", "11", Order::kRelease, Access::kStore},
    {At::kRosterSize, "roster.size", "16", Order::kRelease, Access::kStore},
    {At::kRosterFlags, "roster.flags", "8a", Order::kRelease, Access::kStore},
    {At::kRosterNext, "roster.next", "11", Order::kRelease, Access::kStore},
    {At::kRosterChanges, "roster.changes", "8c", Order::kRelease, Access::kStore},
    {At::kRecordZero, "record.zero", "11a", Order::kRelease, Access::kStore},
    {At::kLaneAbort, "lane.abort", "15b", Order::kAcqRel, Access::kExchange},
    {At::kObserve, "observe", "-", Order::kRelaxed, Access::kLoad},
};

inline constexpr std::size_t kSiteCount = static_cast<std::size_t>(At::kCount);

constexpr const Site& site(At at) { return kSites[static_cast<std::size_t>(at)]; }

namespace detail {
constexpr bool sites_in_order() {
  for (std::size_t i = 0; i < kSiteCount; ++i)
    if (kSites[i].at != static_cast<At>(i)) return false;
  return true;
}
}  // namespace detail
static_assert(sizeof(kSites) / sizeof(kSites[0]) == kSiteCount);
static_assert(detail::sites_in_order());

}  // namespace holdfast::shm
