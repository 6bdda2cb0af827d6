// SPDX-License-Identifier: MIT
//
// The subscriber's side of a lane, one thread, states built by hand: take, lapped, ended, growth, join, leave, batches.
#include "proto/shm/lane_reader.hpp"

#include <algorithm>
#include <string>

#include <gtest/gtest.h>

#include "tests/proto/shm/hook_atomics.hpp"
#include "tests/proto/shm/lane_fixture.hpp"

namespace holdfast::shm {
namespace {

// The facts that hold for both kinds of reader.
class AnyReader : public testing::TestWithParam<bool> {
 protected:
  bool lossless() const { return GetParam(); }
  Seat seat() { return lane_.seat(lossless() ? kEntryLossless : 0, 0); }

  TestLane lane_;
  Seat seat_ = seat();
  TestWriter<> writer_{lane_};
  TestReader<> reader_{lane_, seat_, lossless()};
  Taken taken_;
};
INSTANTIATE_TEST_SUITE_P(Lane, AnyReader, testing::Bool(),
                         [](const auto& kind) { return kind.param ? "Lossless" : "DropOldest"; });

TEST_P(AnyReader, FindsNothingInAFreshLane) {
  EXPECT_EQ(reader_->take(taken_), Take::kEmpty);
  EXPECT_FALSE(reader_->ready());
  EXPECT_EQ(reader_->cursor(), 0u);
}

TEST_P(AnyReader, TakesAnInlineSampleAsItWasPublished) {
  const std::uint64_t words[4] = {11, 12, 13, ~std::uint64_t{0}};
  ASSERT_EQ(writer_.room(1), Room::kOk);
  writer_->begin();
  writer_->fill(0, 31 | kFlagInline, std::uint64_t{0xabcd} << 32, 99, words);
  EXPECT_FALSE(writer_->commit(1, 31));
  EXPECT_TRUE(reader_->ready());
  ASSERT_EQ(reader_->take(taken_), Take::kSample);
  EXPECT_EQ(taken_.position, 0u);
  EXPECT_EQ(taken_.payload_bytes, 31u);
  EXPECT_EQ(taken_.attribute_bytes, 0u);
  EXPECT_EQ(taken_.type, 0xabcdu);
  EXPECT_EQ(taken_.time, 99u);
  EXPECT_EQ(taken_.chunk, kNoChunk);
  EXPECT_EQ(taken_.offset, 0u);
  EXPECT_TRUE(std::equal(std::begin(words), std::end(words), std::begin(taken_.words)));
  EXPECT_EQ(reader_.pins(), 0u);
  EXPECT_EQ(reader_->take(taken_), Take::kEmpty);
}

TEST_P(AnyReader, TakesASampleOfNoBytes) {
  const std::uint64_t words[4] = {};
  ASSERT_EQ(writer_.room(1), Room::kOk);
  writer_->begin();
  writer_->fill(0, kFlagInline, 0, 0, words);
  writer_->commit(1, 0);
  ASSERT_EQ(reader_->take(taken_), Take::kSample);
  EXPECT_EQ(taken_.payload_bytes, 0u);
}

TEST_P(AnyReader, TakesAChunkWithAttributesWherePublished) {
  std::uint32_t chunk = 0;
  ASSERT_TRUE(writer_.loan(chunk));
  const std::uint64_t offset = lane_.chunk_offset(chunk);
  const std::uint64_t words[4] = {chunk, offset, 0, 0};
  ASSERT_EQ(writer_.room(1), Room::kOk);
  writer_->begin();
  writer_->fill(0, 33, std::uint64_t{5} << 32 | 20, 7, words);
  writer_->own(0, chunk);
  writer_->commit(1, 33);
  ASSERT_EQ(reader_->take(taken_), Take::kSample);
  EXPECT_EQ(taken_.chunk, chunk);
  EXPECT_EQ(taken_.offset, offset);
  EXPECT_EQ(taken_.payload_bytes, 33u);
  EXPECT_EQ(taken_.attribute_bytes, 20u);
  EXPECT_EQ(taken_.type, 5u);
  EXPECT_EQ(taken_.time, 7u);
  EXPECT_EQ(reader_.pin(chunk), 1);
  reader_->release(chunk);
  EXPECT_EQ(reader_.pin(chunk), 0);
}

TEST_P(AnyReader, TakesManyRingsInOrder) {
  for (std::uint64_t position = 0; position < 1000; ++position) {
    ASSERT_TRUE(position % 2 == 0 ? writer_.publish_chunk() : writer_.publish_inline());
    ASSERT_EQ(reader_->take(taken_), Take::kSample);
    ASSERT_EQ(taken_.position, position);
    ASSERT_TRUE(reader_.intact(taken_));
    reader_.release(taken_);
  }
  EXPECT_EQ(reader_.pins(), 0u);
  EXPECT_EQ(lane_.record(seat_).cursor, 1000u);
  EXPECT_EQ(lane_.record(seat_).missed, 0u);
}

TEST_P(AnyReader, KeepsAViewWhileOthersComeAndGo) {
  ASSERT_TRUE(writer_.publish_chunk());
  ASSERT_EQ(reader_->take(taken_), Take::kSample);
  const Taken view = taken_;
  for (int i = 0; i < 500; ++i) {
    ASSERT_TRUE(writer_.publish_chunk());
    ASSERT_EQ(reader_->take(taken_), Take::kSample);
    reader_.release(taken_);
    ASSERT_TRUE(reader_.intact(view));
  }
}

TEST_P(AnyReader, ReleasesViewsInAnyOrder) {
  Taken views[3];
  for (Taken& view : views) {
    ASSERT_TRUE(writer_.publish_chunk());
    ASSERT_EQ(reader_->take(view), Take::kSample);
  }
  reader_->release(views[1].chunk);
  EXPECT_EQ(reader_.pin(views[0].chunk), 1);
  EXPECT_EQ(reader_.pin(views[1].chunk), 0);
  EXPECT_EQ(reader_.pin(views[2].chunk), 1);
  reader_->release(views[2].chunk);
  reader_->release(views[0].chunk);
  EXPECT_EQ(reader_.pins(), 0u);
}

TEST_P(AnyReader, TakesABatchUpToWhatIsThere) {
  ASSERT_TRUE(writer_.publish_batch(5));
  Taken batch[8];
  std::size_t count = 0;
  ASSERT_EQ(reader_->take_batch(std::span(batch, 3), count), Take::kSample);
  ASSERT_EQ(count, 3u);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_TRUE(batch[i].position == i && reader_.intact(batch[i]));
  ASSERT_EQ(reader_->take_batch(std::span(batch + 3, 5), count), Take::kSample);
  ASSERT_EQ(count, 2u);
  for (std::size_t i = 3; i < 5; ++i) EXPECT_TRUE(batch[i].position == i && reader_.intact(batch[i]));
  for (std::size_t i = 0; i < 5; ++i) reader_.release(batch[i]);
  EXPECT_EQ(reader_.pins(), 0u);
  EXPECT_EQ(lane_.record(seat_).cursor, 5u);
  EXPECT_EQ(reader_->take_batch(std::span(batch), count), Take::kEmpty);
  EXPECT_EQ(count, 0u);
}

TEST_P(AnyReader, TakesABatchNoLongerThanTheRing) {
  ASSERT_TRUE(writer_.publish_batch(8));
  std::vector<Taken> batch(20);
  std::size_t count = 0;
  ASSERT_EQ(reader_->take_batch(batch, count), Take::kSample);
  EXPECT_EQ(count, 8u);
}

TEST_P(AnyReader, TakesABatchUpToACorruptSlotAndThenSaysCorrupt) {
  ASSERT_TRUE(writer_.publish_batch(4));
  lane_.slot(2).size = kFlagInline | 33;
  Taken batch[4];
  std::size_t count = 0;
  ASSERT_EQ(reader_->take_batch(std::span(batch), count), Take::kSample);
  ASSERT_EQ(count, 2u);
  reader_.release(batch[0]);
  reader_.release(batch[1]);
  EXPECT_EQ(reader_->take_batch(std::span(batch), count), Take::kCorrupt);
  EXPECT_EQ(count, 0u);
  ASSERT_EQ(reader_->take_batch(std::span(batch), count), Take::kSample);
  EXPECT_EQ(count, 1u);
  EXPECT_EQ(batch[0].position, 3u);
  reader_.release(batch[0]);
  EXPECT_EQ(reader_.pins(), 0u);
}

TEST_P(AnyReader, SaysFinishedAfterTheLastSampleOnly) {
  ASSERT_TRUE(writer_.publish_inline());
  writer_->finish();
  EXPECT_TRUE(reader_->ready());
  EXPECT_EQ(reader_->take(taken_), Take::kSample);
  EXPECT_TRUE(reader_->ready());
  EXPECT_EQ(reader_->take(taken_), Take::kFinished);
  EXPECT_EQ(reader_->take(taken_), Take::kFinished);
  std::size_t count = 0;
  EXPECT_EQ(reader_->take_batch(std::span(&taken_, 1), count), Take::kFinished);
}

TEST_P(AnyReader, SaysAbortedAfterTheLastSampleOnly) {
  ASSERT_TRUE(writer_.publish_inline());
  lane_.abort();
  EXPECT_EQ(reader_->take(taken_), Take::kSample);
  EXPECT_EQ(reader_->take(taken_), Take::kAborted);
}

TEST_P(AnyReader, AFinishedLaneIsNotAbortedAnyMore) {
  writer_->finish();
  lane_.abort();
  EXPECT_EQ(reader_->take(taken_), Take::kFinished);
}

TEST_P(AnyReader, LeavesWithItsViewsStillPinned) {
  ASSERT_TRUE(writer_.publish_chunk());
  ASSERT_EQ(reader_->take(taken_), Take::kSample);
  reader_->leave();
  EXPECT_EQ(lane_.record(seat_).cursor, kCursorNone);
  EXPECT_EQ(reader_.pin(taken_.chunk), 1);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(writer_.publish_chunk());
  EXPECT_TRUE(reader_.intact(taken_));
  reader_->release(taken_.chunk);
  EXPECT_EQ(reader_.pins(), 0u);
}

TEST_P(AnyReader, ReleasingWhatItDoesNotHoldChangesNothing) {
  reader_->release(3);
  EXPECT_EQ(reader_.pins(), 0u);
}

// ---- the order of accesses ----------------------------------------------------------------------------------------

using Sites = std::vector<At>;

Sites without_fields(const Sites& sites) {
  Sites left;
  for (const At at : sites)
    if (at != At::kTakeField && at != At::kScanRoster) left.push_back(at);
  return left;
}

TEST(LaneReaderOrder, DropOldestReadsFieldsThenPinsThenFencesThenLooksAtFloor) {
  TestLane lane;
  TestWriter<> writer(lane);
  auto reader = fresh_reader<HookAtomics>(lane, false);
  ASSERT_TRUE(writer.publish_chunk());
  Taken taken;
  const Trace trace;
  ASSERT_EQ((*reader)->take(taken), Take::kSample);
  EXPECT_EQ(without_fields(trace.sites()),
            (Sites{At::kTakeStamp, At::kTakePin, At::kTakePinFence, At::kTakeFloor, At::kTakeCursor}));
  // Each field once, none after the pin.
  EXPECT_EQ(trace.count(At::kTakeField), 7u);
  const auto pin = std::find(trace.sites().begin(), trace.sites().end(), At::kTakePin);
  EXPECT_EQ(std::count(pin, trace.sites().end(), At::kTakeField), 0);
}

TEST(LaneReaderOrder, LosslessPinsThenLooksAtItsModeThenMovesItsCursor) {
  TestLane lane;
  TestWriter<> writer(lane);
  auto reader = fresh_reader<HookAtomics>(lane, true);
  ASSERT_TRUE(writer.publish_chunk());
  Taken taken;
  const Trace trace;
  ASSERT_EQ((*reader)->take(taken), Take::kSample);
  EXPECT_EQ(without_fields(trace.sites()),
            (Sites{At::kTakeStamp, At::kTakePin, At::kTakeModeBarrier, At::kTakeMode, At::kTakeCursor}));
}

TEST(LaneReaderOrder, InlineFieldsAreReadBeforeTheFloor) {
  TestLane lane;
  TestWriter<> writer(lane);
  auto reader = fresh_reader<HookAtomics>(lane, false);
  ASSERT_TRUE(writer.publish_inline());
  Taken taken;
  const Trace trace;
  ASSERT_EQ((*reader)->take(taken), Take::kSample);
  EXPECT_EQ(without_fields(trace.sites()), (Sites{At::kTakeStamp, At::kTakeFence, At::kTakeFloor, At::kTakeCursor}));
  EXPECT_EQ(trace.sites()[trace.sites().size() - 4], At::kTakeField);
}

TEST(LaneReaderOrder, AnEndIsReadBeforeTheLastLookAtTheStamp) {
  TestLane lane;
  TestWriter<> writer(lane);
  auto reader = fresh_reader<HookAtomics>(lane, false);
  writer->finish();
  Taken taken;
  const Trace trace;
  ASSERT_EQ((*reader)->take(taken), Take::kFinished);
  EXPECT_EQ(trace.sites(), (Sites{At::kTakeStamp, At::kTakeStamp, At::kTakeState, At::kTakeStamp}));
}

TEST(LaneReaderOrder, ABatchPinsAllThenFencesOnceThenLooksAtFloorOnce) {
  TestLane lane;
  TestWriter<> writer(lane);
  auto reader = fresh_reader<HookAtomics>(lane, false);
  ASSERT_TRUE(writer.publish_batch(4));  // two with chunks, one inline, one with a chunk
  Taken batch[4];
  std::size_t count = 0;
  const Trace trace;
  ASSERT_EQ((*reader)->take_batch(std::span(batch), count), Take::kSample);
  ASSERT_EQ(count, 4u);
  const Sites& sites = trace.sites();
  ASSERT_GE(sites.size(), 3u);
  EXPECT_EQ(Sites(sites.end() - 3, sites.end()), (Sites{At::kTakePinFence, At::kTakeFloor, At::kTakeCursor}));
  EXPECT_EQ(trace.count(At::kTakePinFence), 1u);
  EXPECT_EQ(trace.count(At::kTakeFloor), 1u);
  EXPECT_EQ(trace.count(At::kTakePin), 3u);
  EXPECT_EQ(trace.count(At::kTakeCursor), 1u);
}

TEST(LaneReaderOrder, ABatchWithoutChunksNeedsNoFullFence) {
  TestLane lane;
  TestWriter<> writer(lane);
  auto reader = fresh_reader<HookAtomics>(lane, false);
  ASSERT_TRUE(writer.publish_inline());
  ASSERT_TRUE(writer.publish_inline());
  Taken batch[4];
  std::size_t count = 0;
  const Trace trace;
  ASSERT_EQ((*reader)->take_batch(std::span(batch), count), Take::kSample);
  EXPECT_EQ(count, 2u);
  EXPECT_EQ(trace.count(At::kTakePinFence), 0u);
  EXPECT_EQ(trace.count(At::kTakeFence), 1u);
}

TEST(LaneReaderOrder, ALosslessJoinAnnouncesItsCursorBeforeItLooksAtTheFloor) {
  TestLane lane;
  TestReader<HookAtomics> reader(lane, lane.seat(kEntryLossless), true);
  const Trace trace;
  reader->join(Start::kOldest);
  EXPECT_EQ(trace.sites(),
            (Sites{At::kJoinHead, At::kJoinFloor, At::kJoinCursor, At::kJoinFence, At::kJoinFloor, At::kTakeCounter}));
}

// ---- lapped -------------------------------------------------------------------------------------------------------

class DropOldest : public testing::Test {
 protected:
  void publish(std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) ASSERT_TRUE(writer_.publish_inline());
  }

