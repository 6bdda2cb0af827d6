// SPDX-License-Identifier: MIT
//
// The publisher's side of a lane, one thread, states built by hand: room in the ring, stamps, head and board, reclaim
// against floor, cursors, pins and a roster that changes, and waiting for room.
#include "proto/shm/lane_writer.hpp"

#include <algorithm>
#include <set>

#include <gtest/gtest.h>

#include "tests/proto/shm/hook_atomics.hpp"
#include "tests/proto/shm/lane_fixture.hpp"

namespace holdfast::shm {
namespace {

using Sites = std::vector<At>;

// ---- room in the ring ---------------------------------------------------------------------------------------------

TEST(LaneRing, NeverFillsWithoutReaders) {
  TestLane lane;
  TestWriter<> writer(lane);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(writer.publish_inline());
  EXPECT_EQ(writer->position(), 100u);
}

TEST(LaneRing, NeverFillsForDropOldestReaders) {
  TestLane lane;
  auto reader = fresh_reader(lane, false);
  TestWriter<> writer(lane);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(writer.publish_chunk());
}

TEST(LaneRing, IsFullForALosslessReaderThatTakesNothing) {
  TestLane lane;
  auto reader = fresh_reader(lane, true);
  TestWriter<> writer(lane);
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(writer.publish_inline());
  EXPECT_EQ(writer.room(1), Room::kFull);
  EXPECT_EQ(writer->available(), 0u);
  Taken taken;
  ASSERT_EQ((*reader)->take(taken), Take::kSample);
  EXPECT_EQ(writer.room(2), Room::kFull);
  EXPECT_EQ(writer->available(), 1u);
  EXPECT_EQ(writer.room(1), Room::kOk);
  EXPECT_TRUE(writer.publish_inline());
  EXPECT_EQ(writer.room(1), Room::kFull);
}

TEST(LaneRing, WaitsForTheSlowestOfSeveralLosslessReaders) {
  TestLane lane;
  auto slow = fresh_reader(lane, true);
  auto fast = fresh_reader(lane, true);
  TestWriter<> writer(lane);
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(writer.publish_inline());
  EXPECT_EQ(drain(*fast).taken, 8u);
  EXPECT_EQ(writer.room(1), Room::kFull);
  std::size_t place = 99;
  std::uint64_t cursor = 99;
  ASSERT_TRUE(writer->slowest(place, cursor));
  EXPECT_EQ(place, slow->seat().index);
  EXPECT_EQ(cursor, 0u);
  drain(*slow);
  EXPECT_EQ(writer.room(8), Room::kOk);
}

TEST(LaneRing, NobodyIsSlowestWithoutLosslessReaders) {
  TestLane lane;
  auto drop_oldest = fresh_reader(lane, false);
  TestReader<> not_joined(lane, lane.seat(kEntryLossless), true);
  auto turned = fresh_reader(lane, true);
  lane.turn(turned->seat());
  TestWriter<> writer(lane);
  std::size_t place = 0;
  std::uint64_t cursor = 0;
  EXPECT_FALSE(writer->slowest(place, cursor));
}

TEST(LaneRing, HasRoomForAWholeRingAtOnce) {
  TestLane lane;
  auto reader = fresh_reader(lane, true);
  TestWriter<> writer(lane);
  for (int lap = 0; lap < 5; ++lap) {
    ASSERT_TRUE(writer.publish_batch(8));
    EXPECT_EQ(writer.room(1), Room::kFull);
    const Drained drained = drain(*reader);
    EXPECT_EQ(drained.taken, 8u);
    EXPECT_EQ(drained.torn, 0u);
  }
}

TEST(LaneRing, TheFloorRisesAQuarterOfTheRingAtATime) {
  TestLane lane({.ring_slots = 64});
  TestWriter<> writer(lane);
  std::set<std::uint64_t> floors;
  for (int i = 0; i < 64 * 10; ++i) {
    ASSERT_TRUE(writer.publish_inline());
    floors.insert(lane.header().floor);
  }
  EXPECT_LE(floors.size(), 10u * 4 + 1);
  std::uint64_t before = 0;
  for (const std::uint64_t floor : floors) {
    EXPECT_LE(floor - before, 64u / 4 + 1);
    before = floor;
  }
  EXPECT_EQ(lane.header().floor, writer->floor());
}

// Row 2a, at every single field that is written: the slot's old position is below the floor that readers see, and every
// lossless cursor is beyond it.
TEST(LaneRing, NoSlotIsRewrittenBeforeFloorAndCursorsHavePassedIt) {
  TestLane lane;
  auto reader = fresh_reader(lane, true);
  TestWriter<HookAtomics> writer(lane);
  std::uint64_t checked = 0;
  HookAtomics::before = [&](At at) {
    if (at != At::kPublishField || writer->position() < 8) return;
    ++checked;
    EXPECT_GT(lane.header().floor + 8, writer->position());
    EXPECT_GT(lane.record(reader->seat()).cursor + 8, writer->position());
  };
  for (std::uint64_t i = 0; i < 200; ++i) {
    while (writer.publish_mixed()) {
    }
    Taken taken;
    for (std::uint64_t n = i % 5; n > 0 && (*reader)->take(taken) == Take::kSample; --n) reader->release(taken);
  }
  HookAtomics::before = nullptr;
  EXPECT_GT(checked, 1000u);
}

// A reader that is known and has no cursor yet may join at the floor at any moment: it is looked at in every scan.
TEST(LaneRing, AReaderThatIsAboutToJoinIsNotPassed) {
  TestLane lane;
  TestReader<> reader(lane, lane.seat(kEntryLossless), true);
  TestWriter<> writer(lane);
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(writer.publish_inline());
  reader->join(Start::kOldest);
  while (writer.publish_inline()) {
  }
  EXPECT_LE(writer->position(), reader->cursor() + 8);
  const Drained drained = drain(reader);
  EXPECT_EQ(drained.corrupt + drained.missed + drained.torn, 0u);
  EXPECT_EQ(reader->cursor(), writer->position());
}

// A reader in the place of another, with the same entry: only the counter tells.
TEST(LaneRing, AReaderThatCameBackWithTheSameEntryIsNotPassed) {
  TestLane lane;
  auto before = fresh_reader(lane, true);
  TestWriter<> writer(lane);
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(writer.publish_inline());
    drain(*before);
  }
  const std::uint64_t entry = *before->seat().place;
  lane.unseat(before->seat());
  lane.seat_again(before->seat(), kEntryLossless);
  ASSERT_EQ(*before->seat().place, entry);
  TestReader<> reader(lane, before->seat(), true);
  reader->join(Start::kOldest);
  while (writer.publish_inline()) {
  }
  const Drained drained = drain(reader);
  EXPECT_EQ(drained.corrupt + drained.missed + drained.torn, 0u);
  EXPECT_EQ(reader->cursor(), writer->position());
}

TEST(LaneRing, TheCursorsOfReadersThatKeepUpAreReadLessOftenThanTheFloorRises) {
  TestLane lane({.ring_slots = 64});
  auto reader = fresh_reader(lane, true);
  TestWriter<HookAtomics> writer(lane);
  const Trace trace;
  for (int i = 0; i < 64 * 20; ++i) {
    ASSERT_TRUE(writer.publish_inline());
    drain(*reader);
  }
  EXPECT_LE(trace.count(At::kScanCursor), 25u);
  EXPECT_GE(trace.count(At::kPublishFloor), 70u);
}

TEST(LaneRing, ATurnedReaderHoldsNobodyBack) {
  TestLane lane;
  auto reader = fresh_reader(lane, true);
  TestWriter<> writer(lane);
  while (writer.publish_inline()) {
  }
  lane.turn(reader->seat());
  EXPECT_EQ(writer->room(1), Room::kRosterChanged);
  EXPECT_EQ(writer.room(1), Room::kOk);
}

// ---- publishing ---------------------------------------------------------------------------------------------------

TEST(LanePublish, CountsInTheHeader) {
  TestLane lane;
  TestWriter<> writer(lane);
  ASSERT_TRUE(writer.publish_inline());
  ASSERT_TRUE(writer.publish_chunk());
  EXPECT_EQ(lane.header().head, 2u);
  EXPECT_EQ(lane.header().payload_bytes, kInlineBytesMax + lane.shape().chunk_bytes);
  writer->count_full();
  writer->count_exhausted();
  writer->count_exhausted();
  EXPECT_EQ(lane.header().full, 1u);
  EXPECT_EQ(lane.header().exhausted, 2u);
}

TEST(LanePublish, StampsAreAscendingThenHeadThenTheBoard) {
  TestLane lane;
  TestWriter<HookAtomics> writer(lane);
  ASSERT_EQ(writer.room(3), Room::kOk);
  writer->begin();
  for (std::uint64_t i = 0; i < 3; ++i) writer.fill_inline(i);
  std::vector<std::uint64_t> stamped;
  Sites sites;
  HookAtomics::after = [&](At at) {
    sites.push_back(at);
    if (at != At::kPublishStamp) return;
    for (std::uint64_t position = stamped.size(); position < 3; ++position)
      if (lane.slot(position).stamp == stamp_of(position)) stamped.push_back(position);
    EXPECT_EQ(lane.header().head, 0u);
  };
  writer->commit(3, 96);
  HookAtomics::after = nullptr;
  EXPECT_EQ(stamped, (std::vector<std::uint64_t>{0, 1, 2}));
  std::erase(sites, At::kScanRoster);
  EXPECT_EQ(sites, (Sites{At::kPublishStamp, At::kPublishStamp, At::kPublishStamp, At::kPublishHead, At::kTakeCounter,
                          At::kPublishBoardBarrier, At::kPublishBoard}));
}

TEST(LanePublish, ASlotBeingRewrittenIsNeverMarked) {
  TestLane lane;
  TestWriter<HookAtomics> writer(lane);
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(writer.publish_inline());
  ASSERT_EQ(writer.room(1), Room::kOk);
  writer->begin();
  writer.fill_inline(0);
  EXPECT_EQ(lane.slot(8).stamp, stamp_of(0));  // row 13: the older stamp stays, and `floor` is the seqlock
  writer->commit(1, 32);
  EXPECT_EQ(lane.slot(8).stamp, stamp_of(8));
}

TEST(LanePublish, SaysWhetherSomebodySleeps) {
  TestLane lane;
  TestWriter<> writer(lane);
  ASSERT_TRUE(writer.publish_inline());
  EXPECT_FALSE(writer.sleepers());
  std::uint64_t record_bell = 0;
  announce_sleep<NativeAtomics>(lane.board(), record_bell, 3, 1);
  ASSERT_TRUE(writer.publish_inline());
  EXPECT_TRUE(writer.sleepers());
  EXPECT_EQ(writer->take_board(), 8u);
  EXPECT_EQ(lane.board().sleepers, 0u);
  ASSERT_TRUE(writer.publish_inline());
  EXPECT_FALSE(writer.sleepers());
}

// ---- reclaim ------------------------------------------------------------------------------------------------------

class Reclaim : public testing::Test {
 protected:
  void publish_chunks(std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) ASSERT_TRUE(writer_.publish_chunk());
  }

