// SPDX-License-Identifier: MIT
//
// Publishers: topics and their options, lanes, growth, turning, sealing.
#include <gtest/gtest.h>

#include "tests/daemon/broker/fake_shell.hpp"

namespace holdfast::broker {
namespace {

using nlohmann::json;

TEST(Publisher, OpensALane) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  const Answer answer = shell.call(one, "publisher.open", {{"topic", "camera/left"}});
  ASSERT_TRUE(answer.ok()) << answer.sentence;
  const json& lane = answer.result["lane"];
  EXPECT_EQ(lane["bytes"], 8192);
  EXPECT_EQ(lane["reserve_bytes"], kLaneBytesDefault);
  EXPECT_EQ(lane["sealed"], false);
  EXPECT_EQ(lane["board"], shm::kBoardsOffset);
  EXPECT_EQ(answer.result["bells_bytes"], kBellsBytesFirst);
  EXPECT_EQ(answer.result["topic"]["ring"], 64);
  EXPECT_TRUE(answer.descriptors.at(0).writable);
  const std::size_t created = shell.find<CreateSegment>();
  const auto& create = std::get<CreateSegment>(shell.log.at(created));
  EXPECT_EQ(create.ring, 64U);
  EXPECT_EQ(create.chunks_max, 64U);
  EXPECT_EQ(create.facts.lane, lane["lane"].get<LaneId>());
  EXPECT_EQ(create.pid, 1001);
}

TEST(Publisher, NamesAreChecked) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  for (const char* name : {"", "a//b", "$x"}) {
    const Answer answer = shell.call(one, "publisher.open", {{"topic", name}});
    EXPECT_EQ(answer.error, "invalid") << name;
    EXPECT_EQ(answer.numbers["parameter"], "topic");
  }
  EXPECT_EQ(shell.call(one, "publisher.open").error, "invalid");
  EXPECT_EQ(shell.call(one, "publisher.open", {{"topic", "t"}, {"options", 3}}).error, "invalid");
  EXPECT_TRUE(shell.tables().topics.empty());
}

TEST(Publisher, OptionsOfTheFirstHold) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  shell.publish(one, "t", {{"ring", 128}, {"clock", "exact"}, {"depth", 5}});
  const Answer second = shell.call(one, "publisher.open", {{"topic", "t"}, {"options", json::object()}});
  EXPECT_EQ(second.result["topic"]["ring"], 128);
  EXPECT_EQ(second.result["lane"]["bytes"], 4096 + 128 * 64);
  const Answer third = shell.call(one, "publisher.open", {{"topic", "t"}, {"options", {{"ring", 64}}}});
  EXPECT_EQ(third.error, "mismatch");
  EXPECT_EQ(third.numbers, json({{"option", "ring"}, {"topic", 128}, {"asked", 64}}));
}

TEST(Publisher, TypesMustAgree) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  shell.publish(one, "t");
  shell.publish(one, "t", {{"type", {{"name", "point"}, {"bytes", 16}, {"align", 8}}}});
  EXPECT_EQ(shell
                .call(one, "publisher.open",
                      {{"topic", "t"}, {"options", {{"type", {{"name", "line"}, {"bytes", 16}, {"align", 8}}}}}})
                .error,
            "mismatch");
  shell.publish(one, "t");
}

TEST(Publisher, AnExclusiveOneNamesItsHolder) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  const ConnectionId two = shell.client();
  const HandleId holder = shell.publish(one, "t", {{"exclusive", true}});
  const Answer answer = shell.call(two, "publisher.open", {{"topic", "t"}});
  EXPECT_EQ(answer.error, "exists");
  EXPECT_EQ(answer.numbers["holder"], json({{"session", 1}, {"pid", 1001}, {"name", "process-1"}}));
  EXPECT_NE(answer.sentence.find("process-1"), std::string::npos);
  EXPECT_TRUE(shell.call(one, "close", {{"handle", holder}}).ok());
  shell.publish(two, "t");
}

