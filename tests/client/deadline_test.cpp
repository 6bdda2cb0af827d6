// SPDX-License-Identifier: MIT
#include "client/src/deadline.hpp"

#include <gtest/gtest.h>

namespace holdfast::client {
namespace {

std::int64_t ns(const timespec& time) { return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec; }

TEST(Deadline, OfZeroIsOverAtOnce) {
  const Deadline deadline(0);
  EXPECT_TRUE(deadline.expired());
  EXPECT_EQ(deadline.left_ns(), 1);
  EXPECT_EQ(deadline.poll_ms(), 0);
  EXPECT_EQ(ns(deadline.bounded(1'000'000'000)), 0);
}

TEST(Deadline, OfLessThanZeroIsNever) {
  for (const std::int64_t never : {std::int64_t{-1}, INT64_MIN}) {
    const Deadline deadline(never);
    EXPECT_FALSE(deadline.expired());
    EXPECT_EQ(deadline.left_ns(), -1);
    EXPECT_EQ(deadline.poll_ms(), -1);
    const std::int64_t now = monotonic_ns();
    const std::int64_t until = ns(deadline.bounded(5'000'000));
    EXPECT_GE(until, now + 5'000'000);
    EXPECT_LE(until, monotonic_ns() + 5'000'000);
  }
}

TEST(Deadline, IsOverWhenItsTimeIs) {
  const Deadline deadline(1);
  while (monotonic_ns() == 0 || !deadline.expired()) {
  }
  EXPECT_EQ(deadline.left_ns(), 1);
  EXPECT_EQ(deadline.poll_ms(), 0);
}

TEST(Deadline, TheNearerOfDeadlineAndBoundEndsASleep) {
  const std::int64_t before = monotonic_ns();
  const Deadline deadline(3'600'000'000'000);
  EXPECT_LT(ns(deadline.bounded(1'000'000)), before + 3'600'000'000'000);
  EXPECT_GE(ns(deadline.bounded(7'200'000'000'000)), before + 3'600'000'000'000);
  EXPECT_LE(ns(deadline.bounded(7'200'000'000'000)), monotonic_ns() + 3'600'000'000'000);
}

TEST(Deadline, PollsInWholeMillisecondsRoundedUpAndBounded) {
  EXPECT_GT(Deadline(500'000'000).poll_ms(), 0);
  EXPECT_LE(Deadline(500'000'000).poll_ms(), 500);
  EXPECT_EQ(Deadline(INT64_MAX).poll_ms(), 1'000'000);
}

TEST(Deadline, TheLongestTimeoutDoesNotOverflow) {
  const Deadline deadline(INT64_MAX);
  EXPECT_FALSE(deadline.expired());
  EXPECT_GT(deadline.left_ns(), INT64_MAX / 2);
}

}  // namespace
}  // namespace holdfast::client