  TestLane lane_{LaneShape{.ring_slots = 16}};
  TestWriter<> writer_{lane_};
  Taken taken_;
};

TEST_F(Reclaim, FreesWhatIsBelowTheFloor) {
  publish_chunks(10);
  EXPECT_EQ(writer_->outstanding(), 10u);
  EXPECT_EQ(writer_.free_chunks(), 6u);
  EXPECT_EQ(writer_.reclaim(4), Room::kOk);
  EXPECT_EQ(writer_->floor(), 4u);
  EXPECT_EQ(lane_.header().floor, 4u);
  EXPECT_EQ(writer_.free_chunks(), 10u);
  EXPECT_EQ(writer_->outstanding(), 6u);
}

TEST_F(Reclaim, NeverRaisesTheFloorAboveThePositionNorLowersIt) {
  publish_chunks(3);
  EXPECT_EQ(writer_.reclaim(100), Room::kOk);
  EXPECT_EQ(writer_->floor(), 3u);
  EXPECT_EQ(writer_.reclaim(1), Room::kOk);
  EXPECT_EQ(writer_->floor(), 3u);
}

TEST_F(Reclaim, TheFloorThatKeepsTheNewestSkipsInlineSamples) {
  EXPECT_EQ(writer_->floor_keeping(0), 0u);
  publish_chunks(2);
  ASSERT_TRUE(writer_.publish_inline());
  publish_chunks(2);
  ASSERT_TRUE(writer_.publish_inline());
  EXPECT_EQ(writer_->floor_keeping(10), 0u);
  EXPECT_EQ(writer_->floor_keeping(4), 0u);
  EXPECT_EQ(writer_->floor_keeping(2), 2u);
  EXPECT_EQ(writer_->floor_keeping(1), 4u);
  EXPECT_EQ(writer_->floor_keeping(0), 5u);
}

