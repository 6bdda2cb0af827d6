// SPDX-License-Identifier: MIT
//
// What a publisher can write wrongly, field by field: each is Take::kCorrupt, pins nothing, costs no other sample, and
// is never a crash. The next, sound sample is taken.
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "proto/shm/lane_reader.hpp"
#include "tests/proto/shm/lane_fixture.hpp"

namespace holdfast::shm {
namespace {

struct Forgery {
  std::string name;
  bool chunk;  // of a sample with a chunk, or inline
  std::function<void(TestLane&, Slot&)> forge;
};

void PrintTo(const Forgery& forgery, std::ostream* out) { *out << forgery.name; }

const std::vector<Forgery>& forgeries() {
  static const std::vector<Forgery> kAll = {
      {"InlineOfThirtyThreeBytes", false, [](TestLane&, Slot& slot) { slot.size = kFlagInline | 33; }},
      {"InlineOfAllBytes", false, [](TestLane&, Slot& slot) { slot.size = kFlagInline | kSizeMask; }},
      {"InlineWithAnUnknownFlag", false, [](TestLane&, Slot& slot) { slot.size |= std::uint64_t{1} << 49; }},
      {"InlineWithEveryFlag", false, [](TestLane&, Slot& slot) { slot.size |= ~kSizeMask; }},
      {"InlineWithAttributes", false, [](TestLane&, Slot& slot) { slot.tags |= 1; }},
      {"ChunkWithAnUnknownFlag", true, [](TestLane&, Slot& slot) { slot.size |= std::uint64_t{1} << 49; }},
      {"ChunkWithTheHighestFlag", true, [](TestLane&, Slot& slot) { slot.size |= std::uint64_t{1} << 63; }},
      {"ChunkIndexAtTheLimit", true, [](TestLane& lane, Slot& slot) { slot.words[0] = lane.shape().chunks_max; }},
      {"ChunkIndexOfAllOnes", true, [](TestLane&, Slot& slot) { slot.words[0] = ~std::uint64_t{0}; }},
      {"ChunkIndexWithHighBits", true, [](TestLane&, Slot& slot) { slot.words[0] |= std::uint64_t{1} << 32; }},
      {"TooManyAttributes", true,
       [](TestLane& lane, Slot& slot) {
         store_size<NativeAtomics>(lane.block(), std::uint64_t{1} << 30);
         slot.tags = kAttributeBytesMax + 1;
       }},
      {"AttributesOfAllOnes", true, [](TestLane&, Slot& slot) { slot.tags |= 0xffffffff; }},
      {"OffsetNotAligned", true, [](TestLane&, Slot& slot) { slot.words[1] += 8; }},
      {"OffsetOfTheHeader", true, [](TestLane&, Slot& slot) { slot.words[1] = 0; }},
      {"OffsetOfTheRing", true, [](TestLane&, Slot& slot) { slot.words[1] = kRingOffset; }},
      {"OffsetJustBelowTheChunks", true,
       [](TestLane& lane, Slot& slot) { slot.words[1] = lane.chunk_offset(0) - kPayloadAlign; }},
      {"OffsetBehindTheEnd", true,
       [](TestLane& lane, Slot& slot) { slot.words[1] = lane.chunk_offset(lane.shape().chunks); }},
      {"OffsetAboveFortyEightBits", true, [](TestLane&, Slot& slot) { slot.words[1] = std::uint64_t{1} << 48; }},
      {"OffsetThatWouldOverflow", true, [](TestLane&, Slot& slot) { slot.words[1] = ~std::uint64_t{0} - 63; }},
      {"OneByteMoreThanThereIs", true,
       [](TestLane& lane, Slot& slot) {
         slot.words[1] = lane.chunk_offset(lane.shape().chunks - 1);
         slot.size = lane.shape().chunk_bytes + 1;
       }},
      {"OneAttributeByteMoreThanThereIs", true,
       [](TestLane& lane, Slot& slot) {
         slot.words[1] = lane.chunk_offset(lane.shape().chunks - 1);
         slot.tags |= 1;
       }},
      {"PayloadOfAllBits", true, [](TestLane&, Slot& slot) { slot.size = kSizeMask; }},
      {"ZeroedSlot", true,
       [](TestLane&, Slot& slot) {
         slot.size = slot.tags = slot.time = 0;
         for (std::uint64_t& word : slot.words) word = 0;
       }},
      {"SlotOfAllOnes", true,
       [](TestLane&, Slot& slot) {
         slot.size = slot.tags = slot.time = ~std::uint64_t{0};
         for (std::uint64_t& word : slot.words) word = ~std::uint64_t{0};
       }},
  };
  return kAll;
}

class Forged : public testing::TestWithParam<Forgery> {};
INSTANTIATE_TEST_SUITE_P(Slot, Forged, testing::ValuesIn(forgeries()),
                         [](const auto& info) { return info.param.name; });

void take_forged(const Forgery& forgery, bool lossless, bool batch) {
  TestLane lane;
  auto reader = fresh_reader(lane, lossless);
  TestWriter<> writer(lane);
  ASSERT_TRUE(forgery.chunk ? writer.publish_chunk() : writer.publish_inline());
  ASSERT_TRUE(writer.publish_chunk());
  forgery.forge(lane, lane.slot(0));

  Taken taken[2];
  std::size_t count = 0;
  const auto take = [&] { return batch ? (*reader)->take_batch(std::span(taken), count) : (*reader)->take(taken[0]); };
  EXPECT_EQ(take(), Take::kCorrupt);
  EXPECT_EQ(taken[0].position, 0u);
  EXPECT_EQ(taken[0].chunk, kNoChunk);
  EXPECT_EQ(taken[0].missed, 0u);
  EXPECT_EQ(reader->pins(), 0u);
  EXPECT_EQ((*reader)->cursor(), 1u);
  ASSERT_EQ(take(), Take::kSample);
  EXPECT_EQ(taken[0].position, 1u);
  EXPECT_TRUE(reader->intact(taken[0]));
}

TEST_P(Forged, SlotIsCorruptAndTheNextSampleIsTaken) {
  for (const bool lossless : {false, true}) {
    for (const bool batch : {false, true}) {
      SCOPED_TRACE(std::string(lossless ? "lossless" : "drop-oldest") + (batch ? ", batch" : ""));
      take_forged(GetParam(), lossless, batch);
    }
  }
}

TEST(LaneCorrupt, TheLargestSoundSlotsAreSound) {
  TestLane lane({.chunks = 2, .chunk_bytes = 1 << 17});
  auto reader = fresh_reader(lane, false);
  TestWriter<> writer(lane);
  Taken taken;
  ASSERT_TRUE(writer.publish_chunk());
  lane.slot(0).words[0] = lane.shape().chunks_max - 1;
  lane.slot(0).words[1] = lane.chunk_offset(2) - kAttributeBytesMax - kPayloadAlign;
  lane.slot(0).size = kPayloadAlign;
  lane.slot(0).tags = kAttributeBytesMax;
  ASSERT_EQ((*reader)->take(taken), Take::kSample);
  EXPECT_EQ(taken.offset + attributes_offset(taken.payload_bytes) + taken.attribute_bytes, lane.chunk_offset(2));
  (*reader)->release(taken.chunk);
  // Nothing, at the very end.
  ASSERT_TRUE(writer.publish_chunk());
  lane.slot(1).words[1] = lane.chunk_offset(2);
  lane.slot(1).size = 0;
  ASSERT_EQ((*reader)->take(taken), Take::kSample);
  EXPECT_EQ(taken.payload_bytes, 0u);
}

TEST(LaneCorrupt, AnOddStampIsCorrupt) {
  for (const bool lossless : {false, true}) {
    TestLane lane;
    auto reader = fresh_reader(lane, lossless);
    Taken taken;
    for (const std::uint64_t odd : {std::uint64_t{3}, stamp_of(8) + 1, stamp_of(80) + 1}) {
      lane.slot(0).stamp = odd;
      EXPECT_EQ((*reader)->take(taken), Take::kCorrupt);
      EXPECT_EQ((*reader)->cursor(), 0u);
    }
    EXPECT_TRUE((*reader)->ready());
    lane.slot(0).stamp = 1;  // below that of position 0: nothing yet
    EXPECT_EQ((*reader)->take(taken), Take::kEmpty);
  }
}

TEST(LaneCorrupt, AStampOfAnotherSlotIsCorrupt) {
  for (const bool lossless : {false, true}) {
    TestLane lane;
    auto reader = fresh_reader(lane, lossless);
    Taken taken;
    for (std::uint64_t position = 1; position < 8; ++position) {
      lane.slot(0).stamp = stamp_of(position);
      EXPECT_EQ((*reader)->take(taken), Take::kCorrupt) << position;
      lane.slot(0).stamp = stamp_of(1'000'000 * 8 + position);
      EXPECT_EQ((*reader)->take(taken), Take::kCorrupt) << position;
    }
    EXPECT_EQ((*reader)->cursor(), 0u);
    std::size_t count = 0;
    EXPECT_EQ((*reader)->take_batch(std::span(&taken, 1), count), Take::kCorrupt);
  }
}

TEST(LaneCorrupt, AStateThatIsNoneIsAnEnd) {
  TestLane lane;
  auto reader = fresh_reader(lane, false);
  Taken taken;
  lane.header().state = 77;
  EXPECT_EQ((*reader)->take(taken), Take::kAborted);
}

TEST(LaneCorrupt, AForgedFloorCostsItsOwnSamplesOnly) {
  TestLane lane;
  auto reader = fresh_reader(lane, false);
  TestWriter<> writer(lane);
  Taken taken;
  ASSERT_TRUE(writer.publish_inline());
  lane.header().floor = 1000;
  ASSERT_EQ((*reader)->take(taken), Take::kLapped);
  EXPECT_EQ(taken.missed, 1000u);
  EXPECT_EQ((*reader)->take(taken), Take::kEmpty);
}

TEST(LaneCorrupt, AForgedFloorDoesNotTouchALosslessReader) {
  TestLane lane;
  auto reader = fresh_reader(lane, true);
  TestWriter<> writer(lane);
  Taken taken;
  ASSERT_TRUE(writer.publish_chunk());
  lane.header().floor = ~std::uint64_t{0};
  EXPECT_EQ((*reader)->take(taken), Take::kSample);
}

TEST(LaneCorrupt, ForgedWaitsAreAHint) {
  TestLane lane;
  auto reader = fresh_reader(lane, true);
  lane.header().waits = ~std::uint64_t{0};
  EXPECT_EQ((*reader)->writer_waits(), ~std::uint64_t{0});  // whoever rings checks the number
}

TEST(LaneCorrupt, AForgedCursorHurtsOnlyItsReader) {
  TestLane lane;
  auto forger = fresh_reader(lane, true);
  auto honest = fresh_reader(lane, true);
  TestWriter<> writer(lane);
  for (const std::uint64_t forged : {~std::uint64_t{0}, std::uint64_t{1} << 63, std::uint64_t{5000}}) {
    lane.record(forger->seat()).cursor = forged;
    while (writer.publish_mixed()) {
    }
    const Drained drained = drain(*honest);
    EXPECT_EQ(drained.corrupt + drained.missed + drained.torn, 0u);
    EXPECT_TRUE(drained.in_order);
    EXPECT_EQ((*honest)->cursor(), writer->position());
  }
  // One that goes back makes the writer wait, until it is turned.
  lane.record(forger->seat()).cursor = 0;
  EXPECT_GE(writer.publish_up_to(100), 0u);
  EXPECT_FALSE(writer.publish_inline());
  lane.turn(forger->seat());
  drain(*honest);
  EXPECT_TRUE(writer.publish_inline());
}

TEST(LaneCorrupt, ForgedPinsHoldMemoryAndNothingElse) {
  TestLane lane;
  auto forger = fresh_reader(lane, false);
  TestWriter<> writer(lane);
  std::memset(lane.pins(forger->seat()), 0xff, lane.shape().chunks_max);
  std::uint64_t chunks = 0;
  while (writer.publish_chunk()) ++chunks;
  EXPECT_EQ(chunks, lane.shape().chunks);
  EXPECT_TRUE(writer.publish_inline());
  lane.unseat(forger->seat());
  EXPECT_TRUE(writer.publish_chunk());
}

}  // namespace
}  // namespace holdfast::shm