  TestLane lane_;
  TestWriter<> writer_{lane_};
  Seat seat_ = lane_.seat(0, 0);
  TestReader<> reader_{lane_, seat_, false};
  Taken taken_;
};

TEST_F(DropOldest, CountsExactlyWhatItMissed) {
  for (std::uint64_t burst = 1; burst <= 40; ++burst) {
    const std::uint64_t before = writer_->position();
    publish(burst);
    const Drained drained = drain(reader_);
    EXPECT_EQ(drained.taken + drained.missed, burst) << "after position " << before;
    EXPECT_EQ(drained.corrupt + drained.torn, 0u);
    EXPECT_TRUE(drained.in_order);
    EXPECT_EQ(drained.end, Take::kEmpty);
    if (burst > 8) {
      EXPECT_GT(drained.missed, 0u);
    }
  }
  EXPECT_EQ(lane_.record(seat_).cursor, writer_->position());
}

TEST_F(DropOldest, MissesNothingThatTheFloorLeaves) {
  publish(6);
  EXPECT_EQ(writer_->floor(), 0u);
  const Drained drained = drain(reader_);
  EXPECT_EQ(drained.taken, 6u);
  EXPECT_EQ(drained.missed, 0u);
}

TEST_F(DropOldest, JumpsToWhatTheStampSays) {
  publish(3);
  lane_.slot(0).stamp = stamp_of(8);  // one lap later, floor and head not seen yet
  lane_.header().head = 0;
  ASSERT_EQ(reader_->take(taken_), Take::kLapped);
  EXPECT_EQ(taken_.missed, 1u);
  EXPECT_EQ(reader_->cursor(), 1u);
  EXPECT_EQ(taken_.position, 0u);
  EXPECT_EQ(taken_.chunk, kNoChunk);
  EXPECT_FALSE(taken_.turned);
}

TEST_F(DropOldest, JumpsToTheFloorIfItIsHigher) {
  publish(3);
  lane_.slot(0).stamp = stamp_of(8);
  lane_.header().head = 0;
  lane_.header().floor = 5;
  ASSERT_EQ(reader_->take(taken_), Take::kLapped);
  EXPECT_EQ(taken_.missed, 5u);
  EXPECT_EQ(reader_->cursor(), 5u);
}

TEST_F(DropOldest, JumpsToTheOldestThatHeadLeavesIfItIsHigher) {
  publish(3);
  lane_.slot(0).stamp = stamp_of(8);
  lane_.header().head = 100;
  ASSERT_EQ(reader_->take(taken_), Take::kLapped);
  EXPECT_EQ(taken_.missed, 92u);
  EXPECT_EQ(reader_->cursor(), 92u);
}

TEST_F(DropOldest, IsLappedByTheFloorAloneInline) {
  publish(4);
  lane_.header().floor = 2;
  ASSERT_EQ(reader_->take(taken_), Take::kLapped);
  EXPECT_EQ(taken_.missed, 2u);
  ASSERT_EQ(reader_->take(taken_), Take::kSample);
  EXPECT_EQ(taken_.position, 2u);
}

TEST_F(DropOldest, IsLappedByTheFloorAloneWithAChunkAndDropsItsPin) {
  ASSERT_TRUE(writer_.publish_chunk());
  ASSERT_TRUE(writer_.publish_chunk());
  lane_.header().floor = 1;
  ASSERT_EQ(reader_->take(taken_), Take::kLapped);
  EXPECT_EQ(taken_.missed, 1u);
  EXPECT_EQ(reader_.pins(), 0u);
  ASSERT_EQ(reader_->take(taken_), Take::kSample);
  EXPECT_EQ(taken_.position, 1u);
  EXPECT_EQ(reader_.pins(), 1u);
}

TEST_F(DropOldest, ALappedBatchDropsAllItsPins) {
  ASSERT_TRUE(writer_.publish_batch(5));
  lane_.header().floor = 3;
  Taken batch[8];
  std::size_t count = 0;
  ASSERT_EQ(reader_->take_batch(std::span(batch), count), Take::kLapped);
  EXPECT_EQ(count, 0u);
  EXPECT_EQ(batch[0].missed, 3u);
  EXPECT_EQ(reader_.pins(), 0u);
  ASSERT_EQ(reader_->take_batch(std::span(batch), count), Take::kSample);
  EXPECT_EQ(count, 2u);
  EXPECT_EQ(batch[0].position, 3u);
}

TEST_F(DropOldest, WrongBytesBelowTheFloorAreLappedAndNotCorrupt) {
  ASSERT_TRUE(writer_.publish_chunk());
  ASSERT_TRUE(writer_.publish_inline());
  lane_.slot(0).words[0] = ~std::uint64_t{0};
  lane_.slot(1).size = kFlagInline | 40;
  lane_.header().floor = 1;
  EXPECT_EQ(reader_->take(taken_), Take::kLapped);
  lane_.header().floor = 2;
  EXPECT_EQ(reader_->take(taken_), Take::kLapped);
  EXPECT_EQ(reader_->cursor(), 2u);
}

TEST_F(DropOldest, WrongBytesInABatchBelowTheFloorAreLapped) {
  ASSERT_TRUE(writer_.publish_chunk());
  ASSERT_TRUE(writer_.publish_chunk());
  lane_.slot(1).words[1] = 3;
  lane_.header().floor = 2;
  Taken batch[4];
  std::size_t count = 0;
  EXPECT_EQ(reader_->take_batch(std::span(batch), count), Take::kLapped);
  EXPECT_EQ(batch[0].missed, 2u);
  EXPECT_EQ(reader_.pins(), 0u);
}

TEST_F(DropOldest, TheCursorNeverGoesBack) {
  publish(20);
  drain(reader_);
  ASSERT_EQ(reader_->cursor(), 20u);
  lane_.header().floor = 3;
  lane_.header().head = 4;
  EXPECT_EQ(reader_->take(taken_), Take::kEmpty);
  lane_.slot(20).stamp = stamp_of(4);
  EXPECT_EQ(reader_->take(taken_), Take::kEmpty);
  EXPECT_EQ(reader_->cursor(), 20u);
}

TEST_F(DropOldest, AFloorThatFallsWhileABatchIsLappedMovesNothing) {
  TestReader<HookAtomics> reader(lane_, lane_.seat(0, 0), false);
  publish(6);
  Taken batch[2];
  std::size_t count = 0;
  ASSERT_EQ(reader->take_batch(std::span(batch), count), Take::kSample);
  lane_.header().floor = 5;
  const AtStep fall(0, At::kTakeFloor, [&] { lane_.header().floor = 0; });
  EXPECT_EQ(reader->take_batch(std::span(batch), count), Take::kLapped);
  EXPECT_EQ(batch[0].missed, 0u);
  EXPECT_EQ(reader->cursor(), 2u);
}

TEST_F(DropOldest, ALapSeenOnlyAtTheLastLookIsALap) {
  TestReader<HookAtomics> reader(lane_, lane_.seat(0, 0), false);
  // The state is read as finished; the slot is one lap ahead at the second look.
  lane_.header().state = static_cast<std::uint64_t>(LaneState::kFinished);
  const AtStep lap(0, At::kTakeState, [&] { lane_.slot(0).stamp = stamp_of(8); });
  EXPECT_EQ(reader->take(taken_), Take::kLapped);
  EXPECT_EQ(reader->cursor(), 1u);
}

TEST_F(DropOldest, TheLastSampleBeforeTheEndIsNotLost) {
  TestReader<HookAtomics> reader(lane_, lane_.seat(0, 0), false);
  // Between the first look at the stamp and the look at the state the writer publishes and finishes.
  const AtStep last(0, At::kTakeStamp, [&] {
    publish(1);
    writer_->finish();
  });
  EXPECT_EQ(reader->take(taken_), Take::kSample);
  EXPECT_EQ(taken_.position, 0u);
  EXPECT_EQ(reader->take(taken_), Take::kFinished);
}

// ---- positions that no sample reaches --------------------------------------------------------------------------------

TEST_F(DropOldest, ComparesStampsUnsigned) {
  constexpr std::uint64_t kHigh = std::uint64_t{1} << 62;  // its stamp is negative as a signed number
  lane_.header().head = kHigh;
  reader_->join(Start::kNext);
  ASSERT_EQ(reader_->cursor(), kHigh);
  lane_.slot(kHigh).stamp = stamp_of(kHigh - 8);
  EXPECT_FALSE(reader_->ready());
  EXPECT_EQ(reader_->take(taken_), Take::kEmpty);
  lane_.slot(kHigh).stamp = stamp_of(kHigh);
  lane_.slot(kHigh).size = kFlagInline | 5;
  EXPECT_TRUE(reader_->ready());
  ASSERT_EQ(reader_->take(taken_), Take::kSample);
  EXPECT_EQ(taken_.position, kHigh);
}

TEST_F(DropOldest, AStampAtTheTopIsAheadAndNotBehind) {
  lane_.slot(0).stamp = ~std::uint64_t{0} - 15;  // position 2^63 − 9: not a position of slot 0
  EXPECT_TRUE(reader_->ready());
  EXPECT_EQ(reader_->take(taken_), Take::kCorrupt);
  EXPECT_EQ(reader_->cursor(), 0u);
}

TEST_F(DropOldest, ForgedPositionsBeyondAnySampleAreCorruptAndMoveNothing) {
  constexpr std::uint64_t kForged[] = {kPositionMax + 8, std::uint64_t{1} << 63, ~std::uint64_t{0} - 7,
                                       ~std::uint64_t{0}};
  publish(2);
  for (const std::uint64_t forged : kForged) {
    lane_.header().floor = forged;
    EXPECT_EQ(reader_->take(taken_), Take::kCorrupt) << forged;
    EXPECT_EQ(taken_.missed, 0u);
    EXPECT_EQ(reader_->cursor(), 0u);
  }
  lane_.header().floor = 0;
  EXPECT_EQ(reader_->take(taken_), Take::kSample);

  lane_.slot(1).stamp = ~std::uint64_t{0} - 13;  // a lap of slot 1, far beyond
  EXPECT_EQ(reader_->take(taken_), Take::kCorrupt);
  lane_.slot(1).stamp = stamp_of(9);
  lane_.header().head = ~std::uint64_t{0};
  EXPECT_EQ(reader_->take(taken_), Take::kCorrupt);
  EXPECT_EQ(reader_->cursor(), 1u);
  lane_.header().head = 10;
  EXPECT_EQ(reader_->take(taken_), Take::kLapped);
}

TEST_F(DropOldest, AForgedHeadCannotWrapTheCursorOfWhoJoins) {
  for (const Start start : {Start::kNext, Start::kLatest, Start::kOldest}) {
    lane_.header().head = ~std::uint64_t{0};
    lane_.header().floor = ~std::uint64_t{0};
    TestReader<> reader(lane_, lane_.seat(0), false);
    reader->join(start);
    EXPECT_LE(reader->cursor(), kPositionMax);
    EXPECT_NE(reader->take(taken_), Take::kSample);
  }
}

// ---- lossless -----------------------------------------------------------------------------------------------------

class Lossless : public testing::Test {
 protected:
  TestLane lane_;
  Seat seat_ = lane_.seat(kEntryLossless, 0);
  TestWriter<> writer_{lane_};
  TestReader<> reader_{lane_, seat_, true};
  Taken taken_;
};

TEST_F(Lossless, DoesNotAskTheFloor) {
  ASSERT_TRUE(writer_.publish_inline());
  ASSERT_TRUE(writer_.publish_chunk());
  lane_.header().floor = 2;  // floor need not respect lossless cursors
  EXPECT_EQ(reader_->take(taken_), Take::kSample);
  EXPECT_EQ(reader_->take(taken_), Take::kSample);
}

TEST_F(Lossless, ALapByAWriterThatDidNotWaitIsCorrupt) {
  ASSERT_TRUE(writer_.publish_inline());
  lane_.slot(0).stamp = stamp_of(16);
  EXPECT_EQ(reader_->take(taken_), Take::kCorrupt);
  EXPECT_EQ(reader_->cursor(), 9u);
  EXPECT_EQ(lane_.record(seat_).missed, 9u);
}

TEST_F(Lossless, IsToldOnceThatItWasTurned) {
  ASSERT_TRUE(writer_.publish_inline());
  ASSERT_TRUE(writer_.publish_inline());
  lane_.turn(seat_);
  ASSERT_EQ(reader_->take(taken_), Take::kLapped);
  EXPECT_TRUE(taken_.turned);
  EXPECT_EQ(taken_.missed, 0u);
  EXPECT_FALSE(reader_->lossless());
  ASSERT_EQ(reader_->take(taken_), Take::kSample);
  EXPECT_FALSE(taken_.turned);
  EXPECT_EQ(taken_.position, 0u);
}

TEST_F(Lossless, TurnedWithAChunkAheadItDropsItsPinAndCountsWhatTheFloorTook) {
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(writer_.publish_chunk());
  lane_.turn(seat_);
  ASSERT_EQ(writer_.reclaim(3), Room::kOk);
  ASSERT_EQ(reader_->take(taken_), Take::kLapped);
  EXPECT_TRUE(taken_.turned);
  EXPECT_EQ(taken_.missed, 3u);
  EXPECT_EQ(reader_.pins(), 0u);
  ASSERT_EQ(reader_->take(taken_), Take::kSample);
  EXPECT_EQ(taken_.position, 3u);
}

TEST_F(Lossless, TurnedAndLappedItIsTold) {
  ASSERT_TRUE(writer_.publish_inline());
  lane_.turn(seat_);
  for (int i = 0; i < 30; ++i) ASSERT_TRUE(writer_.publish_inline());
  const Drained drained = drain(reader_);
  EXPECT_EQ(drained.turned, 1u);
  EXPECT_EQ(drained.taken + drained.missed, 31u);
  EXPECT_EQ(drained.corrupt, 0u);
}

TEST_F(Lossless, TurnedInABatchItDropsAllPins) {
  ASSERT_TRUE(writer_.publish_batch(5));
  lane_.turn(seat_);
  Taken batch[8];
  std::size_t count = 0;
  ASSERT_EQ(reader_->take_batch(std::span(batch), count), Take::kLapped);
  EXPECT_TRUE(batch[0].turned);
  EXPECT_EQ(count, 0u);
  EXPECT_EQ(reader_.pins(), 0u);
  ASSERT_EQ(reader_->take_batch(std::span(batch), count), Take::kSample);
  EXPECT_EQ(count, 5u);
}

TEST_F(Lossless, WrongBytesAfterTheTurnAreToldAsTheTurn) {
  ASSERT_TRUE(writer_.publish_chunk());
  lane_.turn(seat_);
  lane_.slot(0).words[0] = 1'000'000;
  ASSERT_EQ(reader_->take(taken_), Take::kLapped);
  EXPECT_TRUE(taken_.turned);
  EXPECT_EQ(reader_->take(taken_), Take::kCorrupt);
}

// ---- pins are counted per chunk -----------------------------------------------------------------------------------

TEST_F(DropOldest, AFailedTakeNeverClearsTheByteThatAViewNeeds) {
  ASSERT_TRUE(writer_.publish_chunk());
  ASSERT_EQ(reader_->take(taken_), Take::kSample);
  const Taken view = taken_;
  // A writer that lies: position 1 names the same chunk, and the floor passes while it is looked at.
  ASSERT_TRUE(writer_.publish_chunk());
  lane_.slot(1).words[0] = view.chunk;
  lane_.slot(1).words[1] = view.offset;
  lane_.header().floor = 2;
  ASSERT_EQ(reader_->take(taken_), Take::kLapped);
  EXPECT_EQ(reader_.pin(view.chunk), 1);
  reader_->release(view.chunk);
  EXPECT_EQ(reader_.pin(view.chunk), 0);
}

TEST_F(DropOldest, TwoViewsOfOneChunkNeedTwoReleases) {
  ASSERT_TRUE(writer_.publish_chunk());
  ASSERT_TRUE(writer_.publish_chunk());
  lane_.slot(1).words[0] = lane_.slot(0).words[0];
  Taken views[2];
  std::size_t count = 0;
  ASSERT_EQ(reader_->take_batch(std::span(views), count), Take::kSample);
  ASSERT_EQ(count, 2u);
  EXPECT_EQ(reader_.pins(), 1u);
  reader_->release(views[0].chunk);
  EXPECT_EQ(reader_.pins(), 1u);
  reader_->release(views[1].chunk);
  EXPECT_EQ(reader_.pins(), 0u);
}

// Row 18's counterexample, two chunks: the reader has read position 1's slot (chunk 1) and not pinned it yet; the writer
// gives up 0 and 1 and writes position 2 into chunk 1; the reader goes on, reads position 2's slot and uses chunk 1
// twice under one byte. What it keeps in the end must have its pin.
TEST(LaneBatch, DroppingALappedPositionKeepsThePinOfALaterOneInTheSameChunk) {
  constexpr std::size_t kFieldsOfASlot = 7;
  TestLane lane({.ring_slots = 8, .chunks_max = 64, .chunks = 2});
  TestWriter<> writer(lane);
  auto reader = fresh_reader<HookAtomics>(lane, false);
  ASSERT_TRUE(writer.publish_chunk());
  ASSERT_TRUE(writer.publish_chunk());
  const std::uint64_t chunk = lane.slot(1).words[0];
  Taken batch[4];
  std::size_t count = 0;
  {
    const AtStep read(2 * kFieldsOfASlot - 1, At::kTakeField, [&] {
      EXPECT_EQ(reader->pins(), 1u);
      ASSERT_EQ(writer.reclaim(2), Room::kOk);
      ASSERT_EQ(writer.free_chunks(), 1u);  // position 0's chunk is pinned
      ASSERT_TRUE(writer.publish_chunk());
      ASSERT_EQ(lane.slot(2).words[0], chunk);
    });
    ASSERT_EQ((*reader)->take_batch(std::span(batch), count), Take::kLapped);
    EXPECT_TRUE(read.reached());
  }
  EXPECT_EQ(batch[0].missed, 2u);
  EXPECT_EQ(reader->pins(), 0u);
  ASSERT_EQ((*reader)->take_batch(std::span(batch), count), Take::kSample);
  ASSERT_EQ(count, 1u);
  EXPECT_EQ(batch[0].position, 2u);
  EXPECT_EQ(batch[0].chunk, chunk);
  EXPECT_EQ(reader->pin(batch[0].chunk), 1);
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(writer.publish_chunk());
  EXPECT_TRUE(reader->intact(batch[0]));
}

// ---- growth -------------------------------------------------------------------------------------------------------

class Growth : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Lane, Growth, testing::Bool(),
                         [](const auto& kind) { return kind.param ? "Batch" : "Single"; });