TEST_F(Reclaim, APinnedChunkComesBackAfterItsRelease) {
  auto reader = fresh_reader(lane_, false);
  publish_chunks(2);
  ASSERT_EQ((*reader)->take(taken_), Take::kSample);
  EXPECT_EQ(writer_.reclaim(2), Room::kOk);
  EXPECT_EQ(writer_.free_chunks(), 15u);
  EXPECT_EQ(writer_.reclaim(2), Room::kOk);
  EXPECT_EQ(writer_.free_chunks(), 15u);
  (*reader)->release(taken_.chunk);
  EXPECT_EQ(writer_.reclaim(2), Room::kOk);
  EXPECT_EQ(writer_.free_chunks(), 16u);
}

TEST_F(Reclaim, AChunkPinnedByTwoReadersWaitsForBoth) {
  auto one = fresh_reader(lane_, false);
  auto two = fresh_reader(lane_, false);
  publish_chunks(1);
  Taken other;
  ASSERT_EQ((*one)->take(taken_), Take::kSample);
  ASSERT_EQ((*two)->take(other), Take::kSample);
  (*one)->release(taken_.chunk);
  EXPECT_EQ(writer_.reclaim(1), Room::kOk);
  EXPECT_EQ(writer_.free_chunks(), 15u);
  (*two)->release(other.chunk);
  EXPECT_EQ(writer_.reclaim(1), Room::kOk);
  EXPECT_EQ(writer_.free_chunks(), 16u);
}