TEST(Publisher, BytesMaxMustHoldTheRing) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  const Answer answer = shell.call(one, "publisher.open", {{"topic", "t"}, {"options", {{"bytes_max", 4096}}}});
  EXPECT_EQ(answer.error, "invalid");
  EXPECT_EQ(answer.numbers["parameter"], "options.bytes_max");
  const Answer exact = shell.call(one, "publisher.open", {{"topic", "t"}, {"options", {{"bytes_max", 8193}}}});
  EXPECT_EQ(exact.result["lane"]["reserve_bytes"], 12288);
}

TEST(Publisher, WithoutMembarrierTheLaneSaysSo) {
  FakeShell shell;
  const ConnectionId one = shell.connect();
  shell.hello(one, false);
  shell.publish(one, "t");
  const auto& flags = std::get<StoreFlags>(shell.log.at(shell.find<StoreFlags>()));
  EXPECT_EQ(flags.flags, shm::kRosterFullFences);
}

TEST(Publisher, NamedAcrossUidsIsTheBrokersToAllow) {
  BrokerSetup setup;
  setup.uid = 1000;
  FakeShell shell(setup);
  const ConnectionId other = shell.client(0);
  EXPECT_EQ(shell.call(other, "publisher.open", {{"topic", "t"}, {"options", {{"backing", "named"}}}}).error, "denied");
  EXPECT_TRUE(shell.tables().topics.empty());
  const ConnectionId own = shell.client(1000);
  shell.publish(own, "t", {{"backing", "named"}});
  const Answer answer = shell.call(other, "publisher.open", {{"topic", "t"}});
  EXPECT_EQ(answer.result["lane"]["sealed"], false);
}

TEST(Publisher, ASealedLaneIsShownWhenItIsMapped) {
  BrokerSetup setup;
  setup.uid = 1000;
  FakeShell shell(setup);
  const ConnectionId reader = shell.client(1000);
  const HandleId subscriber = shell.subscribe(reader, "t", "lossless");
  const ConnectionId writer = shell.client(0);  // another uid than the broker's: sealed
  const Answer opened = shell.call(writer, "publisher.open", {{"topic", "t"}});
  ASSERT_TRUE(opened.ok()) << opened.sentence;
  EXPECT_EQ(opened.result["lane"]["sealed"], true);
  const HandleId publisher = opened.result["handle"];
  EXPECT_FALSE(shell.lane(shell.lane_of(publisher)).facts.shown);
  // The subscriber has its record already, and does not hear of the lane.
  EXPECT_EQ(shell.lane(shell.lane_of(publisher)).readers.size(), 1U);
  EXPECT_TRUE(shell.call(reader, "subscriber.lanes", {{"handle", subscriber}}).result["lanes"].empty());
  // Who subscribes in between gets one, too.
  const HandleId late = shell.subscribe(reader, "t", "lossless");
  EXPECT_TRUE(shell.call(writer, "publisher.mapped", {{"handle", publisher}}).ok());
  EXPECT_LT(shell.find<SealSegment>(), shell.find<BumpChanges>());
  for (const HandleId handle : {subscriber, late}) {
    const Answer lanes = shell.call(reader, "subscriber.lanes", {{"handle", handle}});
    ASSERT_EQ(lanes.result["lanes"].size(), 1U);
    EXPECT_EQ(lanes.result["lanes"][0]["fresh"], true);
  }
  // Once more is no error.
  EXPECT_TRUE(shell.call(writer, "publisher.mapped", {{"handle", publisher}}).ok());
  EXPECT_EQ(shell.count<SealSegment>(), 0U);
  EXPECT_EQ(shell.call(writer, "publisher.mapped", {{"handle", 12345}}).error, "not_found");
}

