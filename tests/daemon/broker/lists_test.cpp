// SPDX-License-Identifier: MIT
//
// Lists, in pages, and sums.
#include <gtest/gtest.h>

#include "tests/daemon/broker/fake_shell.hpp"

namespace holdfast::broker {
namespace {

using nlohmann::json;

TEST(Lists, TopicsInPagesByName) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  for (const char* name : {"c", "a", "e", "b", "d"}) shell.subscribe(one, name);
  std::string seen;
  std::string after;
  bool more = true;
  while (more) {
    const Answer answer = shell.call(one, "topics", {{"after", after}, {"limit", 2}});
    const auto& page = std::get<Topics>(*answer.report);
    EXPECT_LE(page.rows.size(), 2U);
    for (const TopicReport& row : page.rows) seen += after = row.facts.name;
    more = page.more;
  }
  EXPECT_EQ(seen, "abcde");
}

TEST(Lists, OneTopicByName) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  shell.subscribe(one, "a");
  shell.subscribe(one, "b");
  const Answer found = shell.call(one, "topics", {{"name", "b"}});
  ASSERT_EQ(std::get<Topics>(*found.report).rows.size(), 1U);
  EXPECT_FALSE(std::get<Topics>(*found.report).more);
  const Answer none = shell.call(one, "topics", {{"name", "x"}});
  EXPECT_TRUE(std::get<Topics>(*none.report).rows.empty());
}

TEST(Lists, ATopicShowsWhoIsThere) {
  FakeShell shell;
  const ConnectionId writer = shell.client();
  const ConnectionId reader = shell.client();
  const HandleId publisher = shell.publish(writer, "t");
  shell.subscribe(reader, "t", "lossless");
  shell.subscribe(reader, "t");
  const Answer answer = shell.call(reader, "topics");
  const TopicReport& topic = std::get<Topics>(*answer.report).rows.at(0);
  EXPECT_EQ(topic.publishers, 1U);
  EXPECT_EQ(topic.subscribers, 2U);
  ASSERT_EQ(topic.lanes.size(), 1U);
  EXPECT_EQ(topic.lanes[0].facts.id, shell.lane_of(publisher));
  EXPECT_EQ(topic.lanes[0].readers, 2U);
  ASSERT_EQ(topic.subscriptions.size(), 2U);
  EXPECT_STREQ(topic.subscriptions[0].delivery, "lossless");
  EXPECT_STREQ(topic.subscriptions[1].delivery, "drop_oldest");
  EXPECT_EQ(topic.subscriptions[0].readers.size(), 1U);
  // A turned one says so.
  EXPECT_TRUE(shell.call(writer, "lane.turn", {{"handle", publisher}, {"entry", 0}, {"cursor", 0}})
                  .result["turned"]
                  .get<bool>());
  const Answer after = shell.call(reader, "topics");
  EXPECT_STREQ(std::get<Topics>(*after.report).rows.at(0).subscriptions[0].delivery, "turned");
}

TEST(Lists, OfOneTopicAreBounded) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  for (std::size_t i = 0; i < kListedPerTopic + 3; ++i) {
    shell.publish(one, "t");
    shell.subscribe(one, "t");
  }
  const Answer answer = shell.call(one, "topics");
  const TopicReport& topic = std::get<Topics>(*answer.report).rows.at(0);
  EXPECT_EQ(topic.lanes.size(), kListedPerTopic);
  EXPECT_EQ(topic.lanes_count, kListedPerTopic + 3);
  EXPECT_EQ(topic.subscriptions.size(), kListedPerTopic);
  EXPECT_EQ(topic.subscriptions_count, kListedPerTopic + 3);
  EXPECT_EQ(topic.subscriptions[0].readers.size(), kListedPerTopic);
  EXPECT_EQ(topic.subscriptions[0].readers_count, kListedPerTopic + 3);
}

