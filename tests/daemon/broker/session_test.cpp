// SPDX-License-Identifier: MIT
//
// Connections, hello, who may do what, bells, peers, and how sessions end.
#include <gtest/gtest.h>

#include "tests/daemon/broker/fake_shell.hpp"

namespace holdfast::broker {
namespace {

using nlohmann::json;

const json kHello = {{"protocol", 1}, {"layout", 1}, {"name", "x"}, {"exe", "/x"}, {"membarrier", true}};

TEST(Session, HelloGivesASessionAndItsSegments) {
  BrokerSetup setup;
  setup.epoch = 4;
  setup.session_bytes_max = 1 << 20;
  FakeShell shell(setup);
  const ConnectionId connection = shell.connect();
  const Answer answer = shell.call(connection, "hello", kHello);
  ASSERT_TRUE(answer.ok()) << answer.sentence;
  EXPECT_EQ(answer.result["session"], 1);
  EXPECT_EQ(answer.result["token"], "token-1");
  EXPECT_EQ(answer.result["epoch"], 4);
  EXPECT_EQ(answer.result["quota_bytes_max"], 1 << 20);
  EXPECT_EQ(answer.result["full_fences"], false);
  const json& fds = answer.result["fds"];
  ASSERT_EQ(fds.size(), 3U);
  EXPECT_EQ(fds[0]["kind"], "session");
  EXPECT_EQ(fds[0]["access"], "rw");
  EXPECT_EQ(fds[0]["reserve_bytes"], kSessionReserve);
  EXPECT_EQ(fds[1]["kind"], "bells");
  EXPECT_EQ(fds[1]["reserve_bytes"], kBellsReserve);
  EXPECT_EQ(fds[2]["kind"], "roster");
  EXPECT_EQ(fds[2]["access"], "ro");
  EXPECT_FALSE(answer.descriptors[2].writable);
  EXPECT_EQ(shell.tables().sessions.at(1).facts.pid, 1001);
}

TEST(Session, IdsGoOnWhereTheBrokerBeforeStopped) {
  BrokerSetup setup;
  setup.last_session = 41;
  setup.last_id = 100;
  setup.roster = 101;
  FakeShell shell(setup);
  const ConnectionId connection = shell.connect();
  EXPECT_EQ(shell.hello(connection), 42U);
  EXPECT_GT(shell.tables().sessions.at(42).facts.records, 101U);
}

bool says(const Answer& answer, const char* words) { return answer.sentence.find(words) != std::string::npos; }

TEST(Session, OtherVersionsAreRefusedWithBothNumbers) {
  FakeShell shell;
  const ConnectionId connection = shell.connect();
  json params = kHello;
  params["protocol"] = 2;
  params["something_new"] = 1;
  Answer answer = shell.call(connection, "hello", params);
  EXPECT_EQ(answer.error, "version");
  EXPECT_EQ(answer.numbers["client"], (json{{"protocol", 2}, {"protocol_min", 2}, {"layout", 1}}));
  EXPECT_EQ(answer.numbers["broker"], (json{{"protocol", 1}, {"protocol_min", 1}, {"layout", 1}}));
  EXPECT_TRUE(says(answer, "the client speaks protocol 2 and layout 1, this broker (holdfastd ")) << answer.sentence;
  EXPECT_TRUE(says(answer, ") protocol 1 and layout 1: update the older")) << answer.sentence;
  params = kHello;
  params["layout"] = 7;
  answer = shell.call(connection, "hello", params);
  EXPECT_EQ(answer.error, "version");
  EXPECT_TRUE(says(answer, "speaks protocol 1 and layout 7")) << answer.sentence;
  params = kHello;
  params["protocol_min"] = 2;
  EXPECT_EQ(shell.call(connection, "hello", params).error, "invalid") << "more than `protocol`";
  EXPECT_EQ(shell.call(connection, "hello", {{"layout", 1}}).error, "invalid");
  params = kHello;
  params["uid"] = 0;
  EXPECT_EQ(shell.call(connection, "hello", params).error, "invalid");
  EXPECT_TRUE(shell.tables().sessions.empty());
}

// Of a newer client: what only a newer broker would know is not asked of this one, but may be sent.
TEST(Session, NewerClientThatSpeaksOurProtocolIsServed) {
  FakeShell shell;
  const ConnectionId newer = shell.connect();
  json params = kHello;
  params["protocol"] = 3;
  params["protocol_min"] = 1;
  params["something_new"] = 1;
  const Answer answer = shell.call(newer, "hello", params);
  ASSERT_TRUE(answer.ok()) << answer.sentence;
  EXPECT_EQ(answer.result["protocol"], 1) << "agreed on";
  const json open{{"topic", "t"}, {"new", {1}}, {"options", {{"ring", 8}, {"newer_still", true}}}};
  EXPECT_TRUE(shell.call(newer, "publisher.open", open).ok());
  EXPECT_EQ(shell.call(newer, "session.something").error, "method");
  const ConnectionId same = shell.connect();
  shell.hello(same);
  EXPECT_EQ(shell.call(same, "publisher.open", open).error, "invalid") << "of a client of our own age it is a slip";
}

TEST(Session, LongNamesAreCutBetweenCharacters) {
  FakeShell shell;
  const ConnectionId connection = shell.connect();
  json params = kHello;
  std::string name(kProcessNameBytesMax - 1, 'a');
  params["name"] = name + "\xc3\xa4tail";
  ASSERT_TRUE(shell.call(connection, "hello", params).ok());
  EXPECT_EQ(shell.tables().sessions.at(1).facts.name, name);
}

TEST(Session, OneToAConnection) {
  FakeShell shell;
  const ConnectionId connection = shell.client();
  EXPECT_EQ(shell.call(connection, "hello", kHello).error, "request");
}

TEST(Session, MethodsNeedHello) {
  FakeShell shell;
  const ConnectionId connection = shell.connect();
  for (const char* method :
       {"publisher.open", "publisher.mapped", "subscriber.open", "subscriber.lanes", "subscriber.release", "lane.grow",
        "lane.turn", "peers", "bell.open", "bell.event", "close", "bye"})
    EXPECT_EQ(shell.call(connection, method).error, "hello") << method;
  for (const char* method : {"ping", "stats", "topics", "sessions", "segments"})
    EXPECT_TRUE(shell.call(connection, method).ok()) << method;
  const Answer unknown = shell.call(connection, "fly");
  EXPECT_EQ(unknown.error, "method");
  EXPECT_NE(unknown.sentence.find("publisher.open"), std::string::npos);
}

TEST(Session, UnknownParametersAreRefusedEverywhere) {
  FakeShell shell;
  const ConnectionId connection = shell.client();
  for (const char* method : {"ping", "stats", "topics", "sessions", "segments", "publisher.open", "publisher.mapped",
                             "subscriber.open", "subscriber.lanes", "subscriber.release", "lane.grow", "lane.turn",
                             "peers", "bell.open", "bell.event", "close", "bye"})
    EXPECT_EQ(shell.call(connection, method, {{"no_such", 1}}).error, "invalid") << method;
  EXPECT_EQ(shell.tables().sessions.size(), 1U);
}

TEST(Access, OwnUidRootAndTheGroup) {
  BrokerSetup setup;
  setup.uid = 1000;
  setup.group = 50;
  FakeShell shell(setup);
  EXPECT_TRUE(shell.call(shell.connect(1000), "ping").ok());
  EXPECT_TRUE(shell.call(shell.connect(0), "ping").ok());
  EXPECT_TRUE(shell.call(shell.connect(1001, 50), "ping").ok());
  EXPECT_TRUE(shell.call(shell.connect(1001, 7, {9, 50}), "ping").ok());
  const Answer denied = shell.call(shell.connect(1001, 7, {9}), "ping");
  EXPECT_EQ(denied.error, "denied");
  EXPECT_EQ(denied.numbers["uid"], 1001);
  // The overflow uid is nobody in particular, whatever its groups.
  EXPECT_EQ(shell.call(shell.connect(65534, 50), "ping").error, "denied");
}

TEST(Access, WithoutAGroupOthersAreDenied) {
  BrokerSetup setup;
  setup.uid = 1000;
  FakeShell shell(setup);
  EXPECT_EQ(shell.call(shell.connect(1001, 1000), "hello", kHello).error, "denied");
}

TEST(Access, ConnectionsOfAUidAreBounded) {
  BrokerSetup setup;
  setup.connections_per_uid = 2;
  FakeShell shell(setup);
  shell.connect(0);
  const ConnectionId second = shell.connect(0);
  const ConnectionId third = shell.connect(0);
  EXPECT_TRUE(shell.closed.contains(third));
  EXPECT_FALSE(shell.closed.contains(second));
  shell.feed(Disconnected{third});
  shell.feed(Disconnected{second});
  EXPECT_FALSE(shell.closed.contains(shell.connect(0)));
  // What comes from a connection that was refused is not heard.
  shell.feed(Request{third, 1, "ping", json::object()});
  EXPECT_TRUE(shell.log.empty());
}

TEST(Access, ConnectionsAreBoundedInAll) {
  BrokerSetup setup;
  setup.connections_max = 1;
  FakeShell shell(setup);
  shell.connect(0);
  EXPECT_TRUE(shell.closed.contains(shell.connect(5)));
}

TEST(Session, AreBounded) {
  BrokerSetup setup;
  setup.sessions_max = 1;
  FakeShell shell(setup);
  shell.client();
  const ConnectionId second = shell.connect();
  const Answer answer = shell.call(second, "hello", kHello);
  EXPECT_EQ(answer.error, "busy");
  EXPECT_EQ(answer.numbers["limit"], 1);
  shell.end(1);
  EXPECT_EQ(shell.hello(second), 2U);
}

TEST(Session, HangUpKeepsItUntilItsProcessIsGone) {
  FakeShell shell;
  const ConnectionId connection = shell.client();
  const SessionId session = shell.session_of(connection);
  shell.publish(connection, "t");
  shell.feed(Disconnected{connection});
  ASSERT_EQ(shell.watched.size(), 1U);
  EXPECT_EQ(shell.watched[0], std::pair(session, connection));
  EXPECT_TRUE(shell.tables().sessions.contains(session));
  EXPECT_EQ(shell.tables().publishers.size(), 1U);
  shell.end(session);
  EXPECT_TRUE(shell.tables().sessions.empty());
  EXPECT_TRUE(shell.tables().publishers.empty());
  shell.end(session);  // once more changes nothing
}

// A program may let go of a session and live on: it became another one, or its `bye` came to nobody.
TEST(Session, WithoutAConnectionItEndsWhenNobodyHoldsItsLock) {
  FakeShell shell;
  const ConnectionId connection = shell.client();
  const ConnectionId held = shell.client();
  const SessionId session = shell.session_of(connection);
  EXPECT_FALSE(shell.timer) << "whoever is connected is not asked";
  shell.let_go.insert(session);
  shell.pass(10 * kAskLocksMs);
  EXPECT_TRUE(shell.tables().sessions.contains(session));
  shell.feed(Disconnected{connection});
  EXPECT_FALSE(shell.tables().sessions.contains(session)) << "at the hang-up";
  EXPECT_FALSE(shell.timer);
  const SessionId later = shell.session_of(held);
  shell.feed(Disconnected{held});
  EXPECT_EQ(shell.count<AskLock>(), 1U);
  EXPECT_EQ(shell.timer, shell.now + kAskLocksMs);
  for (int i = 0; i < 3; ++i) {
    shell.pass(kAskLocksMs);
    EXPECT_EQ(shell.count<AskLock>(), 1U) << "as long as it has no connection";
    EXPECT_EQ(shell.timer, shell.now + kAskLocksMs);
  }
  EXPECT_TRUE(shell.tables().sessions.contains(later)) << "somebody holds it";
  shell.let_go.insert(later);
  shell.pass(kAskLocksMs - 1);
  EXPECT_TRUE(shell.tables().sessions.contains(later));
  shell.pass(1);
  EXPECT_TRUE(shell.tables().sessions.empty());
  EXPECT_FALSE(shell.timer);
}

TEST(Session, ThatResumesIsNotAskedAnyMore) {
  FakeShell shell;
  const ConnectionId connection = shell.client();
  const SessionId session = shell.session_of(connection);
  shell.feed(Disconnected{connection});
  const ConnectionId again = shell.connect();
  ASSERT_TRUE(
      shell
          .call(
              again, "resume.begin",
              {{"protocol", 1}, {"layout", 1}, {"session", session}, {"token", "token-" + std::to_string(connection)}})
          .ok());
  shell.pass(kAskLocksMs);
  EXPECT_EQ(shell.count<AskLock>(), 1U) << "its client holds the lock meanwhile";
  ASSERT_TRUE(shell.call(again, "resume.handles", {{"handles", json::array()}}).ok());
  ASSERT_TRUE(shell.call(again, "resume.end").ok());
  EXPECT_FALSE(shell.timer);
}

TEST(Session, HangUpWithoutASessionIsForgotten) {
  FakeShell shell;
  const ConnectionId connection = shell.connect();
  shell.feed(Disconnected{connection});
  EXPECT_TRUE(shell.watched.empty());
  EXPECT_TRUE(shell.tables().connections.empty());
  shell.feed(Disconnected{connection});
}

TEST(Session, ByeEndsItAtOnce) {
  FakeShell shell;
  const ConnectionId connection = shell.client();
  const HandleId publisher = shell.publish(connection, "t");
  const LaneId lane = shell.lane_of(publisher);
  EXPECT_TRUE(shell.call(connection, "bye").ok());
  EXPECT_TRUE(shell.tables().sessions.empty());
  EXPECT_TRUE(shell.closed.contains(connection));
  // Not a death: what it had open ends in good order.
  EXPECT_EQ(shell.lane(lane).facts.state, shm::LaneState::kFinished);
  shell.feed(Disconnected{connection});
  EXPECT_TRUE(shell.watched.empty());
}

TEST(Session, ALostHelloReplyEndsTheSession) {
  FakeShell shell;
  shell.client();
  shell.feed(ReplyLost{1, 0});
  EXPECT_TRUE(shell.tables().sessions.empty());
  EXPECT_EQ(shell.segments.size(), 1U);
}

TEST(Session, ALostReplyClosesItsHandle) {
  FakeShell shell;
  const ConnectionId connection = shell.client();
  const HandleId publisher = shell.publish(connection, "t", {{"linger_ms", 0}});
  const HandleId subscriber = shell.subscribe(connection, "t");
  shell.feed(ReplyLost{1, subscriber});
  EXPECT_TRUE(shell.tables().subscribers.empty());
  shell.feed(ReplyLost{1, publisher});
  EXPECT_TRUE(shell.tables().publishers.empty());
  EXPECT_TRUE(shell.tables().topics.empty());
  shell.feed(ReplyLost{1, publisher});
}

TEST(Session, OthersGetSealedSegments) {
  BrokerSetup setup;
  setup.uid = 1000;
  FakeShell shell(setup);
  shell.client(0);
  shell.client(1000);
  EXPECT_TRUE(shell.tables().segments.at(shell.tables().sessions.at(1).facts.records).sealed);
  EXPECT_FALSE(shell.tables().segments.at(shell.tables().sessions.at(2).facts.records).sealed);
}

TEST(Peers, AreListedWithTheirDescriptors) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  shell.client();
  const Answer answer = shell.call(one, "peers", {{"sessions", {1, 2, 77}}});
  ASSERT_TRUE(answer.ok()) << answer.sentence;
  const json& peers = answer.result["peers"];
  ASSERT_EQ(peers.size(), 3U);
  EXPECT_EQ(peers[1]["alive"], true);
  EXPECT_EQ(peers[1]["session_bytes"], kSessionBytesFirst);
  EXPECT_EQ(peers[2]["alive"], false);
  ASSERT_EQ(answer.descriptors.size(), 4U);
  EXPECT_FALSE(answer.descriptors[2].writable);
  EXPECT_TRUE(answer.descriptors[3].writable);
  EXPECT_EQ(answer.result["fds"][3]["session"], 2);
  EXPECT_EQ(shell.call(one, "peers").error, "invalid");
  EXPECT_EQ(shell.call(one, "peers", {{"sessions", json::array_t(17, 1)}}).error, "invalid");
}

TEST(Bells, AnEventfdIsMadeOnce) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  const ConnectionId two = shell.client();
  EXPECT_EQ(shell.call(two, "bell.event", {{"session", 1}, {"bell", 3}}).error, "not_found");
  const Answer opened = shell.call(one, "bell.open", {{"bell", 3}});
  ASSERT_TRUE(opened.ok()) << opened.sentence;
  EXPECT_EQ(shell.count<OpenEvent>(), 1U);
  const Answer again = shell.call(one, "bell.open", {{"bell", 3}});
  EXPECT_EQ(again.result["event"], opened.result["event"]);
  EXPECT_EQ(shell.count<OpenEvent>(), 0U);
  const Answer rung = shell.call(two, "bell.event", {{"session", 1}, {"bell", 3}});
  EXPECT_EQ(rung.result["event"], opened.result["event"]);
  EXPECT_EQ(rung.descriptors.at(0).event, opened.result["event"].get<std::uint64_t>());
  EXPECT_EQ(shell.call(one, "bell.open", {{"bell", 64}}).error, "invalid");
  EXPECT_EQ(shell.call(two, "bell.event", {{"session", 99}, {"bell", 3}}).error, "not_found");
}