TEST_F(Reclaim, PinsOfNeighboursAreNotConfused) {
  auto reader = fresh_reader(lane_, false);
  publish_chunks(16);
  for (std::uint32_t held = 0; held < 16; ++held) {
    std::memset(lane_.pins(reader->seat()), 0, 64);
    lane_.pins(reader->seat())[held] = 1;
    TestWriter<> fresh(lane_);
    while (fresh.free_chunks() > 0) ASSERT_TRUE(fresh.publish_chunk());
    EXPECT_EQ(fresh.reclaim(16), Room::kOk);
    EXPECT_EQ(fresh.free_chunks(), 15u) << held;
  }
}

TEST_F(Reclaim, ALosslessCursorHoldsItsChunksWhateverTheFloorIs) {
  auto reader = fresh_reader(lane_, true);
  publish_chunks(5);
  EXPECT_EQ(writer_.reclaim(5), Room::kOk);
  EXPECT_EQ(writer_->floor(), 5u);
  EXPECT_EQ(writer_.free_chunks(), 11u);
  ASSERT_EQ((*reader)->take(taken_), Take::kSample);
  reader->release(taken_);
  ASSERT_EQ((*reader)->take(taken_), Take::kSample);
  EXPECT_EQ(writer_.reclaim(5), Room::kOk);
  EXPECT_EQ(writer_.free_chunks(), 12u);  // one is taken and released, one is pinned
  reader->release(taken_);
  EXPECT_EQ(drain(*reader).torn, 0u);
  EXPECT_EQ(writer_.reclaim(5), Room::kOk);
  EXPECT_EQ(writer_.free_chunks(), 16u);
}

TEST_F(Reclaim, AlsoMakesRoomInTheRing) {
  auto reader = fresh_reader(lane_, true);
  publish_chunks(16);
  EXPECT_EQ(writer_->available(), 0u);
  drain(*reader);
  EXPECT_EQ(writer_.reclaim(10), Room::kOk);
  EXPECT_EQ(writer_->available(), 10u);
}

