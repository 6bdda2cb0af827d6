// SPDX-License-Identifier: MIT
//
// SIGKILL of a subscriber, a publisher and the broker: the others go on, and nothing is left.
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/integration/broker.hpp"
#include "tests/integration/payload.hpp"
#include "tests/integration/remote_client.hpp"

namespace holdfast::integration {
namespace {

TEST(Deaths, PinsOfAKilledSubscriberAreGoneAtOnce) {
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("killed");
  RemoteClient steady(broker);
  ASSERT_EQ(steady.subscribe("killed").at("code"), HF_OK);
  steady.begin_taking_until_ended();
  double slowest = 0;
  for (std::uint32_t round = 0; round < 5; ++round) {
    RemoteClient victim(broker);
    ASSERT_EQ(victim.subscribe("killed").at("code"), HF_OK);
    ASSERT_EQ(publisher.wait_for_subscribers(2, kSoon).or_throw(), Status::kOk);
    for (std::uint32_t i = 0; i < 30; ++i) publish_sample(publisher, 5000, round * 30 + i, kSoon);
    EXPECT_EQ(victim.hold(30).samples, 30u);
    const auto begin = now();
    victim.kill();
    ASSERT_TRUE(eventually([&] { return publisher.subscriber_count() == 1; }));
    slowest = std::max(slowest, milliseconds_since(begin));
    for (std::uint32_t i = 0; i < 200; ++i) ASSERT_EQ(publish_sample(publisher, 5000, i, kSoon), Status::kOk);
  }
  std::printf("from SIGKILL to the roster without the reader: %.2f ms at most (promised: 100)\n", slowest);
  RecordProperty("slowest_ms", std::to_string(slowest));
  EXPECT_LT(slowest, 2000) << "100 ms are promised; this is a busy machine's bound";
  publisher.close();
  const Seen seen = steady.finish_taking();
  EXPECT_EQ(seen.samples, 5u * 230);
  EXPECT_EQ(seen.torn + seen.disorder + seen.missed, 0u) << "the others never notice";
}

TEST(Deaths, PublisherKilledWithALoanOpenLosesNothingThatItPublished) {
  PrivateBroker broker;
  std::vector<std::unique_ptr<RemoteClient>> readers;
  for (int i = 0; i < 3; ++i) {
    readers.push_back(std::make_unique<RemoteClient>(broker));
    ASSERT_EQ(readers.back()->subscribe("handover").at("code"), HF_OK);
    readers.back()->begin_taking_until_ended(2);
  }
  std::optional<RemoteClient> first(broker);
  ASSERT_EQ(first->open_publisher("handover").at("code"), HF_OK);
  first->publish(300, 40'000, 1);
  first->loan(kMiB);
  first->kill();
  first.reset();
  RemoteClient second(broker);
  ASSERT_EQ(second.open_publisher("handover").at("code"), HF_OK);
  second.publish(200, 40'000, 301);
  second.close_publisher();
  for (auto& reader : readers) {
    const Seen seen = reader->finish_taking();
    EXPECT_EQ(seen.samples, 500u);
    EXPECT_EQ(seen.torn + seen.disorder + seen.missed + seen.corrupt, 0u);
    EXPECT_EQ(seen.aborted, 1u);
    EXPECT_EQ(seen.finished, 1u);
  }
}

TEST(Deaths, DataFlowsOnWithoutTheBroker) {
  PrivateBroker broker;
  std::vector<std::unique_ptr<RemoteClient>> readers;
  RemoteClient writer(broker);
  ASSERT_EQ(writer.open_publisher("orphans").at("code"), HF_OK);
  for (int i = 0; i < 3; ++i) {
    readers.push_back(std::make_unique<RemoteClient>(broker));
    ASSERT_EQ(readers.back()->subscribe("orphans").at("code"), HF_OK);
    readers.back()->begin_taking_until_ended();
  }
  writer.publish(16, kMiB, 1);
  writer.drain();
  broker.kill();
  writer.publish(64, kMiB, 17);
  writer.publish(1000, 20, 81);
  writer.drain();
  writer.close_publisher();
  for (auto& reader : readers) {
    const Seen seen = reader->finish_taking();
    EXPECT_EQ(seen.samples, 1080u);
    EXPECT_EQ(seen.bytes, 80 * kMiB + 20'000);
    EXPECT_EQ(seen.torn + seen.disorder + seen.missed + seen.corrupt, 0u);
    EXPECT_EQ(seen.finished, 1u) << "the state of the lane is in its memory";
  }
}

TEST(Deaths, WithoutABrokerRequestsFailWithASentenceAndHandlesStay) {
  PrivateBroker broker;
  Client client = broker.client("impatient", milliseconds(300));
  Publisher publisher = client.publisher_or_throw("gone");
  Subscriber subscriber = client.subscriber_or_throw("gone");
  publish_sample(publisher, 5000, 1);
  broker.kill();
  for (int i = 0; i < 2; ++i) {
    const auto ping = client.ping();
    ASSERT_FALSE(ping);
    EXPECT_EQ(ping.error().code, HF_E_NO_BROKER);
    EXPECT_NE(ping.error().sentence.find(broker.socket()), std::string::npos) << ping.error().sentence;
    const auto opened = client.publisher("gone/too");
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().code, HF_E_NO_BROKER);
  }
  ClientOptions options;
  options.socket = broker.socket();
  const auto connected = Client::connect(options);
  ASSERT_FALSE(connected);
  EXPECT_EQ(connected.error().code, HF_E_NO_BROKER);
  EXPECT_NE(connected.error().sentence.find(broker.socket()), std::string::npos) << connected.error().sentence;
  View view;
  EXPECT_EQ(subscriber.take(view, kSoon).or_throw(), Status::kOk);
  EXPECT_TRUE(sample_is_whole(view));
  publish_sample(publisher, 5000, 2);
  EXPECT_EQ(subscriber.take(view, kSoon).or_throw(), Status::kOk);
  auto large = publisher.loan(20 * kMiB, 0, kLook);
  ASSERT_FALSE(large) << "growing needs the broker";
  EXPECT_EQ(large.error().code, HF_E_NO_BROKER) << large.error().sentence;
}

TEST(Deaths, NewBrokerEndsTheSessionsOfTheDead) {
  PrivateBroker broker;
  const std::size_t files_of_a_broker = broker.shm_files().size();
  std::optional<RemoteClient> dead(broker);
  std::optional<RemoteClient> alive(broker);
  std::optional<RemoteClient> reader(broker);
  for (RemoteClient* client : {&*dead, &*alive})
    ASSERT_EQ(client->open_publisher(client == &*dead ? "dead" : "alive").at("code"), HF_OK);
  ASSERT_EQ(reader->subscribe("alive").at("code"), HF_OK);
  dead->publish(10, 100'000);
  alive->publish(10, 100'000);
  EXPECT_EQ(reader->hold(10).samples, 10u);
  broker.kill();
  dead->kill();
  dead.reset();
  const std::size_t files_before = broker.shm_files().size();
  broker.start();
  const std::size_t files_after = broker.shm_files().size();
  EXPECT_LT(files_after, files_before) << "the roster is the same";
  EXPECT_GE(broker.stats().at("swept_segments"), 2) << "session and bells of the dead; its lane lingers";
  EXPECT_EQ(broker.stats().at("epoch"), 2);
  // Those who live go on: held views, the lane, the bells.
  EXPECT_EQ(reader->spoilt_views(), 0u);
  reader->release_views();
  alive->process().channel().send({{"do", "publish"}, {"samples", 100}, {"bytes", 100'000}, {"seed", 1}});
  EXPECT_EQ(reader->take(100).torn, 0u);
  alive->process().channel().receive();
  // New clients are served at once.
  RemoteClient fresh(broker);
  ASSERT_EQ(fresh.open_publisher("fresh").at("code"), HF_OK);
  fresh.publish(5, 100'000);
  alive.reset();
  reader.reset();
  // What they held goes with them: what is left is the broker's own, that of one client with one lane, and two lanes that
  // linger.
  EXPECT_TRUE(eventually([&] { return broker.shm_files().size() <= files_of_a_broker + 5; }));
}

TEST(Deaths, BrokerMayDieAnyNumberOfTimes) {
  PrivateBroker broker;
  for (int i = 1; i <= 5; ++i) {
    EXPECT_EQ(broker.stats().at("epoch"), i);
    RemoteClient writer(broker);
    RemoteClient reader(broker);
    ASSERT_EQ(writer.open_publisher("again").at("code"), HF_OK);
    ASSERT_EQ(reader.subscribe("again").at("code"), HF_OK);
    writer.process().channel().send({{"do", "publish"}, {"samples", 100}, {"bytes", 10'000}, {"seed", 1}});
    EXPECT_EQ(reader.take(100).torn, 0u);
    writer.process().channel().receive();
    if (i % 2 == 0) writer.kill();
    broker.kill();
    broker.start();
  }
}

TEST(Deaths, TerminatedBrokerLeavesNothing) {
  PrivateBroker broker;
  {
    Client client = broker.client();
    Publisher publisher = client.publisher_or_throw("drain");
    publish_sample(publisher, 5000, 1);
    EXPECT_FALSE(broker.shm_files().empty());
  }
  EXPECT_EQ(broker.stop(), 0);
  EXPECT_EQ(broker.shm_files(), std::vector<std::string>());
  broker.start();
}

// The next broker begins at id 1 with a roster of its own: what two processes share from before must not be taken for it.
TEST(Deaths, ClientsOutliveACleanStopAndOpenAgainAtTheNextBroker) {
  PrivateBroker broker;
  RemoteClient writer(broker);
  RemoteClient reader(broker);
  ASSERT_EQ(writer.open_publisher("before").at("code"), HF_OK);
  ASSERT_EQ(reader.subscribe("before").at("code"), HF_OK);
  reader.begin_taking_until_ended();
  writer.publish(100, 5000, 1);
  EXPECT_EQ(broker.stop(), 0);
  broker.start();
  RemoteClient others(broker);  // the same session and lane ids as above
  ASSERT_EQ(others.open_publisher("before").at("code"), HF_OK);
  others.publish(50, 5000, 1000);
  writer.publish(100, 5000, 101);
  writer.drain();
  writer.close_publisher();
  const Seen seen = reader.finish_taking();
  EXPECT_EQ(seen.samples, 200u);
  EXPECT_EQ(seen.torn + seen.disorder + seen.missed + seen.corrupt, 0u);
  EXPECT_EQ(seen.finished, 1u);
  RemoteClient late(broker);
  ASSERT_EQ(late.subscribe("before").at("code"), HF_OK);
  late.begin_taking_until_ended();
  others.publish(50, 5000, 2000);
  others.close_publisher();
  EXPECT_EQ(late.finish_taking().samples, 50u);
}

TEST(Deaths, RequestThatIsNotAnsweredInTimeCostsOnlyItself) {
  PrivateBroker broker;
  Client client = broker.client("impatient", milliseconds(1'000));
  Publisher publisher = client.publisher_or_throw("late");
  Subscriber subscriber = client.subscriber_or_throw("late");
  const nlohmann::json before = resources(broker);
  broker.pause();
  const auto large = publisher.loan(20 * kMiB, 0, kLook);
  ASSERT_FALSE(large);
  EXPECT_EQ(large.error().code, HF_E_NO_BROKER);
  EXPECT_NE(large.error().sentence.find("lane.grow"), std::string::npos) << large.error().sentence;
  PublisherOptions exclusive;
  exclusive.exclusive = true;
  EXPECT_FALSE(client.publisher("late/too", exclusive));
  EXPECT_FALSE(client.subscriber("late/too"));
  broker.resume();
  // In their order, so that this answer comes after the late ones.
  ASSERT_TRUE(eventually([&] { return bool(client.ping()); }));
  // What was opened for them is closed again: else this would find itself in its way.
  {
    Publisher again = client.publisher_or_throw("late/too", exclusive);
  }
  ASSERT_TRUE(eventually([&] { return bool(client.ping()); }));
  nlohmann::json after = resources(broker);
  for (const char* count : {"sessions", "publishers", "subscribers"}) EXPECT_EQ(after[count], before[count]) << count;
  // And the lane has grown behind our back.
  ASSERT_EQ(publish_sample(publisher, 20 * kMiB, 1, kSoon), Status::kOk);
  View view;
  ASSERT_EQ(subscriber.take(view, kSoon).or_throw(), Status::kOk);
  EXPECT_TRUE(sample_is_whole(view));
}

}  // namespace
}  // namespace holdfast::integration
