// SPDX-License-Identifier: MIT
#include "daemon/broker/range_allocator.hpp"

#include <map>
#include <random>

#include <gtest/gtest.h>

namespace holdfast::broker {
namespace {

TEST(RangeAllocator, TakesTheLowestHoleThatFits) {
  RangeAllocator ranges(128, 1024, 128);
  EXPECT_EQ(ranges.allocate(128), 128U);
  EXPECT_EQ(ranges.allocate(200), 256U);
  EXPECT_EQ(ranges.allocate(1), 512U);
  ranges.free(128, 128);
  EXPECT_EQ(ranges.allocate(256), 640U);
  EXPECT_EQ(ranges.allocate(128), 128U);
  EXPECT_EQ(ranges.allocate(128), 896U);
  EXPECT_EQ(ranges.allocate(128), std::nullopt);
  EXPECT_EQ(ranges.given_bytes(), 896U);
}

TEST(RangeAllocator, HolesMerge) {
  RangeAllocator ranges(0, 512, 128);
  for (int i = 0; i < 4; ++i) (void)ranges.allocate(128);
  ranges.free(0, 128);
  ranges.free(256, 128);
  EXPECT_EQ(ranges.allocate(256), std::nullopt);
  ranges.free(128, 128);
  EXPECT_EQ(ranges.allocate(384), 0U);
  ranges.free(0, 384);
  ranges.free(384, 128);
  EXPECT_EQ(ranges.allocate(512), 0U);
}

TEST(RangeAllocator, NothingToGiveWhereNothingIs) {
  RangeAllocator ranges(128, 128, 128);
  EXPECT_EQ(ranges.allocate(1), std::nullopt);
}

TEST(RangeAllocatorDeathTest, GivingBackTwiceIsABug) {
  RangeAllocator ranges(0, 512, 128);
  (void)ranges.allocate(128);
  (void)ranges.allocate(128);
  ranges.free(0, 128);
  EXPECT_DEATH(ranges.free(0, 128), "given back once");
  EXPECT_DEATH(ranges.free(128, 512), "given back once");
  EXPECT_DEATH(RangeAllocator(1, 512, 128), "whole units");
}

TEST(RangeAllocator, RandomUseNeverOverlaps) {
  std::mt19937 random(7);
  RangeAllocator ranges(128, 64 * 128, 128);
  std::map<std::uint64_t, std::uint64_t> held;
  for (int i = 0; i < 20'000; ++i) {
    if (random() % 2 == 0 && !held.empty()) {
      const auto at = std::next(held.begin(), static_cast<std::ptrdiff_t>(random() % held.size()));
      ranges.free(at->first, at->second);
      held.erase(at);
      continue;
    }
    const std::uint64_t bytes = 128 * (1 + random() % 5);
    const auto offset = ranges.allocate(bytes);
    if (!offset) continue;
    const auto after = held.lower_bound(*offset);
    if (after != held.end()) ASSERT_LE(*offset + bytes, after->first);
    if (after != held.begin()) ASSERT_LE(std::prev(after)->first + std::prev(after)->second, *offset);
    ASSERT_LE(*offset + bytes, 64U * 128U);
    held.emplace(*offset, bytes);
  }
  std::uint64_t sum = 0;
  for (const auto& [offset, bytes] : held) sum += bytes;
  EXPECT_EQ(ranges.given_bytes(), sum);
}

}  // namespace
}  // namespace holdfast::broker
