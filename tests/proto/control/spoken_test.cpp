// SPDX-License-Identifier: MIT
#include "proto/control/spoken.hpp"

#include <gtest/gtest.h>

#include "proto/control/versions.hpp"

namespace holdfast::control {
namespace {

TEST(Spoken, AgreesOnTheNewestThatBothKnow) {
  EXPECT_EQ(agreed({1, 1, 1}, {1, 1, 1}), 1U);
  EXPECT_EQ(agreed({1, 2, 1}, {1, 1, 1}), 1U) << "a newer client";
  EXPECT_EQ(agreed({1, 1, 1}, {1, 2, 1}), 1U) << "a newer broker";
  EXPECT_EQ(agreed({1, 4, 1}, {3, 7, 1}), 4U);
  EXPECT_EQ(agreed({3, 7, 1}, {1, 3, 1}), 3U);
}

TEST(Spoken, NothingWhereRangesDoNotMeetOrLayoutsDiffer) {
  EXPECT_EQ(agreed({1, 1, 1}, {2, 3, 1}), std::nullopt);
  EXPECT_EQ(agreed({2, 3, 1}, {1, 1, 1}), std::nullopt);
  EXPECT_EQ(agreed({1, 1, 1}, {1, 1, 2}), std::nullopt);
  EXPECT_EQ(agreed({0, 0, 0}, {1, 1, 1}), std::nullopt) << "an answer without numbers";
}

TEST(Spoken, WordsNameTheRange) {
  EXPECT_EQ(in_words({1, 1, 1}), "protocol 1 and layout 1");
  EXPECT_EQ(in_words({1, 2, 3}), "protocols 1 to 2 and layout 3");
}

TEST(Spoken, WeSpeakWhatWeSay) {
  EXPECT_EQ(agreed({kProtocolOldest, kProtocolVersion, 1}, {kProtocolOldest, kProtocolVersion, 1}), kProtocolVersion);
  EXPECT_FALSE(kNext) << "releases to come are built for the tests of upgrades only";
}

}  // namespace
}  // namespace holdfast::control
