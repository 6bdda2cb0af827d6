// SPDX-License-Identifier: MIT
//
// The roster: entries, chains, and offsets that a client does not trust.
#include "proto/shm/roster.hpp"

#include <gtest/gtest.h>

#include "tests/proto/shm/hook_atomics.hpp"
#include "tests/proto/shm/lane_fixture.hpp"

namespace holdfast::shm {
namespace {

TEST(RosterEntry, KeepsSessionRecordAndFlagsApart) {
  for (const std::uint32_t session : {1u, 0x7fffffffu, ~0u}) {
    for (const std::uint64_t record : {std::uint64_t{4096}, std::uint64_t{0xffffff} * 128}) {
      for (const std::uint64_t flags : {kEntryPresent, kEntryPresent | kEntryLossless | kEntryTurned}) {
        const std::uint64_t entry = make_entry(session, record, flags);
        EXPECT_EQ(entry_session(entry), session);
        EXPECT_EQ(entry_record(entry), record);
        EXPECT_EQ(entry & 0xff, flags);
      }
    }
  }
}

TEST(RosterEntry, OnlyALosslessReaderThatWasNotTurnedGates) {
  EXPECT_FALSE(entry_gates(0));
  EXPECT_FALSE(entry_gates(make_entry(1, 4096, kEntryPresent)));
  EXPECT_TRUE(entry_gates(make_entry(1, 4096, kEntryPresent | kEntryLossless)));
  EXPECT_FALSE(entry_gates(make_entry(1, 4096, kEntryPresent | kEntryLossless | kEntryTurned)));
}

class Roster : public testing::Test {
 protected:
  static constexpr std::uint64_t kBlocks = 400;
  RosterHeader& header() { return *reinterpret_cast<RosterHeader*>(memory_.at(0)); }
  RosterBlock& block(std::uint64_t index) {
    return *reinterpret_cast<RosterBlock*>(memory_.at(sizeof(RosterHeader) + index * sizeof(RosterBlock)));
  }
  static std::uint64_t offset(std::uint64_t index) { return sizeof(RosterHeader) + index * sizeof(RosterBlock); }
  std::uint64_t walked() {
    std::uint64_t places = 0;
    tail_ = walk_roster<NativeAtomics>(header(), block(0), [&](std::uint32_t index, const std::uint64_t&) {
      EXPECT_EQ(index, places);
      ++places;
    });
    return places;
  }

  PageMemory memory_{sizeof(RosterHeader) + kBlocks * sizeof(RosterBlock)};
  const std::uint64_t* tail_ = nullptr;
  void SetUp() override { header().valid_bytes = offset(kBlocks); }
};

TEST_F(Roster, GivesBlocksWithinTheValidBytesOnly) {
  EXPECT_EQ(roster_block<NativeAtomics>(header(), offset(0)), &block(0));
  EXPECT_EQ(roster_block<NativeAtomics>(header(), offset(kBlocks - 1)), &block(kBlocks - 1));
  const std::uint64_t wrong[] = {0,
                                 64,
                                 offset(0) + 1,
                                 offset(0) + 64,
                                 offset(kBlocks),
                                 offset(kBlocks + 1),
                                 kRosterReserve,
                                 ~std::uint64_t{0},
                                 ~std::uint64_t{0} - 127};
  for (const std::uint64_t at : wrong) EXPECT_EQ(roster_block<NativeAtomics>(header(), at), nullptr) << at;
  header().valid_bytes = offset(2) + 64;
  EXPECT_EQ(roster_block<NativeAtomics>(header(), offset(2)), nullptr);
  EXPECT_NE(roster_block<NativeAtomics>(header(), offset(1)), nullptr);
}

TEST_F(Roster, NothingIsBehindTheReserveWhateverTheHeaderSays) {
  header().valid_bytes = ~std::uint64_t{0};
  EXPECT_EQ(roster_block<NativeAtomics>(header(), kRosterReserve), nullptr);
  EXPECT_EQ(roster_block<NativeAtomics>(header(), kRosterReserve + 128), nullptr);
}

TEST_F(Roster, AWalkVisitsEveryPlaceOfTheChain) {
  EXPECT_EQ(walked(), 12u);
  EXPECT_EQ(tail_, &block(0).next);
  store_next<NativeAtomics>(block(0), offset(7));
  store_next<NativeAtomics>(block(7), offset(3));
  EXPECT_EQ(walked(), 36u);
  EXPECT_EQ(tail_, &block(3).next);
}

TEST_F(Roster, AWalkEndsAtAChainThatLeadsNowhere) {
  store_next<NativeAtomics>(block(0), offset(kBlocks));
  EXPECT_EQ(walked(), 12u);
  EXPECT_EQ(tail_, &block(0).next);
}

TEST_F(Roster, AWalkEndsInAChainThatBitesItsTail) {
  store_next<NativeAtomics>(block(0), offset(0));
  EXPECT_GE(walked(), kReadersMax);
  EXPECT_LT(walked(), kReadersMax + kRosterEntries);
}

TEST_F(Roster, FindsAPlaceByItsIndex) {
  store_next<NativeAtomics>(block(0), offset(5));
  store_entry<NativeAtomics>(block(5), 3, 77);
  const std::uint64_t* place = roster_entry<NativeAtomics>(header(), block(0), 12 + 3);
  ASSERT_NE(place, nullptr);
  EXPECT_EQ(*place, 77u);
  EXPECT_EQ(roster_entry<NativeAtomics>(header(), block(0), 24), nullptr);
}

TEST_F(Roster, TheBrokersStoresGoWhereReadersLook) {
  store_size<NativeAtomics>(block(0), 8192);
  store_flags<NativeAtomics>(block(0), kRosterFullFences);
  bump_changes<NativeAtomics>(block(0));
  bump_changes<NativeAtomics>(block(0));
  EXPECT_EQ(block(0).size, 8192u);
  EXPECT_EQ(block(0).flags, 1u);
  EXPECT_EQ(block(0).changes, 2u);
}

TEST(Record, IsResetWithItsCursorLast) {
  PageMemory memory(record_bytes(128));
  auto& record = *reinterpret_cast<ReaderRecord*>(memory.at(0));
  std::memset(memory.at(0), 0xff, memory.bytes());
  Trace trace;
  reset_record<HookAtomics>(record, 128, kCursorNone);
  EXPECT_EQ(record.cursor, kCursorNone);
  EXPECT_EQ(record.joined, 0u);
  EXPECT_EQ(record.missed, 0u);
  EXPECT_EQ(record.bell, 0u);
  for (std::uint32_t i = 0; i < 128; ++i) EXPECT_EQ(record.pins[i], 0) << i;
  EXPECT_EQ(memory.at(0)[offsetof(ReaderRecord, pins) + 128], 0xff);
  EXPECT_EQ(trace.count(At::kRecordZero), 128u + 4);
}

TEST(Record, HasALineOfPinsPerSixtyFourChunksAndIsAligned) {
  EXPECT_EQ(record_bytes(64), 256u);
  EXPECT_EQ(record_bytes(128), 384u);
  EXPECT_EQ(record_bytes(192), 384u);
  for (std::uint32_t chunks = 64; chunks <= kChunksMax; chunks += 64) {
    EXPECT_EQ(record_bytes(chunks) % kRecordAlign, 0u);
    EXPECT_GE(record_bytes(chunks), offsetof(ReaderRecord, pins) + chunks);
  }
}

}  // namespace
}  // namespace holdfast::shm
