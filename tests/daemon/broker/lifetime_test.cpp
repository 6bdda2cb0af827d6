// SPDX-License-Identifier: MIT
//
// How long ended lanes, topics and what belongs to dead sessions stay.
#include <gtest/gtest.h>

#include "tests/daemon/broker/fake_shell.hpp"

namespace holdfast::broker {
namespace {

using nlohmann::json;

struct Scene {
  FakeShell shell;
  ConnectionId writer = shell.client();
  ConnectionId reader = shell.client();
};

TEST(Linger, AnEndedLaneStaysForAWhile) {
  Scene scene;
  FakeShell& shell = scene.shell;
  const HandleId publisher = shell.publish(scene.writer, "t", {{"linger_ms", 500}});
  const LaneId lane = shell.lane_of(publisher);
  EXPECT_TRUE(shell.call(scene.writer, "close", {{"handle", publisher}}).ok());
  EXPECT_EQ(shell.timer, shell.now + 500);
  shell.pass(499);
  EXPECT_TRUE(shell.tables().lanes.contains(lane));
  shell.pass(1);
  EXPECT_TRUE(shell.tables().lanes.empty());
  EXPECT_TRUE(shell.tables().topics.empty());
  EXPECT_EQ(shell.timer, std::nullopt);
}

TEST(Linger, CountsFromTheLastReader) {
  Scene scene;
  FakeShell& shell = scene.shell;
  const HandleId publisher = shell.publish(scene.writer, "t", {{"linger_ms", 500}});
  const HandleId subscriber = shell.subscribe(scene.reader, "t");
  const LaneId lane = shell.lane_of(publisher);
  EXPECT_TRUE(shell.call(scene.writer, "close", {{"handle", publisher}}).ok());
  EXPECT_EQ(shell.timer, std::nullopt) << "somebody reads it";
  shell.pass(10'000);
  EXPECT_TRUE(shell.tables().lanes.contains(lane));
  EXPECT_TRUE(shell.call(scene.reader, "subscriber.release", {{"handle", subscriber}, {"lane", lane}}).ok());
  EXPECT_EQ(shell.timer, shell.now + 500);
  shell.pass(500);
  EXPECT_TRUE(shell.tables().lanes.empty());
  EXPECT_EQ(shell.tables().topics.size(), 1U) << "the subscriber keeps its topic";
}

TEST(Linger, ALateReaderKeepsIt) {
  Scene scene;
  FakeShell& shell = scene.shell;
  const HandleId publisher = shell.publish(scene.writer, "t", {{"linger_ms", 500}});
  EXPECT_TRUE(shell.call(scene.writer, "close", {{"handle", publisher}}).ok());
  shell.pass(400);
  const HandleId subscriber = shell.subscribe(scene.reader, "t", "drop_oldest", "oldest");
  EXPECT_EQ(shell.timer, std::nullopt);
  shell.pass(10'000);
  EXPECT_EQ(shell.tables().lanes.size(), 1U);
  EXPECT_TRUE(shell.call(scene.reader, "close", {{"handle", subscriber}}).ok());
  shell.pass(500);
  EXPECT_TRUE(shell.tables().topics.empty());
}

TEST(Linger, ZeroGoesAtOnce) {
  Scene scene;
  FakeShell& shell = scene.shell;
  const HandleId publisher = shell.publish(scene.writer, "t", {{"linger_ms", 0}});
  EXPECT_TRUE(shell.call(scene.writer, "close", {{"handle", publisher}}).ok());
  EXPECT_TRUE(shell.tables().topics.empty());
  EXPECT_TRUE(shell.rows.topics.empty());
}

TEST(Linger, ForEverLastsUntilALaterPublisher) {
  Scene scene;
  FakeShell& shell = scene.shell;
  const json options = {{"linger_ms", -1}};
  const HandleId first = shell.publish(scene.writer, "t", options);
  const LaneId old_lane = shell.lane_of(first);
  EXPECT_TRUE(shell.call(scene.writer, "close", {{"handle", first}}).ok());
  EXPECT_EQ(shell.timer, std::nullopt);
  shell.pass(1'000'000);
  EXPECT_TRUE(shell.tables().lanes.contains(old_lane));
  shell.publish(scene.writer, "t", options);
  EXPECT_FALSE(shell.tables().lanes.contains(old_lane));
}

TEST(Linger, ForEverWaitsForItsReaders) {
  Scene scene;
  FakeShell& shell = scene.shell;
  const json options = {{"linger_ms", -1}};
  const HandleId first = shell.publish(scene.writer, "t", options);
  const LaneId old_lane = shell.lane_of(first);
  const HandleId subscriber = shell.subscribe(scene.reader, "t");
  EXPECT_TRUE(shell.call(scene.writer, "close", {{"handle", first}}).ok());
  shell.publish(scene.writer, "t", options);
  EXPECT_TRUE(shell.tables().lanes.contains(old_lane)) << "it is read";
  EXPECT_TRUE(shell.call(scene.reader, "subscriber.release", {{"handle", subscriber}, {"lane", old_lane}}).ok());
  EXPECT_FALSE(shell.tables().lanes.contains(old_lane));
}

TEST(Linger, TheTimerIsThatOfTheFirstToGo) {
  Scene scene;
  FakeShell& shell = scene.shell;
  const HandleId slow = shell.publish(scene.writer, "slow", {{"linger_ms", 900}});
  const HandleId fast = shell.publish(scene.writer, "fast", {{"linger_ms", 300}});
  EXPECT_TRUE(shell.call(scene.writer, "close", {{"handle", slow}}).ok());
  EXPECT_EQ(shell.timer, shell.now + 900);
  EXPECT_TRUE(shell.call(scene.writer, "close", {{"handle", fast}}).ok());
  EXPECT_EQ(shell.timer, shell.now + 300);
  shell.pass(300);
  EXPECT_EQ(shell.tables().topics.size(), 1U);
  EXPECT_EQ(shell.timer, shell.now + 600);
}

TEST(Linger, GivesWayWhenMemoryIsNeeded) {
  Scene scene;
  FakeShell& shell = scene.shell;
  const HandleId first = shell.publish(scene.writer, "old/one");
  const HandleId second = shell.publish(scene.writer, "old/two", {{"linger_ms", -1}});
  EXPECT_TRUE(shell.call(scene.writer, "close", {{"handle", first}}).ok());
  EXPECT_TRUE(shell.call(scene.writer, "close", {{"handle", second}}).ok());
  shell.failure.failure = control::Failure::kNoMemory;
  shell.fail_at = 1;
  // One is enough.
  shell.publish(scene.writer, "new");
  EXPECT_EQ(shell.tables().topics.size(), 2U);
  EXPECT_TRUE(shell.tables().topic_ids.contains("old/two"));
  // Then the other, and then there is nothing left to give.
  shell.fail_at = 1;
  shell.publish(scene.writer, "newer");
  EXPECT_FALSE(shell.tables().topic_ids.contains("old/two"));
  shell.fail_at = 1;
  EXPECT_EQ(shell.call(scene.writer, "publisher.open", {{"topic", "newest"}}).error, "no_memory");
}

TEST(Linger, GivesWayEvenInTheTopicThatIsOpened) {
  Scene scene;
  FakeShell& shell = scene.shell;
  const HandleId first = shell.publish(scene.writer, "t", {{"ring", 128}});
  EXPECT_TRUE(shell.call(scene.writer, "close", {{"handle", first}}).ok());
  shell.failure.failure = control::Failure::kNoMemory;
  shell.fail_at = 1;
  const HandleId second = shell.publish(scene.writer, "t");
  EXPECT_EQ(shell.tables().lanes.size(), 1U);
  EXPECT_EQ(shell.lane(shell.lane_of(second)).facts.topic, shell.tables().topic_ids.at("t"));
  EXPECT_EQ(shell.tables().topics.begin()->second.facts.options.ring, 128U);
}

TEST(Linger, LanesThatAreReadNeverGiveWay) {
  Scene scene;
  FakeShell& shell = scene.shell;
  const HandleId first = shell.publish(scene.writer, "t");
  shell.subscribe(scene.reader, "t");
  EXPECT_TRUE(shell.call(scene.writer, "close", {{"handle", first}}).ok());
  shell.failure.failure = control::Failure::kNoMemory;
  shell.fail_at = 1;
  EXPECT_EQ(shell.call(scene.writer, "publisher.open", {{"topic", "u"}}).error, "no_memory");
  EXPECT_EQ(shell.tables().lanes.size(), 1U);
}

TEST(Death, APublishersLaneIsAbortedAndStaysReadable) {
  Scene scene;
  FakeShell& shell = scene.shell;
  const HandleId publisher = shell.publish(scene.writer, "t");
  const LaneId lane = shell.lane_of(publisher);
  const HandleId subscriber = shell.subscribe(scene.reader, "t", "lossless");
  shell.end(1);
  EXPECT_EQ(shell.lane(lane).facts.state, shm::LaneState::kAborted);
  EXPECT_EQ(std::get<EndLane>(shell.log.at(shell.find<EndLane>())).state, shm::LaneState::kAborted);
  EXPECT_EQ(shell.lane(lane).readers.size(), 1U);
  EXPECT_TRUE(shell.segments.contains(shell.lane(lane).facts.segment));
  // Its peers hear that it is gone.
  const Answer peers = shell.call(scene.reader, "peers", {{"sessions", {1}}});
  EXPECT_EQ(peers.result["peers"][0]["alive"], false);
  EXPECT_TRUE(shell.call(scene.reader, "subscriber.release", {{"handle", subscriber}, {"lane", lane}}).ok());
  shell.pass(30'000);
  EXPECT_TRUE(shell.tables().lanes.empty());
}

TEST(Death, ASubscribersRecordsLeaveTheRosters) {
  Scene scene;
  FakeShell& shell = scene.shell;
  const HandleId publisher = shell.publish(scene.writer, "t");
  shell.subscribe(scene.reader, "t", "lossless");
  shell.subscribe(scene.reader, "t");
  shell.end(2);
  EXPECT_TRUE(shell.lane(shell.lane_of(publisher)).readers.empty());
  // The topic lives on; somebody new finds room.
  const ConnectionId next = shell.client();
  shell.subscribe(next, "t", "lossless");
  EXPECT_EQ(shell.lane(shell.lane_of(publisher)).readers.begin()->second.facts.entry, 0U);
}

TEST(Death, OfOneWhoWroteAndReadTheSameTopic) {
  FakeShell shell;
  const ConnectionId both = shell.client();
  shell.publish(both, "t", {{"linger_ms", 0}});
  shell.subscribe(both, "t", "lossless");
  shell.end(1);
  EXPECT_TRUE(shell.tables().topics.empty());
  EXPECT_EQ(shell.segments.size(), 1U);
}

TEST(Death, AMutualPairDiesOneByOne) {
  Scene scene;
  FakeShell& shell = scene.shell;
  shell.publish(scene.writer, "a");
  shell.publish(scene.reader, "b");
  shell.subscribe(scene.reader, "a", "lossless");
  shell.subscribe(scene.writer, "b", "lossless");
  shell.end(2);
  shell.end(1);
  EXPECT_TRUE(shell.tables().sessions.empty());
  shell.pass(30'000);
  EXPECT_TRUE(shell.tables().topics.empty());
  EXPECT_EQ(shell.segments.size(), 1U);
  EXPECT_TRUE(shell.rows.readers.empty());
}

}  // namespace
}  // namespace holdfast::broker
