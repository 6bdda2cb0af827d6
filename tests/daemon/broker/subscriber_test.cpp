// SPDX-License-Identifier: MIT
//
// Subscribers: which lanes they get, records, places on the roster.
#include <gtest/gtest.h>

#include "tests/daemon/broker/fake_shell.hpp"

namespace holdfast::broker {
namespace {

using nlohmann::json;

TEST(Subscriber, MayComeBeforeAnyPublisher) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  const Answer answer = shell.call(one, "subscriber.open", {{"topic", "t"}});
  ASSERT_TRUE(answer.ok()) << answer.sentence;
  EXPECT_TRUE(answer.result["lanes"].empty());
  EXPECT_EQ(answer.result["more"], false);
  EXPECT_EQ(answer.result["topic"]["ring"], 64);
  EXPECT_EQ(answer.result["topic_block"], 128);
  EXPECT_FALSE(shell.tables().topics.begin()->second.facts.decided);
  // The first publisher decides; what it asks for is what the subscriber's records are made for.
  const HandleId publisher = shell.publish(one, "t", {{"ring", 256}, {"chunks_max", 128}});
  const HandleId subscriber = answer.result["handle"];
  const Answer lanes = shell.call(one, "subscriber.lanes", {{"handle", subscriber}, {"after", 0}});
  ASSERT_EQ(lanes.result["lanes"].size(), 1U);
  const json& lane = lanes.result["lanes"][0];
  EXPECT_EQ(lane["lane"], shell.lane_of(publisher));
  EXPECT_EQ(lane["fresh"], true);
  EXPECT_EQ(lane["record"], 4096);
  EXPECT_EQ(lane["publisher"], 1);
  EXPECT_EQ(lane["publisher_name"], "process-1");
  EXPECT_EQ(lane["publisher_pid"], 1001);
  EXPECT_GT(lanes.result["changes"], answer.result["changes"]);
  EXPECT_FALSE(lanes.descriptors.at(0).writable);
}

TEST(Subscriber, ThatNamesOptionsDecidesThem) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  ASSERT_TRUE(shell.call(one, "subscriber.open", {{"topic", "t"}, {"options", {{"ring", 32}}}}).ok());
  EXPECT_EQ(shell.call(one, "publisher.open", {{"topic", "t"}, {"options", {{"ring", 64}}}}).error, "mismatch");
  const Answer answer = shell.call(one, "publisher.open", {{"topic", "t"}});
  EXPECT_EQ(answer.result["topic"]["ring"], 32);
  EXPECT_EQ(shell.call(one, "subscriber.open", {{"topic", "t"}, {"options", {{"ring", 8}}}}).error, "mismatch");
}

TEST(Subscriber, TypesAreCheckedBeforeAnyPublisher) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  const json point = {{"name", "point"}, {"bytes", 16}, {"align", 8}};
  const json line = {{"name", "line"}, {"bytes", 16}, {"align", 8}};
  ASSERT_TRUE(shell.call(one, "subscriber.open", {{"topic", "t"}, {"type", point}}).ok());
  EXPECT_EQ(shell.call(one, "subscriber.open", {{"topic", "t"}, {"type", line}}).error, "mismatch");
  EXPECT_EQ(shell.call(one, "publisher.open", {{"topic", "t"}, {"options", {{"type", line}}}}).error, "mismatch");
  EXPECT_TRUE(shell.call(one, "publisher.open", {{"topic", "t"}, {"options", {{"type", point}}}}).ok());
}

TEST(Subscriber, ParametersAreChecked) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  EXPECT_EQ(shell.call(one, "subscriber.open", {{"topic", "a b"}}).error, "invalid");
  EXPECT_EQ(shell.call(one, "subscriber.open", {{"topic", "t"}, {"delivery", "sometimes"}}).error, "invalid");
  EXPECT_EQ(shell.call(one, "subscriber.open", {{"topic", "t"}, {"start", "now"}}).error, "invalid");
  EXPECT_EQ(shell.call(one, "subscriber.open", {{"topic", "t"}, {"options", {{"depth", 60}}}}).error, "invalid");
  EXPECT_EQ(shell.call(one, "subscriber.open", {{"topic", "t"}, {"options", {{"backing", "x"}}}}).error, "invalid");
  EXPECT_TRUE(shell.tables().topics.empty());
  EXPECT_TRUE(shell.tables().subscribers.empty());
}

