// SPDX-License-Identifier: MIT
//
// The publisher's book of its lane: classes, reuse, dissolving and merging, and its invariant under a random life: no
// two chunks overlap, no byte is lost, everything is aligned and as large as was asked.
#include "client/src/chunk_pool.hpp"

#include <map>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "proto/shm/lane_layout.hpp"

namespace holdfast::client {
namespace {

using shm::kPage;
using shm::kPayloadAlign;

constexpr std::uint64_t kBase = 2 * kPage;  // where the chunks of a lane begin

TEST(ChunkClass, IsEnoughAndNeverMuchMore) {
  std::mt19937_64 random(1);
  std::vector<std::uint64_t> sizes = {0,    1,    63,   64,   65,   100,  128,   129,
                                      2048, 2049, 4095, 4096, 4097, 8192, 32768, 32769};
  for (int i = 0; i < 20'000; ++i) sizes.push_back(random() >> (20 + random() % 44));
  for (const std::uint64_t bytes : sizes) {
    const std::uint64_t cls = ChunkPool::class_bytes(bytes);
    EXPECT_GE(cls, bytes);
    EXPECT_GE(cls, kPayloadAlign);
    EXPECT_EQ(cls % (cls >= kPage ? kPage : kPayloadAlign), 0u);
    EXPECT_EQ(ChunkPool::class_bytes(cls), cls) << "a class is its own class";
    if (bytes > kPayloadAlign && bytes <= kPage) {
      EXPECT_LT(cls, 2 * bytes);
    }
    if (bytes > kPage) {
      EXPECT_LE(cls - bytes, std::max(kPage - 1, bytes / 8)) << bytes;
    }
  }
  EXPECT_LE(ChunkPool::class_bytes(shm::kPayloadBytesMax), shm::kPayloadBytesMax + shm::kPayloadBytesMax / 8);
}

TEST(ChunkClass, GrowsWithTheSize) {
  std::uint64_t before = 0;
  for (std::uint64_t bytes = 0; bytes < 200'000; bytes += 37) {
    EXPECT_GE(ChunkPool::class_bytes(bytes), before);
    before = ChunkPool::class_bytes(bytes);
  }
}

class Pool : public testing::Test {
 protected:
  ChunkPool pool_{64};
  std::uint32_t chunk_ = 0;
};

TEST_F(Pool, OfNoMemoryGivesNothing) {
  EXPECT_FALSE(pool_.take(1, chunk_));
  EXPECT_FALSE(pool_.carve(1, chunk_));
  EXPECT_FALSE(pool_.recarve(1, chunk_));
}

TEST_F(Pool, OfNoChunksGivesNothing) {
  ChunkPool pool(0);
  pool.add(kBase, kPage);
  EXPECT_FALSE(pool.carve(1, chunk_));
  EXPECT_FALSE(pool.recarve(1, chunk_));
}

TEST_F(Pool, GivesTheSameMemoryAgain) {
  pool_.add(kBase, 16 * kPage);
  ASSERT_TRUE(pool_.carve(5000, chunk_));
  const std::uint64_t offset = pool_.offset(chunk_);
  const std::uint32_t first = chunk_;
  EXPECT_EQ(pool_.capacity(chunk_), 2 * kPage);
  for (int i = 0; i < 3; ++i) {
    pool_.give(chunk_);
    ASSERT_TRUE(pool_.take(5000, chunk_));
    EXPECT_EQ(chunk_, first);
    EXPECT_EQ(pool_.offset(chunk_), offset);
  }
  EXPECT_FALSE(pool_.take(5000, chunk_));
}

TEST_F(Pool, ASmallLoanDoesNotTakeALargeChunk) {
  pool_.add(kBase, 16 * kPage);
  ASSERT_TRUE(pool_.carve(8 * kPage, chunk_));
  pool_.give(chunk_);
  EXPECT_FALSE(pool_.take(100, chunk_));
  EXPECT_FALSE(pool_.take(kPage, chunk_));
  EXPECT_TRUE(pool_.take(5 * kPage, chunk_));
}

TEST_F(Pool, TakesTheNextClassWhereItsOwnIsEmpty) {
  pool_.add(kBase, 16 * kPage);
  std::uint32_t large = 0;
  ASSERT_TRUE(pool_.carve(200, large));   // 256
  ASSERT_TRUE(pool_.carve(100, chunk_));  // 128
  pool_.give(chunk_);
  pool_.give(large);
  std::uint32_t taken = 0;
  ASSERT_TRUE(pool_.take(100, taken));
  EXPECT_EQ(taken, chunk_);
  ASSERT_TRUE(pool_.take(100, taken));
  EXPECT_EQ(taken, large);
  EXPECT_FALSE(pool_.take(100, taken));
}

TEST_F(Pool, RunsOutOfChunksBeforeMemory) {
  pool_.add(kBase, 64 * kPage);
  for (int i = 0; i < 64; ++i) ASSERT_TRUE(pool_.carve(64, chunk_));
  EXPECT_FALSE(pool_.carve(64, chunk_));
  EXPECT_FALSE(pool_.recarve(64, chunk_));
  pool_.give(chunk_);
  EXPECT_TRUE(pool_.recarve(10 * kPage, chunk_));
}

TEST_F(Pool, RecarvesSmallFreeChunksIntoALargeOne) {
  pool_.add(kBase, 16 * kPage);
  std::vector<std::uint32_t> chunks;
  while (pool_.carve(kPage, chunk_)) chunks.push_back(chunk_);
  ASSERT_EQ(chunks.size(), 16u);
  EXPECT_FALSE(pool_.recarve(2 * kPage, chunk_));
  pool_.give(chunks[3]);
  pool_.give(chunks[5]);
  EXPECT_FALSE(pool_.recarve(2 * kPage, chunk_));  // not neighbours
  pool_.give(chunks[4]);
  EXPECT_TRUE(pool_.recarve(3 * kPage, chunk_));
  EXPECT_EQ(pool_.capacity(chunk_), 3 * kPage);
}

TEST_F(Pool, IsExactWhereTheClassDoesNotFit) {
  pool_.add(kBase, 65 * kPage);
  EXPECT_GT(ChunkPool::class_bytes(65 * kPage), 65 * kPage);
  EXPECT_FALSE(pool_.carve(65 * kPage, chunk_));
  ASSERT_TRUE(pool_.recarve(65 * kPage, chunk_));
  EXPECT_EQ(pool_.capacity(chunk_), 65 * kPage);
}

TEST_F(Pool, ANothingIsAsLargeAsTheSmallestChunk) {
  pool_.add(kBase, kPayloadAlign);
  ASSERT_TRUE(pool_.recarve(0, chunk_));
  EXPECT_EQ(pool_.capacity(chunk_), kPayloadAlign);
}

TEST_F(Pool, GrowthMergesWithTheHoleBefore) {
  pool_.add(kBase, kPage);
  pool_.add(kBase + 2 * kPage, kPage);
  EXPECT_FALSE(pool_.carve(3 * kPage, chunk_));
  pool_.add(kBase + kPage, kPage);
  EXPECT_TRUE(pool_.carve(3 * kPage, chunk_));
  EXPECT_EQ(pool_.offset(chunk_), kBase);
}

TEST_F(Pool, PagesBeginOnPages) {
  pool_.add(kBase, 4 * kPage);
  ASSERT_TRUE(pool_.carve(64, chunk_));
  ASSERT_TRUE(pool_.carve(2 * kPage, chunk_));
  EXPECT_EQ(pool_.offset(chunk_) % kPage, 0u);
  std::uint32_t small = 0;
  ASSERT_TRUE(pool_.carve(2048, small));  // from what the alignment left
  EXPECT_LT(pool_.offset(small), pool_.offset(chunk_));
}

// A random life against a plain model of who has which bytes.
class Life {
 public:
  explicit Life(std::uint64_t seed) : random_(seed), pool_(kChunks) { grow(); }

  void step() {
    switch (random_() % 8) {
      case 0:
        if (end_ < kBase + 4096 * kPage) grow();
        break;
      case 1:
      case 2:
      case 3:
        give_one();
        break;
      default:
        loan();
        break;
    }
    check();
  }

  // Everything comes back as one piece.
  void end() {
    while (!lent_.empty()) give_one();
    std::uint32_t chunk = 0;
    ASSERT_TRUE(pool_.recarve(end_ - kBase, chunk));
    EXPECT_EQ(pool_.offset(chunk), kBase);
    EXPECT_EQ(pool_.capacity(chunk), end_ - kBase);
  }

 private:
  static constexpr std::uint32_t kChunks = 64;

  void grow() {
    const std::uint64_t bytes = (1 + random_() % 64) * kPage;
    pool_.add(end_, bytes);
    end_ += bytes;
  }

  void loan() {
    const std::uint64_t bytes = random_() % 4 == 0 ? random_() % 300'000 : random_() % 6000;
    std::uint32_t chunk = 0;
    const bool reused = pool_.take(bytes, chunk);
    if (!reused && !pool_.carve(bytes, chunk) && (random_() % 2 == 0 || !pool_.recarve(bytes, chunk))) return;
    ASSERT_LT(chunk, kChunks);
    ASSERT_EQ(lent_.count(chunk), 0u) << "lent twice";
    ASSERT_GE(pool_.capacity(chunk), std::max<std::uint64_t>(bytes, 1));
    if (reused) {
      ASSERT_LE(pool_.capacity(chunk), std::max(2 * ChunkPool::class_bytes(bytes), bytes));
    }
    lent_[chunk] = {pool_.offset(chunk), pool_.capacity(chunk)};
  }

  void give_one() {
    if (lent_.empty()) return;
    auto at = lent_.begin();
    std::advance(at, static_cast<std::ptrdiff_t>(random_() % lent_.size()));
    pool_.give(at->first);
    lent_.erase(at);
  }

  void check() {
    std::map<std::uint64_t, std::uint64_t> ranges;
    for (std::uint32_t chunk = 0; chunk < kChunks; ++chunk) {
      if (pool_.capacity(chunk) == 0) {
        ASSERT_EQ(lent_.count(chunk), 0u) << "a lent chunk lost its range";
        continue;
      }
      ASSERT_TRUE(ranges.emplace(pool_.offset(chunk), pool_.capacity(chunk)).second);
    }
    std::uint64_t free_from = kBase;
    for (const auto& [offset, bytes] : ranges) {
      ASSERT_GE(offset, free_from) << "two chunks overlap";
      ASSERT_EQ(offset % (bytes >= kPage ? kPage : kPayloadAlign), 0u);
      free_from = offset + bytes;
    }
    ASSERT_LE(free_from, end_);
    for (const auto& [chunk, range] : lent_) {
      ASSERT_EQ(pool_.offset(chunk), range.first) << "a lent chunk was moved";
      ASSERT_EQ(pool_.capacity(chunk), range.second);
    }
  }

  std::mt19937_64 random_;
  ChunkPool pool_;
  std::uint64_t end_ = kBase;
  std::map<std::uint32_t, std::pair<std::uint64_t, std::uint64_t>> lent_;
};

TEST(ChunkPoolLife, LosesAndDoublesNothing) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Life life(seed);
    for (int i = 0; i < 1000; ++i) {
      life.step();
      if (HasFatalFailure()) return;
    }
    life.end();
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace holdfast::client
