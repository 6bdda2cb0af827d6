// SPDX-License-Identifier: MIT
//
// What others must see first comes first: the rows of the ordering rules that are the broker's.
#include <algorithm>

#include <gtest/gtest.h>

#include "tests/daemon/broker/fake_shell.hpp"

namespace holdfast::broker {
namespace {

using nlohmann::json;

bool rings(const Action& action, SegmentId bells) {
  const auto* ring = std::get_if<RingBells>(&action);
  return ring != nullptr && std::find(ring->bells.begin(), ring->bells.end(), bells) != ring->bells.end();
}

struct Pair {
  FakeShell shell;
  ConnectionId writer = shell.client();
  ConnectionId reader = shell.client();
  SegmentId writer_bells = shell.tables().sessions.at(1).facts.bells;
  SegmentId reader_bells = shell.tables().sessions.at(2).facts.bells;
};

// Row 8c, and 11 for those who are there: record, entry, the topic's counter, their bells, the reply.
TEST(Order, OfANewLane) {
  Pair scene;
  FakeShell& shell = scene.shell;
  shell.subscribe(scene.reader, "t", "lossless");
  const std::uint64_t topic_block = shell.tables().topics.begin()->second.facts.block;
  shell.publish(scene.writer, "t");
  const std::size_t record = shell.find<ResetRecord>();
  EXPECT_EQ(std::get<ResetRecord>(shell.log.at(record)).cursor, 0U);
  const std::size_t entry = shell.find<StoreEntry>(record);
  EXPECT_EQ(shell.find<StoreEntry>(), entry);
  std::size_t bump = shell.find<BumpChanges>(entry);
  while (std::get<BumpChanges>(shell.log.at(bump)).block != topic_block) bump = shell.find<BumpChanges>(bump + 1);
  const std::size_t ring = shell.find<RingBells>(bump);
  EXPECT_TRUE(rings(shell.log.at(ring), scene.reader_bells));
  EXPECT_EQ(shell.find<Reply>(), shell.find<Reply>(ring));
  // Its size and its rows come before it is shown, too.
  EXPECT_LT(shell.find<CreateSegment>(), shell.find<StoreSize>());
  EXPECT_LT(shell.find<StoreSize>(), entry);
  EXPECT_LT(shell.find<PutRow>(), shell.find<Reply>());
}

// Row 11: the record, the entry, the lane's counter, the writer's bell (it may wait for subscribers), the reply.
TEST(Order, OfAJoin) {
  Pair scene;
  FakeShell& shell = scene.shell;
  shell.publish(scene.writer, "t");
  shell.subscribe(scene.reader, "t");
  const std::size_t record = shell.find<ResetRecord>();
  const std::size_t entry = shell.find<StoreEntry>();
  const std::size_t bump = shell.find<BumpChanges>();
  const std::size_t ring = shell.find<RingBells>();
  EXPECT_LT(record, entry);
  EXPECT_LT(entry, bump);
  EXPECT_LT(bump, ring);
  EXPECT_LT(ring, shell.find<Reply>());
  EXPECT_TRUE(rings(shell.log.at(ring), scene.writer_bells));
}

// Rows 11a and 14b: off the roster, the record zeroed, the writer rung, the reply.
TEST(Order, OfALeave) {
  Pair scene;
  FakeShell& shell = scene.shell;
  shell.publish(scene.writer, "t");
  const HandleId subscriber = shell.subscribe(scene.reader, "t", "lossless");
  EXPECT_TRUE(shell.call(scene.reader, "close", {{"handle", subscriber}}).ok());
  const std::size_t entry = shell.find<StoreEntry>();
  EXPECT_EQ(std::get<StoreEntry>(shell.log.at(entry)).entry, 0U);
  EXPECT_LT(entry, shell.find<ResetRecord>());
  const std::size_t ring = shell.find<RingBells>();
  EXPECT_LT(entry, ring);
  EXPECT_TRUE(rings(shell.log.at(ring), scene.writer_bells));
  EXPECT_LT(ring, shell.find<Reply>());
}

// Row 8b: lanes aborted, records off the rosters, bells rung, the session's row last.
TEST(Order, OfADeath) {
  Pair scene;
  FakeShell& shell = scene.shell;
  const ConnectionId third = shell.client();
  const SegmentId third_bells = shell.tables().sessions.at(3).facts.bells;
  // Session 1 writes "a", which 2 reads, and reads "b", which 3 writes.
  shell.publish(scene.writer, "a");
  shell.subscribe(scene.reader, "a");
  shell.publish(third, "b");
  shell.subscribe(scene.writer, "b", "lossless");
  shell.end(1);
  const std::size_t abort = shell.find<EndLane>();
  const std::size_t entry = shell.find<StoreEntry>();
  const std::size_t ring = shell.find<RingBells>();
  EXPECT_LT(abort, entry);
  EXPECT_LT(entry, ring);
  EXPECT_TRUE(rings(shell.log.at(ring), scene.reader_bells));
  EXPECT_TRUE(rings(shell.log.at(ring), third_bells));
  EXPECT_FALSE(rings(shell.log.at(ring), scene.writer_bells)) << "nobody waits there";
  std::size_t last = shell.log.size();
  for (std::size_t i = 0; i < shell.log.size(); ++i)
    if (const auto* row = std::get_if<DeleteRow>(&shell.log[i]); row != nullptr && row->table == Table::kSessions)
      last = i;
  ASSERT_LT(last, shell.log.size());
  EXPECT_LT(ring, last);
  for (std::size_t i = last + 1; i < shell.log.size(); ++i) EXPECT_TRUE(std::holds_alternative<Log>(shell.log[i]));
}

TEST(Order, OfAnOrderlyEnd) {
  Pair scene;
  FakeShell& shell = scene.shell;
  const HandleId publisher = shell.publish(scene.writer, "t");
  shell.subscribe(scene.reader, "t");
  EXPECT_TRUE(shell.call(scene.writer, "close", {{"handle", publisher}}).ok());
  EXPECT_EQ(std::get<EndLane>(shell.log.at(shell.find<EndLane>())).state, shm::LaneState::kFinished);
  EXPECT_LT(shell.find<EndLane>(), shell.find<RingBells>());
  EXPECT_LT(shell.find<RingBells>(), shell.find<Reply>());
  EXPECT_TRUE(rings(shell.log.at(shell.find<RingBells>()), scene.reader_bells));
}

TEST(Order, ALaneThatGoesCountsInItsTopic) {
  Pair scene;
  FakeShell& shell = scene.shell;
  const HandleId subscriber = shell.subscribe(scene.reader, "t");
  const HandleId publisher = shell.publish(scene.writer, "t", {{"linger_ms", 0}});
  const LaneId lane = shell.lane_of(publisher);
  EXPECT_TRUE(shell.call(scene.writer, "close", {{"handle", publisher}}).ok());
  const std::uint64_t before = shell.call(scene.reader, "subscriber.lanes", {{"handle", subscriber}}).result["changes"];
  EXPECT_TRUE(shell.call(scene.reader, "subscriber.release", {{"handle", subscriber}, {"lane", lane}}).ok());
  const std::uint64_t after = shell.call(scene.reader, "subscriber.lanes", {{"handle", subscriber}}).result["changes"];
  EXPECT_EQ(after, before + 1);
}

// A block that is used again goes on counting: who still looks at it sees a change, never an old number again.
TEST(Order, CountersOfBlocksNeverGoBack) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  std::uint64_t last = 0;
  for (int i = 0; i < 3; ++i) {
    const HandleId publisher = shell.publish(one, "t", {{"linger_ms", 0}});
    const Answer opened = shell.call(one, "subscriber.open", {{"topic", "t"}});
    EXPECT_EQ(opened.result["topic_block"], 128);
    EXPECT_GT(opened.result["changes"].get<std::uint64_t>(), last);
    last = opened.result["changes"];
    EXPECT_TRUE(shell.call(one, "close", {{"handle", publisher}}).ok());
    EXPECT_TRUE(shell.call(one, "close", {{"handle", opened.result["handle"]}}).ok());
    EXPECT_TRUE(shell.tables().topics.empty());
  }
}

TEST(Order, IdsAreGivenOnce) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  std::set<HandleId> handles;
  std::set<LaneId> lanes;
  for (int i = 0; i < 20; ++i) {
    const HandleId publisher = shell.publish(one, "t", {{"linger_ms", 0}});
    EXPECT_TRUE(handles.insert(publisher).second);
    EXPECT_TRUE(lanes.insert(shell.lane_of(publisher)).second);
    EXPECT_TRUE(shell.call(one, "close", {{"handle", publisher}}).ok());
  }
}

TEST(OrderDeathTest, TimeDoesNotGoBack) {
  State state{BrokerSetup{}};
  (void)state.step(10, Tick{});
  EXPECT_DEATH((void)state.step(9, Tick{}), "time does not go back");
}

TEST(OrderDeathTest, AnAnswerHasItsOperation) {
  State state{BrokerSetup{}};
  EXPECT_DEATH((void)state.step(1, SegmentReady{77, {}}), "has its operation");
}

}  // namespace
}  // namespace holdfast::broker