TEST(Lists, SessionsInPages) {
  FakeShell shell;
  for (int i = 0; i < 5; ++i) shell.client();
  const ConnectionId one = shell.connect();
  const Answer first = shell.call(one, "sessions", {{"limit", 3}});
  EXPECT_EQ(std::get<Sessions>(*first.report).rows.size(), 3U);
  EXPECT_TRUE(std::get<Sessions>(*first.report).more);
  const Answer second = shell.call(one, "sessions", {{"limit", 3}, {"after", "3"}});
  EXPECT_EQ(std::get<Sessions>(*second.report).rows.at(0).facts.id, 4U);
  EXPECT_FALSE(std::get<Sessions>(*second.report).more);
  const Answer beyond = shell.call(one, "sessions", {{"after", "99999999999"}});
  EXPECT_TRUE(std::get<Sessions>(*beyond.report).rows.empty());
  for (const char* after : {"x", "3x", "", "-1"})
    EXPECT_EQ(shell.call(one, "sessions", {{"after", after}}).error, "invalid") << after;
  EXPECT_EQ(shell.call(one, "sessions", {{"limit", 501}}).error, "invalid");
  EXPECT_EQ(shell.call(one, "sessions", {{"limit", 0}}).error, "invalid");
}

TEST(Lists, SessionsSayWhatTheyHold) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  shell.publish(one, "t");
  shell.subscribe(one, "t");
  shell.feed(Disconnected{one});
  const Answer answer = shell.call(shell.connect(), "sessions");
  const SessionReport& row = std::get<Sessions>(*answer.report).rows.at(0);
  EXPECT_FALSE(row.connected);
  EXPECT_EQ(row.publishers, 1U);
  EXPECT_EQ(row.subscribers, 1U);
  EXPECT_EQ(row.bytes, kSessionBytesFirst + kBellsBytesFirst + 8192);
}

TEST(Lists, EverySegmentHasAHolder) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  shell.publish(one, "t");
  const Answer answer = shell.call(one, "segments");
  const auto& rows = std::get<SegmentList>(*answer.report).rows;
  ASSERT_EQ(rows.size(), 4U);
  EXPECT_EQ(rows[0].facts.kind, shm::SegmentKind::kRoster);
  EXPECT_EQ(rows[0].pid, 0);
  for (std::size_t i = 1; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i].pid, 1001);
    EXPECT_EQ(rows[i].process, "process-1");
  }
  EXPECT_EQ(rows[3].topic, "t");
  // The lane of a dead publisher still says whose it was.
  shell.end(1);
  const Answer after = shell.call(shell.connect(), "segments", {{"limit", 1}, {"after", "1"}});
  EXPECT_EQ(std::get<SegmentList>(*after.report).rows.at(0).process, "process-1");
  EXPECT_FALSE(std::get<SegmentList>(*after.report).more);
  const Answer first = shell.call(shell.connect(), "segments", {{"limit", 1}});
  EXPECT_TRUE(std::get<SegmentList>(*first.report).more);
  EXPECT_EQ(shell.call(shell.connect(), "segments", {{"after", "?"}}).error, "invalid");
}

TEST(Lists, StatsAddUp) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  shell.publish(one, "t");
  shell.publish(one, "u");
  shell.subscribe(one, "t");
  const Answer answer = shell.call(one, "stats");
  const auto& stats = std::get<Stats>(*answer.report);
  EXPECT_EQ(stats.sessions, 1U);
  EXPECT_EQ(stats.topics, 2U);
  EXPECT_EQ(stats.lanes, 2U);
  EXPECT_EQ(stats.publishers, 2U);
  EXPECT_EQ(stats.subscribers, 1U);
  EXPECT_EQ(stats.segments, 5U);
  EXPECT_EQ(stats.segment_bytes, kRosterBytesFirst + kSessionBytesFirst + kBellsBytesFirst + 2 * 8192);
  EXPECT_EQ(stats.lane_segments.size(), 2U);
  EXPECT_EQ(stats.readers.size(), 1U);
  EXPECT_TRUE(std::holds_alternative<Ping>(*shell.call(one, "ping").report));
}

}  // namespace
}  // namespace holdfast::broker