TEST(Subscriber, GetsEveryLaneThatIsThere) {
  FakeShell shell;
  const ConnectionId writer = shell.client();
  const ConnectionId reader = shell.client();
  for (int i = 0; i < 3; ++i) shell.publish(writer, "t");
  const Answer answer = shell.call(reader, "subscriber.open", {{"topic", "t"}, {"delivery", "lossless"}});
  ASSERT_EQ(answer.result["lanes"].size(), 3U);
  std::set<std::uint64_t> records;
  for (const json& lane : answer.result["lanes"]) {
    EXPECT_EQ(lane["fresh"], false);
    EXPECT_EQ(lane["entry"], 0);
    records.insert(lane["record"].get<std::uint64_t>());
  }
  EXPECT_EQ(records.size(), 3U);
  // It joins by itself: its cursor holds nobody back until then.
  EXPECT_EQ(std::get<ResetRecord>(shell.log.at(shell.find<ResetRecord>())).cursor, shm::kCursorNone);
}

TEST(Subscriber, LanesComeInPages) {
  FakeShell shell;
  const ConnectionId writer = shell.client();
  const ConnectionId reader = shell.client();
  const std::size_t count = 2 * kLanesPerReply + 1;
  for (std::size_t i = 0; i < count; ++i) shell.publish(writer, "t");
  const Answer first = shell.call(reader, "subscriber.open", {{"topic", "t"}});
  EXPECT_EQ(first.result["lanes"].size(), kLanesPerReply);
  EXPECT_EQ(first.result["more"], true);
  const HandleId subscriber = first.result["handle"];
  std::set<LaneId> seen;
  LaneId after = 0;
  bool more = true;
  int pages = 0;
  while (more) {
    const Answer page = shell.call(reader, "subscriber.lanes", {{"handle", subscriber}, {"after", after}});
    for (const json& lane : page.result["lanes"]) seen.insert(after = lane["lane"]);
    more = page.result["more"];
    ++pages;
  }
  EXPECT_EQ(pages, 3);
  EXPECT_EQ(seen.size(), count);
  EXPECT_EQ(shell.call(writer, "subscriber.lanes", {{"handle", subscriber}}).error, "not_found");
}

TEST(Subscriber, SessionSegmentGrowsWithTheRecords) {
  FakeShell shell;
  const ConnectionId writer = shell.client();
  const ConnectionId reader = shell.client();
  for (int i = 0; i < 17; ++i) shell.publish(writer, "t");
  const Answer answer = shell.call(reader, "subscriber.open", {{"topic", "t"}});
  // 16 records of 256 bytes fit the first page.
  EXPECT_GT(answer.result["session_bytes"], kSessionBytesFirst);
  EXPECT_EQ(shell.count<GrowSegment>(), 1U);
}

TEST(Subscriber, TheRosterChainGrowsByBlocks) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  const HandleId publisher = shell.publish(one, "t");
  std::vector<HandleId> subscribers;
  for (std::uint32_t i = 0; i < shm::kRosterEntries; ++i) subscribers.push_back(shell.subscribe(one, "t"));
  EXPECT_EQ(shell.lane(shell.lane_of(publisher)).blocks.size(), 1U);
  subscribers.push_back(shell.subscribe(one, "t"));
  EXPECT_EQ(shell.lane(shell.lane_of(publisher)).blocks.size(), 2U);
  // The block is empty before it is linked, and linked when the entry is stored.
  EXPECT_LT(shell.find<ClearBlock>(), shell.find<StoreNext>());
  EXPECT_LT(shell.find<StoreNext>(), shell.find<StoreEntry>());
  // A place that becomes free is taken again; the chain stays.
  EXPECT_TRUE(shell.call(one, "close", {{"handle", subscribers[3]}}).ok());
  const HandleId again = shell.subscribe(one, "t");
  EXPECT_EQ(shell.lane(shell.lane_of(publisher)).readers.at(again).facts.entry, 3U);
}

TEST(Subscriber, RosterGrowsWhenItsBlocksAreUsed) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  const std::uint64_t before = shell.segments.at(1);
  for (int i = 0; shell.segments.at(1) == before; ++i) {
    ASSERT_LT(i, 200);
    shell.publish(one, "t" + std::to_string(i));
  }
}

