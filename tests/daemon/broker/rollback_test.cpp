// SPDX-License-Identifier: MIT
//
// A request that fails uses nothing up, whichever of its steps fails. FakeShell checks after every event that tables,
// files, rows and roster say the same; here every answered action of every request fails once, in every way.
#include <functional>

#include <gtest/gtest.h>

#include "tests/daemon/broker/fake_shell.hpp"

namespace holdfast::broker {
namespace {

using nlohmann::json;

struct Held {
  std::size_t sessions, topics, lanes, publishers, subscribers, segments;
  std::uint64_t records;
  bool operator==(const Held&) const = default;
};

Held held(const FakeShell& shell) {
  const Tables& tables = shell.tables();
  Held all{tables.sessions.size(),
           tables.topics.size(),
           tables.lanes.size(),
           tables.publishers.size(),
           tables.subscribers.size(),
           tables.segments.size(),
           0};
  for (const auto& [id, session] : tables.sessions) all.records += session.records.given_bytes();
  return all;
}

// Makes the n-th answered action of `request` fail, for each n and each kind of failure, and then lets it succeed.
void fail_each(const std::function<void(FakeShell&)>& prepare, const std::function<Answer(FakeShell&)>& request) {
  std::size_t steps = 0;
  {
    FakeShell shell;
    prepare(shell);
    const std::size_t before = shell.answered;
    ASSERT_TRUE(request(shell).ok());
    steps = shell.answered - before;
  }
  ASSERT_GT(steps, 0U);
  for (const auto failure : {control::Failure::kNoMemory, control::Failure::kBusy, control::Failure::kSystem}) {
    for (std::size_t n = 1; n <= steps; ++n) {
      FakeShell shell;
      prepare(shell);
      const Held before = held(shell);
      shell.failure.failure = failure;
      shell.failure.call = "posix_fallocate";
      shell.fail_at = static_cast<int>(n);
      const Answer answer = request(shell);
      EXPECT_EQ(answer.error, control::error_row(failure).name) << "step " << n;
      EXPECT_TRUE(held(shell) == before) << "step " << n;
      const Answer again = request(shell);
      EXPECT_TRUE(again.ok()) << "step " << n << ": " << again.sentence;
    }
  }
}

TEST(Rollback, Hello) {
  ConnectionId one = 0;
  fail_each([&](FakeShell& shell) { one = shell.connect(); },
            [&](FakeShell& shell) { return shell.call(one, "hello", {{"protocol", 1}, {"layout", 1}}); });
}

TEST(Rollback, FirstPublisher) {
  ConnectionId one = 0;
  fail_each([&](FakeShell& shell) { one = shell.client(); },
            [&](FakeShell& shell) { return shell.call(one, "publisher.open", {{"topic", "t"}}); });
}

// Roster, boards and the records of many subscribers all have to grow, and the lane comes last.
TEST(Rollback, PublisherThatMakesEverythingGrow) {
  ConnectionId writer = 0;
  fail_each(
      [&](FakeShell& shell) {
        writer = shell.client();
        for (std::uint64_t i = 0; i < shm::kPage / sizeof(shm::Board); ++i)
          shell.publish(writer, "boards/" + std::to_string(i));
        // Two blocks to a topic with a publisher: the roster is full to the last block but one.
        const ConnectionId reader = shell.client();
        for (int i = 0; i < 30; ++i) shell.subscribe(reader, "t", "lossless");
        for (int i = 0; i < 12; ++i) shell.subscribe(shell.client(), "t");
      },
      [&](FakeShell& shell) {
        return shell.call(writer, "publisher.open", {{"topic", "t"}, {"options", {{"chunks_max", 4096}}}});
      });
}

TEST(Rollback, SubscriberOfManyLanes) {
  ConnectionId reader = 0;
  fail_each(
      [&](FakeShell& shell) {
        const ConnectionId writer = shell.client();
        for (int i = 0; i < 40; ++i) shell.publish(writer, "t");
        const ConnectionId others = shell.client();
        for (int i = 0; i < 12; ++i) shell.subscribe(others, "t");
        reader = shell.client();
      },
      [&](FakeShell& shell) { return shell.call(reader, "subscriber.open", {{"topic", "t"}}); });
}

TEST(Rollback, ATopicKeepsItsOptionsUndecided) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  shell.subscribe(one, "t");
  shell.failure.failure = control::Failure::kNoMemory;
  shell.fail_at = 1;
  EXPECT_EQ(
      shell
          .call(one, "publisher.open",
                {{"topic", "t"}, {"options", {{"ring", 128}, {"type", {{"name", "p"}, {"bytes", 8}, {"align", 8}}}}}})
          .error,
      "no_memory");
  const TopicFacts& topic = shell.tables().topics.begin()->second.facts;
  EXPECT_FALSE(topic.decided);
  EXPECT_EQ(topic.options.ring, 64U);
  EXPECT_TRUE(topic.type.name.empty());
  shell.publish(one, "t", {{"ring", 256}});
}

TEST(Rollback, AMismatchSettlesNoType) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  shell.publish(one, "t");
  EXPECT_EQ(
      shell
          .call(one, "publisher.open",
                {{"topic", "t"}, {"options", {{"ring", 128}, {"type", {{"name", "p"}, {"bytes", 8}, {"align", 8}}}}}})
          .error,
      "mismatch");
  EXPECT_TRUE(shell.tables().topics.begin()->second.facts.type.name.empty());
}

// An idle lane whose time is over when a failed subscriber gives it back goes with it, and its topic too.
TEST(Rollback, OfALateSubscriberWhoseLaneIsDue) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  const HandleId publisher = shell.publish(one, "t", {{"chunks_max", 4096}, {"linger_ms", 500}});
  EXPECT_TRUE(shell.call(one, "close", {{"handle", publisher}}).ok());
  shell.now += 500;  // the timer has not rung yet
  shell.failure.failure = control::Failure::kSystem;
  shell.fail_at = 1;
  // The record of 4 096 chunks makes the session segment grow, and that fails.
  const Answer answer = shell.call(one, "subscriber.open", {{"topic", "t"}, {"start", "oldest"}});
  EXPECT_EQ(answer.error, "system");
  EXPECT_TRUE(shell.tables().topics.empty());
  EXPECT_TRUE(shell.tables().lanes.empty());
}

TEST(Rollback, GrownSegmentsAreUsedByTheNextRequest) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  shell.subscribe(one, "t");
  shell.failure.failure = control::Failure::kNoMemory;
  shell.fail_at = 2;  // the session segment has grown, the lane fails
  const json open = {{"topic", "t"}, {"options", {{"chunks_max", 8192}}}};
  EXPECT_EQ(shell.call(one, "publisher.open", open).error, "no_memory");
  const std::uint64_t bytes = shell.segments.at(shell.tables().sessions.at(1).facts.records);
  EXPECT_GT(bytes, kSessionBytesFirst);
  EXPECT_TRUE(shell.call(one, "publisher.open", open).ok());
  EXPECT_EQ(shell.segments.at(shell.tables().sessions.at(1).facts.records), bytes);
}

}  // namespace
}  // namespace holdfast::broker