template <class A>
Take take_one(TestReader<A>& reader, Taken& taken, bool batch) {
  if (!batch) return reader->take(taken);
  std::size_t count = 0;
  return reader->take_batch(std::span(&taken, 1), count);
}

TEST_P(Growth, ASampleInGrownMemoryIsFoundThroughTheRoster) {
  TestLane lane({.chunks = 1, .chunks_reserve = 4});
  TestWriter<> writer(lane);
  auto reader = fresh_reader(lane, false);
  const std::uint64_t before = (*reader)->valid_bytes();
  EXPECT_EQ(before, lane.chunk_offset(1));
  writer.give(lane.grow(2));
  Taken taken;
  ASSERT_TRUE(writer.publish_chunk());
  ASSERT_EQ(take_one(*reader, taken, GetParam()), Take::kSample);
  EXPECT_EQ((*reader)->valid_bytes(), before);  // not asked as long as what is known suffices
  ASSERT_TRUE(writer.publish_chunk());
  ASSERT_EQ(take_one(*reader, taken, GetParam()), Take::kSample);
  EXPECT_EQ(taken.offset, lane.chunk_offset(1));
  EXPECT_EQ((*reader)->valid_bytes(), lane.chunk_offset(3));
}

TEST_P(Growth, TheSizeIsLoadedAfterTheFields) {
  TestLane lane({.chunks = 1, .chunks_reserve = 4});
  TestWriter<> writer(lane);
  auto reader = fresh_reader<HookAtomics>(lane, false);
  std::uint32_t first = 0;
  ASSERT_TRUE(writer.loan(first));
  Taken taken;
  // The lane grows, and a sample in the new part is published, while the reader is at its first look.
  writer.give(lane.grow(1));
  ASSERT_TRUE(writer.publish_chunk());
  const Trace trace;
  ASSERT_EQ(take_one(*reader, taken, GetParam()), Take::kSample);
  const auto size = std::find(trace.sites().begin(), trace.sites().end(), At::kTakeSize);
  ASSERT_NE(size, trace.sites().end());
  EXPECT_EQ(std::count(size, trace.sites().end(), At::kTakeField), 0);
  EXPECT_EQ(std::count(size, trace.sites().end(), At::kTakeStamp), 0);
}

