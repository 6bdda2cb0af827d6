// SPDX-License-Identifier: MIT
#include "client/src/view_count.hpp"

#include <memory>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace holdfast::client {
namespace {

TEST(ViewCount, WithoutViewsTheEndIsTheLast) {
  ViewCount count;
  EXPECT_EQ(count.held(), 0u);
  EXPECT_TRUE(count.end());
}

TEST(ViewCount, BeforeTheEndNobodyIsTheLast) {
  ViewCount count;
  for (std::uint64_t i = 0; i < 5; ++i) {
    count.take();
    count.take();
    EXPECT_EQ(count.held(), 2u);
    EXPECT_FALSE(count.give_back());
    EXPECT_FALSE(count.give_back());
    EXPECT_EQ(count.held(), 0u);
  }
  EXPECT_TRUE(count.end());
}

TEST(ViewCount, AfterTheEndTheLastViewIsTheLast) {
  ViewCount count;
  for (int i = 0; i < 3; ++i) count.take();
  EXPECT_FALSE(count.give_back());
  EXPECT_FALSE(count.end());
  EXPECT_FALSE(count.give_back());
  EXPECT_TRUE(count.give_back());
}

// The thread that is last deletes the object at once; nobody else may touch it by then. Runs under the sanitizers.
TEST(ViewCount, ExactlyOneThreadIsTheLastAndNobodyLooksAfterwards) {
  constexpr int kViews = 3;
  for (int round = 0; round < 500; ++round) {
    auto* count = new ViewCount;
    for (int i = 0; i < kViews; ++i) count->take();
    std::atomic<int> deleted{0};
    std::atomic<int> ready{0};
    const auto go = [&] {
      ++ready;
      while (ready < kViews + 1) std::this_thread::yield();
    };
    const auto last = [&] {
      delete count;
      ++deleted;
    };
    std::vector<std::thread> threads;
    for (int i = 0; i < kViews; ++i) {
      threads.emplace_back([&] {
        go();
        if (count->give_back()) last();
      });
    }
    go();
    if (count->end()) last();
    for (std::thread& thread : threads) thread.join();
    ASSERT_EQ(deleted, 1);
  }
}

}  // namespace
}  // namespace holdfast::client
