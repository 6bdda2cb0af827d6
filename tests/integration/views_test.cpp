// SPDX-License-Identifier: MIT
//
// What you hold stays valid: not overwritten, not unmapped, not recycled, whatever becomes of everybody else.
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "tests/integration/broker.hpp"
#include "tests/integration/payload.hpp"
#include "tests/integration/process_state.hpp"
#include "tests/integration/remote_client.hpp"

namespace holdfast::integration {
namespace {

constexpr std::uint64_t kHeld = 40;
constexpr std::uint64_t kLater = 10'000;

// So that even who may be lapped finds as many as are held here.
PublisherOptions deep() {
  PublisherOptions options;
  options.depth = 48;
  return options;
}

std::uint64_t spoilt(std::vector<View>& views) {
  std::uint64_t count = 0;
  for (View& view : views) count += sample_is_whole(view) ? 0 : 1;
  return count;
}

std::vector<View> hold(Subscriber& subscriber, std::uint64_t count) {
  std::vector<View> views(count);
  for (View& view : views)
    if (subscriber.take(view, kSoon).or_throw() != Status::kOk) throw Broken("no sample to hold");
  return views;
}

// Sizes that share chunks with those that are held.
std::uint64_t size_of(std::uint32_t seed) {
  constexpr std::uint64_t kSizes[] = {33, 100, 1000, 4096, 5000, 64, 20'000, 70'000};
  return kSizes[seed % 8];
}

TEST(Views, OutliveTenThousandLaterSamplesInEveryProcess) {
  PrivateBroker broker;
  Client client = broker.client();
  for (const bool lossless : {false, true}) {
    const std::string topic = lossless ? "later/lossless" : "later/drop";
    Publisher publisher = client.publisher_or_throw(topic, deep());
    SubscriberOptions options;
    options.lossless = lossless;
    Subscriber subscriber = client.subscriber_or_throw(topic, options);
    RemoteClient other(broker);
    RemoteClient reading(broker);
    ASSERT_EQ(other.subscribe(topic, false).at("code"), HF_OK);
    ASSERT_EQ(reading.subscribe(topic, true).at("code"), HF_OK);
    for (std::uint32_t i = 0; i < kHeld; ++i) publish_sample(publisher, size_of(i), i, kSoon);
    std::vector<View> views = hold(subscriber, kHeld);
    EXPECT_EQ(other.hold(kHeld).samples, kHeld);
    subscriber.close();
    reading.begin_taking_until_ended();
    for (std::uint32_t i = 0; i < kLater; ++i)
      ASSERT_EQ(publish_sample(publisher, size_of(i * 7), i + 1'000'000, kSoon), Status::kOk);
    EXPECT_EQ(spoilt(views), 0u);
    EXPECT_EQ(other.spoilt_views(), 0u);
    publisher.close();
    const Seen seen = reading.finish_taking();
    EXPECT_EQ(seen.samples, kHeld + kLater);
    EXPECT_EQ(seen.torn + seen.disorder + seen.missed, 0u);
  }
}

TEST(Views, OutliveSubscriberClientPublisherAndBroker) {
  PrivateBroker broker;
  std::optional<Client> client = broker.client();
  std::optional<Subscriber> subscriber = client->subscriber_or_throw("all");
  std::optional<RemoteClient> writer(broker);
  ASSERT_EQ(writer->open_publisher("all", {{"depth", 48}}).at("code"), HF_OK);
  writer->publish(kHeld, 5000, 1);
  std::vector<View> views = hold(*subscriber, kHeld);
  writer->publish(1000, 5000, 100);
  EXPECT_EQ(spoilt(views), 0u) << "later samples";
  subscriber.reset();
  writer->publish(1000, 5000, 100);
  EXPECT_EQ(spoilt(views), 0u) << "subscriber closed";
  client.reset();
  writer->publish(1000, 5000, 100);
  EXPECT_EQ(spoilt(views), 0u) << "client closed";
  EXPECT_EQ(broker.stats().at("sessions"), 2) << "the session ends with its last view";
  writer->kill();
  writer.reset();
  ASSERT_TRUE(eventually([&] { return broker.stats().at("sessions") == 1; }));
  EXPECT_EQ(spoilt(views), 0u) << "publisher killed";
  broker.kill();
  EXPECT_EQ(spoilt(views), 0u) << "broker killed";
  broker.start();
  EXPECT_EQ(spoilt(views), 0u) << "a new broker has swept";
  views.clear();
}

TEST(Views, LastOneReleasedEndsAClosedSession) {
  PrivateBroker broker;
  const std::size_t mappings = mapping_count();
  const std::size_t descriptors = open_descriptors();
  std::vector<View> views;
  {
    Client client = broker.client();
    Publisher publisher = client.publisher_or_throw("last");
    Subscriber subscriber = client.subscriber_or_throw("last");
    for (std::uint32_t i = 0; i < 5; ++i) publish_sample(publisher, 3000, i);
    views = hold(subscriber, 5);
  }
  EXPECT_EQ(broker.stats().at("sessions"), 1);
  while (!views.empty()) {
    EXPECT_EQ(spoilt(views), 0u);
    std::thread elsewhere([&] { views.pop_back(); });
    elsewhere.join();
  }
  EXPECT_TRUE(eventually([&] { return broker.stats().at("sessions") == 0; }));
  EXPECT_EQ(mapping_count(), mappings);
  EXPECT_EQ(open_descriptors(), descriptors);
}

TEST(Views, ProcessWhoseConnectionWasCutKeepsThem) {
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("cut", deep());
  RemoteClient reader(broker);
  ASSERT_EQ(reader.subscribe("cut", false).at("code"), HF_OK);
  ASSERT_EQ(publisher.wait_for_subscribers(1, kSoon).or_throw(), Status::kOk);
  for (std::uint32_t i = 0; i < kHeld; ++i) publish_sample(publisher, size_of(i), i, kSoon);
  EXPECT_EQ(reader.hold(kHeld).samples, kHeld);
  reader.cut_connection();
  ASSERT_TRUE(eventually([&] {
    const nlohmann::json sessions = broker.request("sessions");
    for (const auto& session : sessions.at("sessions"))
      if (session.at("session") == reader.session()) return session.at("connected") == false;
    return false;
  }));
  for (std::uint32_t i = 0; i < kLater; ++i) publish_sample(publisher, size_of(i * 3), i + 1'000'000, kSoon);
  EXPECT_EQ(publisher.subscriber_count(), 1) << "a process that lost its connection is alive";
  EXPECT_EQ(reader.spoilt_views(), 0u);
  EXPECT_GE(broker.topic("cut").at("subscriptions").at(0).at("lanes").at(0).at("pins"), kHeld);
  // It still takes, from memory; and its process ends it for good.
  reader.release_views();
  EXPECT_GT(reader.take(1).samples, 0u);
  reader.kill();
  EXPECT_TRUE(eventually([&] { return publisher.subscriber_count() == 0; }));
}

TEST(Views, StoppedProcessIsAliveAndKeepsThem) {
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("stopped", deep());
  RemoteClient reader(broker);
  ASSERT_EQ(reader.subscribe("stopped", false).at("code"), HF_OK);
  ASSERT_EQ(publisher.wait_for_subscribers(1, kSoon).or_throw(), Status::kOk);
  for (std::uint32_t i = 0; i < kHeld; ++i) publish_sample(publisher, size_of(i), i, kSoon);
  EXPECT_EQ(reader.hold(kHeld).samples, kHeld);
  reader.pause();
  for (std::uint32_t i = 0; i < kLater; ++i)
    ASSERT_EQ(publish_sample(publisher, size_of(i * 5), i + 1'000'000, kLook), Status::kOk);
  EXPECT_EQ(publisher.subscriber_count(), 1);
  reader.resume();
  EXPECT_EQ(reader.spoilt_views(), 0u);
}

TEST(Views, AreReleasedInAnyOrderByAnyThread) {
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("threads", deep());
  Subscriber subscriber = client.subscriber_or_throw("threads");
  std::uint32_t seed = 0;
  for (int round = 0; round < 200; ++round) {
    for (int i = 0; i < 12; ++i) publish_sample(publisher, size_of(seed), seed, kSoon), ++seed;
    std::vector<View> views = hold(subscriber, 12);
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < 3; ++t)
      threads.emplace_back([&, t] {
        for (std::size_t i = t; i < views.size(); i += 3) {
          EXPECT_TRUE(sample_is_whole(views[views.size() - 1 - i]));
          views[views.size() - 1 - i].release();
        }
      });
    for (std::thread& thread : threads) thread.join();
  }
  EXPECT_LT(broker.stats().at("segment_bytes"), 64u << 20) << "what is released is used again";
}

}  // namespace
}  // namespace holdfast::integration
