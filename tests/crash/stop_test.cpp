// SPDX-License-Identifier: MIT
//
// Two processes stopped at chosen accesses, in an order that the scheduler gives once in a million times.
//
// A drop-oldest reader has pinned a chunk and not yet looked at the floor. The publisher has raised the floor above it,
// needs the chunk, sees the pin, and is about to sleep: armed, `waits` in the lane. The reader goes on, finds that it was
// lapped and clears the pin: it made room, so it must ring (row 14), although it took nothing.
#include <algorithm>
#include <string>

#include <gtest/gtest.h>

#include "tests/crash/crash_child.hpp"
#include "tests/integration/broker.hpp"

namespace holdfast::crash {
namespace {

using integration::PrivateBroker;

Kill stop_after(shm::At at) { return {&shm::site(at), 1, false, true}; }

class RefusedTake : public ::testing::TestWithParam<const char*> {};

TEST_P(RefusedTake, RingsThePublisherThatWaitsForTheChunk) {
  constexpr const char* kTopic = "stop/refused";
  PrivateBroker broker;
  CrashChild reader({"take", broker.socket(), kTopic, GetParam()}, stop_after(shm::At::kTakePin));
  ASSERT_FALSE(reader.channel().receive().is_null());
  // It comes when the reader is there: it need not wait for it, and this site is not passed before the loan.
  CrashChild publisher({"lend", broker.socket(), kTopic}, stop_after(shm::At::kRoomFloor));
  ASSERT_FALSE(publisher.channel().receive().is_null());
  reader.channel().send({{"take", true}});
  ASSERT_TRUE(reader.wait_for_stop()) << "it never pins";
  publisher.channel().send({{"lend", true}});
  ASSERT_TRUE(publisher.wait_for_stop()) << "it never waits";
  reader.go_on();
  const nlohmann::json told = reader.channel().receive();
  ASSERT_FALSE(told.is_null());
  EXPECT_EQ(told["result"], "HF_LAPPED");
  EXPECT_EQ(told["missed"], 1);
  EXPECT_EQ(told["rings"], 1) << "the pin is gone, and the publisher was not told";
  publisher.go_on();
  EXPECT_EQ(publisher.channel().receive()["lent"], true);
  (void)reader.expect_end();
  (void)publisher.expect_end();
}
INSTANTIATE_TEST_SUITE_P(Taken, RefusedTake, ::testing::Values("look", "wait", "batch"),
                         [](const auto& how) { return std::string(how.param); });

}  // namespace
}  // namespace holdfast::crash