TEST_F(Reclaim, ARosterEntryThatCameIsNotOverlooked) {
  publish_chunks(3);
  auto reader = fresh_reader(lane_, false);
  ASSERT_EQ((*reader)->take(taken_), Take::kSample);
  const auto nothing = [](std::uint32_t) { FAIL() << "a chunk was freed by an old roster"; };
  EXPECT_EQ(writer_->reclaim(3, nothing), Room::kRosterChanged);
  EXPECT_EQ(writer_.reclaim(3), Room::kOk);
  EXPECT_EQ(writer_.free_chunks(), 15u);
}

TEST_F(Reclaim, ARosterEntryThatWentIsNoticed) {
  auto reader = fresh_reader(lane_, false);
  writer_.resolve();
  publish_chunks(3);
  ASSERT_EQ((*reader)->take(taken_), Take::kSample);
  NativeAtomics::store<At::kRosterEntry>(*reader->seat().place, std::uint64_t{0});
  EXPECT_EQ(writer_->room(17), Room::kRosterChanged);
  EXPECT_EQ(writer_.reclaim(3), Room::kOk);
  EXPECT_EQ(writer_.free_chunks(), 16u);  // its pins count no longer
}

TEST_F(Reclaim, AnotherReaderInTheSamePlaceIsNoticed) {
  auto reader = fresh_reader(lane_, false);
  writer_.resolve();
  publish_chunks(1);
  *reader->seat().place ^= std::uint64_t{1} << 32;  // another session
  EXPECT_EQ(writer_->reclaim(1, [](std::uint32_t) { FAIL(); }), Room::kRosterChanged);
}

TEST_F(Reclaim, ReadersInAFurtherBlockAreNoticed) {
  std::vector<std::unique_ptr<TestReader<>>> readers;
  for (std::uint32_t i = 0; i < kRosterEntries; ++i) readers.push_back(fresh_reader(lane_, false));
  writer_.resolve();
  publish_chunks(1);
  readers.push_back(fresh_reader(lane_, true));
  EXPECT_EQ(writer_->reclaim(1, [](std::uint32_t) { FAIL(); }), Room::kRosterChanged);
  EXPECT_EQ(writer_.reclaim(1), Room::kOk);
  EXPECT_EQ(writer_.free_chunks(), 15u);
  EXPECT_EQ(drain(*readers.back()).taken, 1u);
  EXPECT_EQ(writer_.reclaim(1), Room::kOk);
  EXPECT_EQ(writer_.free_chunks(), 16u);
}

TEST_F(Reclaim, ATurnedReadersPinsStillHold) {
  auto reader = fresh_reader(lane_, true);
  publish_chunks(4);
  ASSERT_EQ((*reader)->take(taken_), Take::kSample);
  lane_.turn(reader->seat());
  EXPECT_EQ(writer_.reclaim(4), Room::kOk);
  EXPECT_EQ(writer_.free_chunks(), 15u);
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(writer_.publish_chunk());
  EXPECT_TRUE(reader->intact(taken_));
}

TEST_F(Reclaim, SaysWhetherReadersOweIt) {
  auto lossless = fresh_reader(lane_, true);
  auto drop_oldest = fresh_reader(lane_, false);
  writer_.resolve();
  EXPECT_FALSE(writer_->owed());
  publish_chunks(2);
  EXPECT_TRUE(writer_->owed());
  EXPECT_FALSE(writer_->lossless_views());
  Taken other;
  ASSERT_EQ((*drop_oldest)->take(other), Take::kSample);
  EXPECT_FALSE(writer_->lossless_views());
  ASSERT_EQ((*lossless)->take(taken_), Take::kSample);
  EXPECT_TRUE(writer_->lossless_views());
  drain(*lossless);
  EXPECT_EQ(writer_.reclaim(2), Room::kOk);
  EXPECT_TRUE(writer_->owed());  // one chunk, two pins
  lossless->release(taken_);
  drop_oldest->release(other);
  EXPECT_FALSE(writer_->lossless_views());
  EXPECT_EQ(writer_.reclaim(2), Room::kOk);
  EXPECT_FALSE(writer_->owed());
}