TEST(Publisher, AFailedSealShowsNothing) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  const HandleId publisher = shell.publish(one, "t", {{"backing", "sealed"}});
  shell.failure.failure = control::Failure::kSystem;
  shell.failure.call = "fcntl";
  shell.failure.error = 16;
  shell.fail_at = 1;
  const Answer answer = shell.call(one, "publisher.mapped", {{"handle", publisher}});
  EXPECT_EQ(answer.error, "system");
  EXPECT_EQ(answer.numbers["errno"], 16);
  EXPECT_FALSE(shell.lane(shell.lane_of(publisher)).facts.shown);
  EXPECT_TRUE(shell.call(one, "publisher.mapped", {{"handle", publisher}}).ok());
}

TEST(Publisher, ALaneThatWasNeverShownGoesWithItsPublisher) {
  for (const std::int64_t linger_ms : {0, 1000, -1}) {
    FakeShell shell;
    const ConnectionId reader = shell.client();
    shell.subscribe(reader, "t", "lossless");
    const ConnectionId writer = shell.client();
    const HandleId publisher = shell.publish(writer, "t", {{"backing", "sealed"}, {"linger_ms", linger_ms}});
    EXPECT_TRUE(shell.call(writer, "close", {{"handle", publisher}}).ok());
    EXPECT_TRUE(shell.tables().lanes.empty());
    EXPECT_EQ(shell.tables().topics.size(), 1U);
  }
  FakeShell alone;
  const ConnectionId writer = alone.client();
  alone.publish(writer, "t", {{"backing", "sealed"}});
  alone.end(1);
  EXPECT_TRUE(alone.tables().topics.empty());
}

TEST(Growth, AddsToTheLane) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  const HandleId publisher = shell.publish(one, "t", {{"bytes_max", 65536}});
  const Answer answer = shell.call(one, "lane.grow", {{"handle", publisher}, {"bytes", 8192}});
  EXPECT_EQ(answer.result, json({{"size", 16384}}));
  // Row 16: memory, size, reply.
  EXPECT_LT(shell.find<GrowSegment>(), shell.find<StoreSize>());
  EXPECT_LT(shell.find<StoreSize>(), shell.find<Reply>());
  const Answer full = shell.call(one, "lane.grow", {{"handle", publisher}, {"bytes", 65536}});
  EXPECT_EQ(full.error, "quota");
  EXPECT_EQ(full.numbers, json({{"asked_bytes", 65536}, {"used_bytes", 16384}, {"limit_bytes", 65536}}));
  EXPECT_EQ(shell.call(one, "lane.grow", {{"handle", publisher}, {"bytes", 4097}}).error, "invalid");
  EXPECT_EQ(shell.call(one, "lane.grow", {{"handle", publisher}, {"bytes", 0}}).error, "invalid");
  EXPECT_EQ(shell.call(one, "lane.grow", {{"handle", 99}, {"bytes", 4096}}).error, "not_found");
}

TEST(Growth, TakesItsTimeWhileOthersAreServed) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  const HandleId publisher = shell.publish(one, "t");
  shell.hold_growth = true;
  (void)shell.call(one, "lane.grow", {{"handle", publisher}, {"bytes", 8192}});
  EXPECT_EQ(shell.call(one, "lane.grow", {{"handle", publisher}, {"bytes", 4096}}).error, "busy");
  const ConnectionId two = shell.client();
  shell.subscribe(two, "t");
  shell.release_growth();
  EXPECT_EQ(std::get<Reply>(shell.log.at(shell.find<Reply>())).result, json({{"size", 16384}}));
}

TEST(Growth, OfALaneThatIsGoneIsToldSo) {
  for (const bool fails : {false, true}) {
    FakeShell shell;
    const ConnectionId one = shell.client();
    const HandleId publisher = shell.publish(one, "t", {{"linger_ms", 0}});
    shell.hold_growth = true;
    (void)shell.call(one, "lane.grow", {{"handle", publisher}, {"bytes", 8192}});
    EXPECT_TRUE(shell.call(one, "close", {{"handle", publisher}}).ok());
    EXPECT_TRUE(shell.tables().lanes.empty());
    shell.failure.failure = control::Failure::kSystem;
    shell.fail_at = fails ? 1 : 0;
    shell.release_growth();
    EXPECT_EQ(shell.count<ReplyError>(), 1U);
  }
}