TEST_P(Growth, BeyondTheValidSizeIsCorruptAndNeverAReasonToWait) {
  TestLane lane({.chunks = 2, .chunks_reserve = 4});
  TestWriter<> writer(lane);
  auto reader = fresh_reader(lane, false);
  ASSERT_TRUE(writer.publish_chunk());
  ASSERT_TRUE(writer.publish_chunk());
  lane.slot(0).words[1] = lane.chunk_offset(2);
  Taken taken;
  EXPECT_EQ(take_one(*reader, taken, GetParam()), Take::kCorrupt);
  EXPECT_EQ(reader->pins(), 0u);
  EXPECT_EQ(take_one(*reader, taken, GetParam()), Take::kSample);
}

// ---- join ---------------------------------------------------------------------------------------------------------

TEST(LaneJoin, StartsWhereItWasAskedTo) {
  TestLane lane;
  TestWriter<> writer(lane);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(writer.publish_chunk());
  ASSERT_EQ(writer.reclaim(2), Room::kOk);
  const std::pair<Start, std::uint64_t> wanted[] = {{Start::kNext, 5}, {Start::kLatest, 4}, {Start::kOldest, 2}};
  for (const bool lossless : {false, true}) {
    for (const auto& [start, cursor] : wanted) {
      TestReader<> reader(lane, lane.seat(lossless ? kEntryLossless : 0), lossless);
      reader->join(start);
      EXPECT_EQ(reader->cursor(), cursor);
      EXPECT_EQ(lane.record(reader.seat()).cursor, cursor);
      EXPECT_EQ(lane.record(reader.seat()).joined, cursor);
    }
  }
}