TEST(Bells, NoDescriptorIsAnAnswer) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  shell.failure.failure = control::Failure::kBusy;
  shell.fail_at = 1;
  EXPECT_EQ(shell.call(one, "bell.open", {{"bell", 0}}).error, "busy");
  EXPECT_TRUE(shell.call(one, "bell.open", {{"bell", 0}}).ok());
}

TEST(Bells, EventfdsAreBounded) {
  FakeShell shell;
  shell.audits = false;
  std::size_t opened = 0;
  while (opened < kEventsMax) {
    const ConnectionId connection = shell.client();
    for (std::uint32_t bell = 0; bell < shm::kBellCount && opened < kEventsMax; ++bell, ++opened)
      ASSERT_TRUE(shell.call(connection, "bell.open", {{"bell", bell}}).ok());
  }
  EXPECT_EQ(shell.call(shell.client(), "bell.open", {{"bell", 0}}).error, "busy");
}

// The connections that it ends itself say nothing of those who had them.
TEST(Drain, AsksNoLock) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  const ConnectionId other = shell.client();
  shell.feed(Disconnected{one});
  EXPECT_TRUE(shell.timer);
  shell.feed(Drain{});
  EXPECT_FALSE(shell.timer);
  shell.feed(Disconnected{other});
  EXPECT_EQ(shell.count<AskLock>(), 0U);
  EXPECT_FALSE(shell.timer);
}

TEST(Drain, NothingNewIsOpened) {
  FakeShell shell;
  const ConnectionId one = shell.client();
  const HandleId publisher = shell.publish(one, "t");
  shell.feed(Drain{});
  EXPECT_EQ(shell.call(shell.connect(), "hello", kHello).error, "draining");
  EXPECT_EQ(shell.call(one, "publisher.open", {{"topic", "u"}}).error, "draining");
  EXPECT_EQ(shell.call(one, "subscriber.open", {{"topic", "u"}}).error, "draining");
  EXPECT_TRUE(shell.call(one, "ping").ok());
  EXPECT_TRUE(shell.call(one, "lane.grow", {{"handle", publisher}, {"bytes", 4096}}).ok());
  EXPECT_TRUE(shell.call(one, "close", {{"handle", publisher}}).ok());
}

}  // namespace
}  // namespace holdfast::broker