TEST_F(Reclaim, HoldsMoreThanOneWordOfPins) {
  TestLane lane({.ring_slots = 256, .chunks_max = 128, .chunks = 128});
  auto reader = fresh_reader(lane, false);
  TestWriter<> writer(lane);
  std::vector<Taken> held;
  for (int i = 0; i < 128; ++i) {
    ASSERT_TRUE(writer.publish_chunk());
    ASSERT_EQ((*reader)->take(taken_), Take::kSample);
    if (i % 3 == 0)
      held.push_back(taken_);
    else
      reader->release(taken_);
  }
  ASSERT_EQ(writer.reclaim(128), Room::kOk);
  EXPECT_EQ(writer.free_chunks(), 128u - held.size());
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(writer.publish_chunk());
  for (const Taken& taken : held) EXPECT_TRUE(reader->intact(taken));
}

TEST(LaneReclaimOrder, FloorThenFenceThenRosterAndCursorsThenPins) {
  TestLane lane;
  auto lossless = fresh_reader(lane, true);
  auto drop_oldest = fresh_reader(lane, false);
  TestWriter<HookAtomics> writer(lane);
  ASSERT_TRUE(writer.publish_chunk());
  const Trace trace;
  ASSERT_EQ(writer->reclaim(1, [](std::uint32_t) {}), Room::kOk);
  const Sites& sites = trace.sites();
  ASSERT_GT(sites.size(), 4u);
  EXPECT_EQ(sites[0], At::kReclaimFloor);
  EXPECT_EQ(sites[1], At::kReclaimFence);
  const auto pins = std::find(sites.begin(), sites.end(), At::kReclaimPin);
  EXPECT_EQ(std::count(sites.begin() + 2, pins, At::kScanCursor), 1);
  EXPECT_EQ(std::count(sites.begin() + 2, pins, At::kScanRoster), 13);  // the tail and every place
  EXPECT_EQ(std::count(pins, sites.end(), At::kReclaimPin), sites.end() - pins);
}

// Row 6b: slots need floor, roster and cursors in this order, and no full fence.
TEST(LaneRingOrder, FloorThenLightBarrierThenRosterAndCursors) {
  TestLane lane;
  auto lossless = fresh_reader(lane, true);
  TestWriter<HookAtomics> writer(lane);
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(writer.publish_inline());
  drain(*lossless);
  const Trace trace;
  ASSERT_EQ(writer->room(1), Room::kOk);
  Sites sites = trace.sites();
  EXPECT_EQ(sites.front(), At::kPublishFloor);
  EXPECT_EQ(trace.count(At::kReclaimFence), 0u);
  const auto barrier = std::find(sites.begin(), sites.end(), At::kPublishFloorBarrier);
  const auto cursor = std::find(sites.begin(), sites.end(), At::kScanCursor);
  EXPECT_LT(barrier, cursor);
  EXPECT_NE(cursor, sites.end());
}

// ---- waiting for room and the end ---------------------------------------------------------------------------------

TEST(LaneWait, AnnouncesTheBellThenTheFloorThenFencesHeavily) {
  TestLane lane;
  TestWriter<HookAtomics> writer(lane);
  {
    const Trace trace;
    writer->announce_wait(63);
    EXPECT_EQ(trace.sites(), (Sites{At::kRoomWaits, At::kRoomFloor, At::kRoomFence}));
  }
  EXPECT_EQ(lane.header().waits, 64u);
  writer->end_wait();
  EXPECT_EQ(lane.header().waits, 0u);
}

TEST(LaneEnd, StateIsStoredAfterTheLastStamp) {
  TestLane lane;
  TestWriter<> writer(lane);
  ASSERT_TRUE(writer.publish_inline());
  EXPECT_EQ(lane.header().state, 0u);
  writer->finish();
  EXPECT_EQ(lane.header().state, static_cast<std::uint64_t>(LaneState::kFinished));
}

}  // namespace
}  // namespace holdfast::shm