TEST(LaneJoin, LatestOfALaneWithoutReadableSamplesIsTheNextOne) {
  TestLane lane;
  TestWriter<> writer(lane);
  TestReader<> early(lane, lane.seat(0), false);
  early->join(Start::kLatest);
  EXPECT_EQ(early->cursor(), 0u);
  ASSERT_TRUE(writer.publish_chunk());
  ASSERT_EQ(writer.reclaim(1), Room::kOk);
  TestReader<> late(lane, lane.seat(0), false);
  late->join(Start::kLatest);
  EXPECT_EQ(late->cursor(), 1u);
}

TEST(LaneJoin, AFreshLaneIsReadFromItsFirstSample) {
  TestLane lane;
  TestWriter<> writer(lane);
  const Seat seat = lane.seat(kEntryLossless, 0);
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(writer.publish_inline());
  EXPECT_FALSE(writer.publish_inline());  // it gates before it has looked at the lane
  TestReader<> reader(lane, seat, true);
  reader->join_fresh();
  EXPECT_EQ(drain(reader).taken, 8u);
}

// The counterexample of row 6a: the writer has read a roster without us when we announce our cursor; its floor passes us.
TEST(LaneJoin, ALosslessReaderThatTheWriterDidNotSeeGoesOnFromTheFloor) {
  TestLane lane;
  TestWriter<HookAtomics> writer(lane);
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(writer.publish_inline());
  const Seat seat = lane.seat(kEntryLossless);
  TestReader<> reader(lane, seat, true);
  {
    // The cursor is still that of nobody when the scan reads it; then the reader joins.
    const AtStep join(0, At::kScanCursor, [&] { reader->join(Start::kOldest); });
    ASSERT_TRUE(writer.publish_inline());
    EXPECT_TRUE(join.reached());
  }
  EXPECT_GE(reader->cursor(), 1u);
  while (writer.publish_inline()) {
  }
  const Drained drained = drain(reader);
  EXPECT_EQ(drained.corrupt + drained.missed + drained.torn, 0u);
  EXPECT_TRUE(drained.in_order);
  EXPECT_EQ(reader->cursor(), writer->position());
}