TEST(Growth, FailsWithoutATrace) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  const HandleId publisher = shell.publish(one, "t");
  shell.failure.failure = control::Failure::kNoMemory;
  shell.failure.asked_bytes = 8192;
  shell.failure.free_bytes = 100;
  shell.fail_at = 1;
  const Answer answer = shell.call(one, "lane.grow", {{"handle", publisher}, {"bytes", 8192}});
  EXPECT_EQ(answer.error, "no_memory");
  EXPECT_EQ(answer.numbers, json({{"asked_bytes", 8192}, {"free_bytes", 100}}));
  EXPECT_EQ(shell.call(one, "lane.grow", {{"handle", publisher}, {"bytes", 4096}}).result, json({{"size", 12288}}));
}

TEST(Turn, AStalledReaderBecomesDropOldest) {
  FakeShell shell;
  const ConnectionId writer = shell.client();
  const ConnectionId reader = shell.client();
  const HandleId publisher = shell.publish(writer, "t");
  const HandleId subscriber = shell.subscribe(reader, "t", "lossless");
  shell.cursor = 5;
  const auto turn = [&](std::uint64_t entry, std::uint64_t cursor) {
    const Answer answer =
        shell.call(writer, "lane.turn", {{"handle", publisher}, {"entry", entry}, {"cursor", cursor}});
    EXPECT_TRUE(answer.ok()) << answer.sentence;
    return answer.result["turned"].get<bool>();
  };
  EXPECT_FALSE(turn(0, 4)) << "it has moved on";
  EXPECT_FALSE(turn(1, 5)) << "nobody is there";
  EXPECT_FALSE(turn(500, 5));
  EXPECT_TRUE(turn(0, 5));
  // Row 14b: the mode, then the writer's bell.
  EXPECT_LT(shell.find<StoreEntry>(), shell.find<RingBells>());
  EXPECT_LT(shell.find<RingBells>(), shell.find<Reply>());
  EXPECT_TRUE(shell.lane(shell.lane_of(publisher)).readers.at(subscriber).facts.turned);
  EXPECT_FALSE(turn(0, 5)) << "it is drop-oldest already";
  shell.subscribe(reader, "t");
  EXPECT_FALSE(turn(1, 5)) << "never was lossless";
  EXPECT_EQ(shell.call(reader, "lane.turn", {{"handle", publisher}, {"entry", 0}, {"cursor", 5}}).error, "not_found");
}

TEST(Close, NeedsAHandleOfOnesOwn) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  const ConnectionId two = shell.client();
  const HandleId publisher = shell.publish(one, "t");
  EXPECT_EQ(shell.call(two, "close", {{"handle", publisher}}).error, "not_found");
  EXPECT_EQ(shell.call(one, "close", {{"handle", 99}}).error, "not_found");
  EXPECT_EQ(shell.call(one, "close").error, "invalid");
  EXPECT_TRUE(shell.call(one, "close", {{"handle", publisher}}).ok());
  EXPECT_EQ(shell.call(one, "close", {{"handle", publisher}}).error, "not_found");
}

TEST(Limits, LanesOfATopic) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  shell.audits = false;
  HandleId last = 0;
  for (std::size_t i = 0; i < kLanesPerTopicMax; ++i) last = shell.publish(one, "t");
  shell.audit();
  const Answer answer = shell.call(one, "publisher.open", {{"topic", "t"}});
  EXPECT_EQ(answer.error, "busy");
  EXPECT_EQ(answer.numbers["limit"], kLanesPerTopicMax);
  // A lane that has ended and lingers goes first.
  EXPECT_TRUE(shell.call(one, "close", {{"handle", last}}).ok());
  EXPECT_TRUE(shell.call(one, "publisher.open", {{"topic", "t"}}).ok());
  EXPECT_EQ(shell.call(one, "publisher.open", {{"topic", "t"}}).error, "busy");
  shell.audit();
}

}  // namespace
}  // namespace holdfast::broker
