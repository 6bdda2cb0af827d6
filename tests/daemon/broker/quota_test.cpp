// SPDX-License-Identifier: MIT
//
// What a session may hold. Charged before anything is made, counted from rows.
#include <gtest/gtest.h>

#include "tests/daemon/broker/fake_shell.hpp"

namespace holdfast::broker {
namespace {

using nlohmann::json;

constexpr std::uint64_t kOwn = kSessionBytesFirst + kBellsBytesFirst;

BrokerSetup with_quota(std::uint64_t bytes) {
  BrokerSetup setup;
  setup.session_bytes_max = bytes;
  return setup;
}

TEST(Quota, HelloIsCharged) {
  FakeShell shell(with_quota(kOwn - 1));
  const ConnectionId one = shell.connect();
  const Answer answer = shell.call(one, "hello", {{"protocol", 1}, {"layout", 1}});
  EXPECT_EQ(answer.error, "quota");
  EXPECT_EQ(answer.numbers,
            json({{"asked_bytes", kBellsBytesFirst}, {"used_bytes", kSessionBytesFirst}, {"limit_bytes", kOwn - 1}}));
  EXPECT_TRUE(shell.tables().sessions.empty());
  FakeShell tiny(with_quota(100));
  EXPECT_EQ(tiny.call(tiny.connect(), "hello", {{"protocol", 1}, {"layout", 1}}).error, "quota");
}

TEST(Quota, LanesAndTheirGrowthAreCharged) {
  FakeShell shell(with_quota(kOwn + 8192 + 4096));
  const ConnectionId one = shell.client();
  const HandleId publisher = shell.publish(one, "t");
  EXPECT_EQ(shell.call(one, "publisher.open", {{"topic", "t"}}).error, "quota");
  const Answer refused = shell.call(one, "lane.grow", {{"handle", publisher}, {"bytes", 8192}});
  EXPECT_EQ(refused.error, "quota");
  EXPECT_EQ(refused.numbers, json({{"asked_bytes", 8192}, {"used_bytes", kOwn + 8192}, {"limit_bytes", kOwn + 12288}}));
  // The refusal has used nothing up.
  EXPECT_TRUE(shell.call(one, "lane.grow", {{"handle", publisher}, {"bytes", 4096}}).ok());
  EXPECT_EQ(shell.call(one, "lane.grow", {{"handle", publisher}, {"bytes", 4096}}).error, "quota");
}

TEST(Quota, GrowthOnItsWayIsCharged) {
  FakeShell shell(with_quota(kOwn + 8192 + 8192 + 4096));
  const ConnectionId one = shell.client();
  const HandleId publisher = shell.publish(one, "t");
  shell.hold_growth = true;
  (void)shell.call(one, "lane.grow", {{"handle", publisher}, {"bytes", 8192}});
  EXPECT_EQ(shell.call(one, "publisher.open", {{"topic", "u"}}).error, "quota");
  shell.release_growth();
}

TEST(Quota, OthersAreNotConcerned) {
  FakeShell shell(with_quota(kOwn + 8192));
  const ConnectionId one = shell.client();
  const ConnectionId two = shell.client();
  shell.publish(one, "t");
  shell.publish(two, "t");
  EXPECT_EQ(shell.call(two, "publisher.open", {{"topic", "t"}}).error, "quota");
}

TEST(Quota, ComesBackWithTheLane) {
  FakeShell shell(with_quota(kOwn + 8192));
  const ConnectionId one = shell.client();
  for (int i = 0; i < 5; ++i) {
    const HandleId publisher = shell.publish(one, "t", {{"linger_ms", 0}});
    EXPECT_TRUE(shell.call(one, "close", {{"handle", publisher}}).ok());
  }
}

TEST(Quota, RecordsAreChargedToTheReader) {
  FakeShell shell(with_quota(kOwn + 4096));
  const ConnectionId writer = shell.client();
  (void)writer;
  const ConnectionId reader = shell.client();
  // Records of 65 536 chunks do not fit a page.
  FakeShell wide(with_quota(kOwn + 8192));
  const ConnectionId wide_writer = wide.client();
  const ConnectionId wide_reader = wide.client();
  wide.publish(wide_writer, "t", {{"chunks_max", 65536}});
  const Answer answer = wide.call(wide_reader, "subscriber.open", {{"topic", "t"}});
  EXPECT_EQ(answer.error, "quota");
  EXPECT_TRUE(wide.tables().subscribers.empty());
  EXPECT_TRUE(shell.call(reader, "subscriber.open", {{"topic", "u"}}).ok());
}

TEST(Quota, APublisherDoesNotSufferFromItsSubscribers) {
  FakeShell shell(with_quota(kOwn + 3 * 8192));
  const ConnectionId reader = shell.client();
  const ConnectionId writer = shell.client();
  const HandleId subscriber = shell.subscribe(reader, "t", "lossless");
  const HandleId narrow = shell.subscribe(reader, "u");
  (void)narrow;
  const Answer opened = shell.call(writer, "publisher.open", {{"topic", "t"}, {"options", {{"chunks_max", 65536}}}});
  ASSERT_TRUE(opened.ok()) << opened.sentence;
  const LaneId lane = opened.result["lane"]["lane"];
  EXPECT_TRUE(shell.lane(lane).readers.empty());
  // The subscriber hears of it where it can do something about it.
  EXPECT_EQ(shell.call(reader, "subscriber.lanes", {{"handle", subscriber}}).error, "quota");
  EXPECT_EQ(shell.call(reader, "subscriber.lanes", {{"handle", subscriber}}).error, "quota");
  // The lane may go without it ever having been there.
  shell.end(shell.session_of(writer));
  shell.pass(30'000);
  EXPECT_TRUE(shell.call(reader, "subscriber.lanes", {{"handle", subscriber}}).ok());
}

TEST(Quota, WhoHadNoRoomIsAttachedLater) {
  // Room for the reader's own publisher, or for the wide record, not for both.
  FakeShell shell(with_quota(kOwn + 17 * 4096));
  const ConnectionId reader = shell.client();
  const ConnectionId writer = shell.client();
  const HandleId subscriber = shell.subscribe(reader, "t", "lossless");
  const HandleId own = shell.publish(reader, "own", {{"linger_ms", 0}});
  const Answer opened = shell.call(writer, "publisher.open", {{"topic", "t"}, {"options", {{"chunks_max", 65536}}}});
  ASSERT_TRUE(opened.ok()) << opened.sentence;
  EXPECT_EQ(shell.call(reader, "subscriber.lanes", {{"handle", subscriber}}).error, "quota");
  EXPECT_TRUE(shell.call(reader, "close", {{"handle", own}}).ok());
  const Answer lanes = shell.call(reader, "subscriber.lanes", {{"handle", subscriber}});
  ASSERT_TRUE(lanes.ok()) << lanes.sentence;
  ASSERT_EQ(lanes.result["lanes"].size(), 1U);
  EXPECT_EQ(lanes.result["lanes"][0]["fresh"], false);
}

}  // namespace
}  // namespace holdfast::broker