TEST(Subscriber, BellSegmentGrowsWithTheBoards) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  Answer answer;
  for (std::uint64_t i = 0; i <= shm::kPage / sizeof(shm::Board); ++i)
    answer = shell.call(one, "publisher.open", {{"topic", "t"}});
  EXPECT_GT(answer.result["bells_bytes"], kBellsBytesFirst);
}

TEST(Subscriber, ReleasesALane) {
  FakeShell shell;
  const ConnectionId writer = shell.client();
  const ConnectionId reader = shell.client();
  const HandleId publisher = shell.publish(writer, "t");
  const HandleId subscriber = shell.subscribe(reader, "t");
  const LaneId lane = shell.lane_of(publisher);
  EXPECT_TRUE(shell.call(reader, "subscriber.release", {{"handle", subscriber}, {"lane", lane}}).ok());
  EXPECT_TRUE(shell.lane(lane).readers.empty());
  EXPECT_EQ(shell.call(reader, "subscriber.release", {{"handle", subscriber}, {"lane", lane}}).error, "not_found");
  EXPECT_EQ(shell.call(writer, "subscriber.release", {{"handle", subscriber}, {"lane", lane}}).error, "not_found");
  EXPECT_TRUE(shell.call(reader, "subscriber.lanes", {{"handle", subscriber}}).result["lanes"].empty());
}

TEST(Subscriber, WithoutMembarrierTheLaneSaysSo) {
  FakeShell shell;
  const ConnectionId writer = shell.client();
  const HandleId publisher = shell.publish(writer, "t");
  const ConnectionId reader = shell.connect();
  shell.hello(reader, false);
  shell.subscribe(reader, "t");
  EXPECT_LT(shell.find<StoreFlags>(), shell.find<StoreEntry>());
  EXPECT_EQ(shell.lane(shell.lane_of(publisher)).flags, shm::kRosterFullFences);
  shell.subscribe(reader, "t");
  EXPECT_EQ(shell.count<StoreFlags>(), 0U);
}

TEST(Subscriber, StartNextDoesNotGetEndedLanes) {
  FakeShell shell;
  const ConnectionId writer = shell.client();
  const HandleId publisher = shell.publish(writer, "t");
  EXPECT_TRUE(shell.call(writer, "close", {{"handle", publisher}}).ok());
  const ConnectionId reader = shell.client();
  const auto lanes = [&](const char* start) {
    const Answer answer = shell.call(reader, "subscriber.open", {{"topic", "t"}, {"start", start}});
    return answer.result["lanes"].size();
  };
  EXPECT_EQ(lanes("next"), 0U);
  EXPECT_EQ(lanes("latest"), 1U);
  EXPECT_EQ(lanes("oldest"), 1U);
}

TEST(Subscriber, RecordsAreGivenAgain) {
  FakeShell shell;
  const ConnectionId writer = shell.client();
  const ConnectionId reader = shell.client();
  shell.publish(writer, "t");
  const HandleId first = shell.subscribe(reader, "t");
  const LaneId lane = *shell.tables().subscribers.at(first).lanes.begin();
  const std::uint64_t record = shell.lane(lane).readers.at(first).facts.record;
  EXPECT_TRUE(shell.call(reader, "close", {{"handle", first}}).ok());
  const HandleId second = shell.subscribe(reader, "t");
  EXPECT_NE(second, first);
  EXPECT_EQ(shell.lane(lane).readers.at(second).facts.record, record);
}

TEST(Limits, SubscribersOfATopic) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  shell.audits = false;
  for (std::size_t i = 0; i < kSubscribersPerTopicMax; ++i)
    shell.feed(Request{one, 1, "subscriber.open", {{"topic", "t"}}});
  EXPECT_EQ(shell.call(one, "subscriber.open", {{"topic", "t"}}).error, "busy");
  // And they all get a publisher that comes later.
  const HandleId publisher = shell.publish(one, "t");
  EXPECT_EQ(shell.lane(shell.lane_of(publisher)).readers.size(), kSubscribersPerTopicMax);
  shell.audit();
}

}  // namespace
}  // namespace holdfast::broker