TEST(LaneJoin, AFloorThatKeepsRunningAwayDoesNotHoldTheJoinForEver) {
  TestLane lane;
  lane.header().head = 1000;
  TestReader<HookAtomics> reader(lane, lane.seat(kEntryLossless), true);
  std::uint64_t fences = 0;
  HookAtomics::before = [&](At at) {
    if (at != At::kJoinFence) return;
    lane.header().floor = 2000 + 100 * fences;
    if (++fences > 10'000) throw Died{};
  };
  EXPECT_NO_THROW(reader->join(Start::kNext));
  HookAtomics::before = nullptr;
  EXPECT_GE(reader->cursor(), 2000u);
  EXPECT_EQ(lane.record(reader.seat()).cursor, reader->cursor());
}

// ---- whether the writer waits ---------------------------------------------------------------------------------------

TEST(LaneRoom, AReaderSeesOnWhichBellTheWriterWaits) {
  TestLane lane;
  TestWriter<> writer(lane);
  auto reader = fresh_reader(lane, true);
  EXPECT_EQ((*reader)->writer_waits(), 0u);
  writer->announce_wait(5);
  EXPECT_EQ((*reader)->writer_waits(), 6u);
  writer->end_wait();
  EXPECT_EQ((*reader)->writer_waits(), 0u);
}

TEST(LaneRoom, FullFencesAreUsedWhereEitherSideAsksForThem) {
  TestLane lane;
  TestReader<> plain(lane, lane.seat(0), false);
  TestReader<> without(lane, lane.seat(0), false, true);
  TestWriter<> writer(lane);
  TestWriter<> writer_without(lane, true);
  EXPECT_FALSE(plain->full_fences());
  EXPECT_TRUE(without->full_fences());
  EXPECT_FALSE(writer->full_fences());
  EXPECT_TRUE(writer_without->full_fences());
  store_flags<NativeAtomics>(lane.block(), kRosterFullFences);
  EXPECT_TRUE(plain->full_fences());
  EXPECT_TRUE(writer->full_fences());
  EXPECT_EQ(plain->writer_waits(), 0u);
  ASSERT_TRUE(writer.publish_chunk());
  plain->join(Start::kOldest);
  Taken taken;
  EXPECT_EQ(plain->take(taken), Take::kSample);
}

}  // namespace
}  // namespace holdfast::shm
