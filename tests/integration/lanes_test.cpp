// SPDX-License-Identifier: MIT
//
// Who sees which samples: where subscribers begin, lanes that come and end, several publishers, exclusive ones, and what a
// publisher that is gone leaves for late joiners.
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/integration/broker.hpp"
#include "tests/integration/payload.hpp"
#include "tests/integration/process_state.hpp"
#include "tests/integration/remote_client.hpp"

namespace holdfast::integration {
namespace {

SubscriberOptions from(int start, bool lossless = false) {
  SubscriberOptions options;
  options.start = start;
  options.lossless = lossless;
  return options;
}

// Everything there is to take now: the tags.
std::vector<std::uint32_t> take_all(Subscriber& subscriber) {
  std::vector<std::uint32_t> tags;
  View view;
  Status status = subscriber.take(view).or_throw();
  while (status != Status::kEmpty) {
    if (status == Status::kOk) tags.push_back(view.type());
    status = subscriber.take(view).or_throw();
  }
  return tags;
}

TEST(Lanes, SubscribersStartWhereTheyAsk) {
  PrivateBroker broker;
  Client client = broker.client();
  PublisherOptions options;
  options.depth = 16;
  Publisher publisher = client.publisher_or_throw("start", options);
  for (std::uint32_t i = 0; i < 10; ++i) publish_sample(publisher, i % 2 == 0 ? 8 : 5000, i);
  for (const bool lossless : {false, true}) {
    Subscriber next = client.subscriber_or_throw("start", from(HF_START_NEXT, lossless));
    Subscriber latest = client.subscriber_or_throw("start", from(HF_START_LATEST, lossless));
    Subscriber oldest = client.subscriber_or_throw("start", from(HF_START_OLDEST, lossless));
    EXPECT_EQ(take_all(next), std::vector<std::uint32_t>());
    EXPECT_EQ(take_all(latest), (std::vector<std::uint32_t>{9}));
    EXPECT_EQ(take_all(oldest), (std::vector<std::uint32_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
  }
  Subscriber next = client.subscriber_or_throw("start", from(HF_START_NEXT));
  publish_sample(publisher, 100, 10);
  EXPECT_EQ(take_all(next), (std::vector<std::uint32_t>{10}));
}

TEST(Lanes, LateLanesAreReadFromTheirOldest) {
  PrivateBroker broker;
  Client reader = broker.client("reader");
  for (const int start : {HF_START_NEXT, HF_START_LATEST, HF_START_OLDEST}) {
    const std::string topic = "late/" + std::to_string(start);
    Subscriber subscriber = reader.subscriber_or_throw(topic, from(start, true));
    RemoteClient writer(broker);
    ASSERT_EQ(writer.open_publisher(topic).at("code"), HF_OK);
    writer.publish(5, 1000);
    EXPECT_EQ(take_all(subscriber), (std::vector<std::uint32_t>{1, 2, 3, 4, 5}));
  }
}

TEST(Lanes, SeveralPublishersKeepTheirOwnOrder) {
  constexpr std::uint64_t kEach = 300;
  PrivateBroker broker;
  RemoteClient readers[2] = {RemoteClient(broker), RemoteClient(broker)};
  for (RemoteClient& reader : readers) {
    ASSERT_EQ(reader.subscribe("many").at("code"), HF_OK);
    reader.begin_taking_until_ended(3);
  }
  RemoteClient writers[3] = {RemoteClient(broker), RemoteClient(broker), RemoteClient(broker)};
  for (RemoteClient& writer : writers) ASSERT_EQ(writer.open_publisher("many").at("code"), HF_OK);
  for (RemoteClient& writer : writers)
    writer.process().channel().send({{"do", "publish"}, {"samples", kEach}, {"bytes", 5000}, {"seed", 1}});
  for (RemoteClient& writer : writers) EXPECT_EQ(writer.process().channel().receive().value("position", 0u), kEach);
  for (RemoteClient& writer : writers) writer.close_publisher();
  for (RemoteClient& reader : readers) {
    const Seen seen = reader.finish_taking();
    EXPECT_EQ(seen.samples, 3 * kEach);
    EXPECT_EQ(seen.torn + seen.disorder + seen.missed, 0u);
    EXPECT_EQ(seen.finished, 3u);
  }
}

TEST(Lanes, EndIsToldOnceAndFinishedIsNotAborted) {
  PrivateBroker broker;
  Client client = broker.client();
  for (const bool lossless : {false, true}) {
    const std::string topic = lossless ? "end/lossless" : "end/drop";
    Subscriber subscriber = client.subscriber_or_throw(topic, from(HF_START_NEXT, lossless));
    std::map<std::uint32_t, Status> expected;
    RemoteClient closing(broker);
    RemoteClient dying(broker);
    expected[closing.session()] = Status::kFinished;
    expected[dying.session()] = Status::kAborted;
    for (RemoteClient* writer : {&closing, &dying}) {
      ASSERT_EQ(writer->open_publisher(topic).at("code"), HF_OK);
      writer->publish(10, 3000);
    }
    closing.close_publisher();
    dying.kill();
    std::map<std::uint32_t, Status> ends;
    std::map<std::uint32_t, int> samples;
    View view;
    while (ends.size() < 2) {
      const Status status = subscriber.take(view, kSoon).or_throw();
      ASSERT_NE(status, Status::kTimeout);
      if (status == Status::kOk) {
        EXPECT_TRUE(sample_is_whole(view));
        EXPECT_EQ(ends.count(view.publisher()), 0u) << "a sample after the end";
        ++samples[view.publisher()];
      } else {
        EXPECT_TRUE(ends.emplace(view.publisher(), status).second) << "told twice";
      }
    }
    EXPECT_EQ(ends, expected);
    EXPECT_EQ(samples[closing.session()], 10);
    EXPECT_EQ(samples[dying.session()], 10);
    EXPECT_EQ(subscriber.take(view).or_throw(), Status::kEmpty) << "a topic never closes";
  }
}

TEST(Lanes, ExclusivePublisherIsNamedToTheSecond) {
  PrivateBroker broker;
  RemoteClient holder(broker, "the-holder");
  ASSERT_EQ(holder.open_publisher("one", {{"exclusive", true}}).at("code"), HF_OK);
  Client client = broker.client();
  const nlohmann::json before = resources(broker);
  PublisherOptions options;
  options.exclusive = true;
  auto second = client.publisher("one", options);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, HF_E_EXISTS);
  EXPECT_NE(second.error().sentence.find("the-holder"), std::string::npos) << second.error().sentence;
  EXPECT_NE(second.error().sentence.find(std::to_string(holder.process().pid())), std::string::npos)
      << second.error().sentence;
  EXPECT_EQ(resources(broker), before);
  // The name is free as soon as the holder is gone, however it went.
  holder.kill();
  holder.process().wait();
  ASSERT_TRUE(eventually([&] { return static_cast<bool>(client.publisher("one", options)); }));
  EXPECT_TRUE(client.publisher("one", options));
}

TEST(Lanes, LateJoinerGetsTheLastValueOfAPublisherThatIsGone) {
  PrivateBroker broker;
  for (const bool killed : {false, true}) {
    const std::string topic = killed ? "last/killed" : "last/closed";
    {
      RemoteClient writer(broker);
      ASSERT_EQ(writer.open_publisher(topic, {{"depth", 1}, {"linger_ns", -1}}).at("code"), HF_OK);
      writer.publish(500, 5000);
      if (killed) writer.kill();
    }
    Client client = broker.client();
    for (int i = 0; i < 2; ++i) {
      Subscriber subscriber = client.subscriber_or_throw(topic, from(HF_START_LATEST));
      View view;
      ASSERT_EQ(subscriber.take(view, kSoon).or_throw(), Status::kOk);
      EXPECT_EQ(view.type(), 500u);
      EXPECT_EQ(view.position(), 499u);
      EXPECT_TRUE(sample_is_whole(view));
      EXPECT_EQ(subscriber.take(view, kSoon).or_throw(), killed ? Status::kAborted : Status::kFinished);
    }
  }
}

TEST(Lanes, DepthKeepsThatManyForLateJoiners) {
  PrivateBroker broker;
  Client client = broker.client();
  PublisherOptions options;
  options.depth = 5;
  options.ring_slots = 16;
  Publisher publisher = client.publisher_or_throw("depth", options);
  for (std::uint32_t i = 1; i <= 1000; ++i) publish_sample(publisher, 5000, i);
  Subscriber subscriber = client.subscriber_or_throw("depth", from(HF_START_OLDEST));
  const auto tags = take_all(subscriber);
  ASSERT_GE(tags.size(), 5u);
  EXPECT_LE(tags.size(), 16u);
  EXPECT_EQ(tags.back(), 1000u);
}

TEST(Lanes, EndedLaneGoesAfterItsLinger) {
  PrivateBroker broker;
  Client client = broker.client();
  const nlohmann::json before = resources(broker);
  {
    PublisherOptions options;
    options.linger = std::chrono::milliseconds(20);
    Publisher publisher = client.publisher_or_throw("brief", options);
    publish_sample(publisher, 5000, 1);
  }
  EXPECT_TRUE(eventually([&] { return broker.stats().at("lanes") == before.at("lanes"); }));
  EXPECT_EQ(broker.stats().at("segment_bytes"), before.at("segment_bytes"));
  Subscriber subscriber = client.subscriber_or_throw("brief", from(HF_START_OLDEST));
  View view;
  EXPECT_EQ(subscriber.take(view).or_throw(), Status::kEmpty);
}

TEST(Lanes, EndedLaneStaysForAReaderThatHasNotDrainedIt) {
  PrivateBroker broker;
  RemoteClient slow(broker);
  ASSERT_EQ(slow.subscribe("undrained").at("code"), HF_OK);
  slow.pause();
  Client client = broker.client();
  PublisherOptions options;
  options.linger = std::chrono::milliseconds(1);
  {
    Publisher publisher = client.publisher_or_throw("undrained", options);
    for (std::uint32_t i = 0; i < 20; ++i) publish_sample(publisher, 5000, i, kSoon);
  }
  // Another lane, closed later and read by nobody, has gone by its linger: that of the slow reader has not.
  {
    Publisher other = client.publisher_or_throw("unread", options);
  }
  ASSERT_TRUE(eventually([&] { return broker.stats().at("lanes") == 1; }));
  slow.resume();
  const Seen seen = slow.take_until_ended();
  EXPECT_EQ(seen.samples, 20u);
  EXPECT_EQ(seen.torn + seen.missed, 0u);
  EXPECT_TRUE(eventually([&] { return broker.stats().at("lanes") == 0; }));
}

TEST(Lanes, IdleTopicIsOneFileOfTwoPagesAndOneMappingForEachHandle) {
  PrivateBroker broker;
  Client client = broker.client();
  // The segments of the session itself have room for the first few.
  Publisher before = client.publisher_or_throw("before");
  Subscriber of_before = client.subscriber_or_throw("before");
  const std::size_t files = broker.shm_files().size();
  const std::uint64_t bytes = broker.shm_bytes();
  const std::size_t mappings = mapping_count();
  const std::size_t descriptors = open_descriptors();
  Publisher publisher = client.publisher_or_throw("idle");
  Subscriber subscriber = client.subscriber_or_throw("idle");
  EXPECT_EQ(broker.shm_files().size(), files + 1);
  EXPECT_EQ(broker.shm_bytes(), bytes + 8192);
  EXPECT_EQ(mapping_count(), mappings + 2);
  EXPECT_EQ(open_descriptors(), descriptors);
  for (std::uint32_t i = 0; i < 100; ++i) publish_sample(publisher, 32, i);
  EXPECT_EQ(broker.shm_bytes(), bytes + 8192) << "small samples need no chunk";
}

TEST(Lanes, PublisherAndSubscriberInOneProcessAndTwoClientsInOne) {
  PrivateBroker broker;
  Client one = broker.client("one");
  Client two = broker.client("two");
  EXPECT_NE(one.session(), two.session());
  Publisher publisher = one.publisher_or_throw("same");
  Subscriber own = one.subscriber_or_throw("same", from(HF_START_NEXT, true));
  Subscriber other = two.subscriber_or_throw("same", from(HF_START_NEXT, true));
  EXPECT_EQ(publisher.subscriber_count(), 2);
  for (std::uint32_t i = 0; i < 500; ++i) {
    publish_sample(publisher, i % 3 == 0 ? 16 : 6000, i, kSoon);
    for (Subscriber* subscriber : {&own, &other}) {
      View view;
      ASSERT_EQ(subscriber->take(view, kSoon).or_throw(), Status::kOk);
      EXPECT_EQ(view.publisher(), one.session());
      EXPECT_EQ(view.type(), i);
      EXPECT_TRUE(sample_is_whole(view));
    }
  }
  // One client goes; the other one, of the same process, stays alive to the broker.
  one.close();
  View view;
  EXPECT_EQ(other.take(view, kSoon).or_throw(), Status::kFinished);
  EXPECT_TRUE(two.ping());
  EXPECT_EQ(broker.stats().at("sessions"), 1);
}

TEST(Lanes, TopicOptionsComeFromTheFirstAndAMismatchNamesBothSides) {
  PrivateBroker broker;
  Client client = broker.client();
  PublisherOptions options;
  options.ring_slots = 128;
  Publisher publisher = client.publisher_or_throw("options", options);
  const nlohmann::json before = resources(broker);
  options.ring_slots = 256;
  auto other = client.publisher("options", options);
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code, HF_E_MISMATCH);
  EXPECT_NE(other.error().sentence.find("128"), std::string::npos) << other.error().sentence;
  EXPECT_NE(other.error().sentence.find("256"), std::string::npos) << other.error().sentence;
  EXPECT_NE(other.error().sentence.find("options"), std::string::npos) << other.error().sentence;
  EXPECT_EQ(resources(broker), before);
  EXPECT_TRUE(client.publisher("options")) << "options that are left out accept what is there";
}

}  // namespace
}  // namespace holdfast::integration
