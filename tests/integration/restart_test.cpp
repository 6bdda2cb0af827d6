// SPDX-License-Identifier: MIT
//
// SIGKILL of the broker, and another one of the same instance: what is attached never notices, and clients come back by
// themselves with everything that they had.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/integration/broker.hpp"
#include "tests/integration/payload.hpp"
#include "tests/integration/process_state.hpp"
#include "tests/integration/remote_client.hpp"

namespace holdfast::integration {
namespace {

void restart(PrivateBroker& broker) {
  broker.kill();
  broker.start();
}

bool all_connected(const PrivateBroker& broker, std::size_t sessions) {
  const nlohmann::json listed = broker.request("sessions").at("sessions");
  return listed.size() == sessions && std::all_of(listed.begin(), listed.end(), [](const nlohmann::json& session) {
           return session.at("connected");
         });
}

bool connected(const PrivateBroker& broker, std::uint32_t id) {
  const nlohmann::json listed = broker.request("sessions").at("sessions");
  return std::any_of(listed.begin(), listed.end(), [&](const nlohmann::json& session) {
    return session.at("session") == id && session.at("connected");
  });
}

// What must be as before, of one topic.
nlohmann::json lasting(const PrivateBroker& broker, const std::string& name) {
  const nlohmann::json topic = broker.topic(name);
  nlohmann::json kept;
  for (const char* member : {"name", "type", "ring", "chunks_max", "clock", "exclusive", "depth", "linger_ms",
                             "stall_timeout_ms", "publishers", "subscribers"})
    kept[member] = topic.at(member);
  for (const nlohmann::json& lane : topic.at("lanes"))
    for (const char* member : {"lane", "session", "pid", "process", "state", "head", "bytes", "readers"})
      kept["lanes"][std::to_string(lane.at("lane").get<int>())][member] = lane.at(member);
  for (const nlohmann::json& subscription : topic.at("subscriptions"))
    kept["subscriptions"][std::to_string(subscription.at("handle").get<int>())] = {
        subscription.at("session"),
        subscription.at("process"),
        subscription.at("delivery"),
        subscription.at("lanes")[0].at("cursor"),
        subscription.at("lanes")[0].at("missed"),
        subscription.at("lanes")[0].at("taken")};
  return kept;
}

// Takes until `samples` have been seen, taken or missed.
void take_all(Subscriber& subscriber, std::uint64_t samples) {
  View view;
  while (samples > 0) {
    const Status status = subscriber.take(view, kSoon).or_throw();
    ASSERT_TRUE(status == Status::kOk || status == Status::kLapped) << static_cast<int>(status);
    if (status == Status::kOk) EXPECT_TRUE(sample_is_whole(view));
    samples -= status == Status::kOk ? 1 : std::min(samples, view.missed());
  }
}

TEST(Restart, AttachedClientsGoOnAndMeetNewOnes) {
  PrivateBroker broker;
  RemoteClient writer(broker, "writer");
  RemoteClient reader(broker, "reader");
  ASSERT_EQ(writer.open_publisher("meeting").at("code"), HF_OK);
  ASSERT_EQ(reader.subscribe("meeting").at("code"), HF_OK);
  reader.begin_taking_until_ended(2);
  writer.publish(100, 20'000, 1);
  broker.kill();
  writer.publish(100, 20'000, 101);
  writer.publish(100, 8, 201);
  broker.start();
  EXPECT_EQ(broker.stats().at("epoch"), 2);
  EXPECT_EQ(broker.stats().at("sessions"), 2) << "who lives is adopted, connected or not";
  RemoteClient late(broker, "late");
  ASSERT_EQ(late.subscribe("meeting", true, HF_START_NEXT).at("code"), HF_OK);
  late.begin_taking_until_ended(2);
  RemoteClient second(broker, "second");
  ASSERT_EQ(second.open_publisher("meeting").at("code"), HF_OK);
  second.publish(50, 20'000, 1000);
  writer.publish(100, 20'000, 301);
  EXPECT_TRUE(eventually([&] { return all_connected(broker, 4); })) << broker.request("sessions");
  second.close_publisher();
  writer.close_publisher();
  const Seen seen = reader.finish_taking();
  EXPECT_EQ(seen.samples, 450u);
  EXPECT_EQ(seen.torn + seen.disorder + seen.missed + seen.corrupt + seen.aborted, 0u);
  const Seen late_seen = late.finish_taking();
  EXPECT_EQ(late_seen.samples, 150u);
  EXPECT_EQ(late_seen.torn + late_seen.disorder + late_seen.missed + late_seen.corrupt, 0u);
}

TEST(Restart, NamesPositionsAndCountsAreAsBefore) {
  PrivateBroker broker;
  Client writing = broker.client("writing");
  Client reading = broker.client("reading");
  PublisherOptions options;
  options.ring_slots = 32;
  options.depth = 3;
  Publisher publisher = writing.publisher_or_throw("kept", options);
  Subscriber slow = reading.subscriber_or_throw("kept");
  for (std::uint32_t i = 0; i < 100; ++i) publish_sample(publisher, 5000, i, kSoon);
  take_all(slow, 90);
  const std::uint32_t session = reading.session();
  const nlohmann::json before = lasting(broker, "kept");
  restart(broker);
  EXPECT_EQ(lasting(broker, "kept"), before);
  ASSERT_TRUE(writing.ping());
  ASSERT_TRUE(reading.ping());
  EXPECT_TRUE(all_connected(broker, 2));
  EXPECT_EQ(lasting(broker, "kept"), before) << "listing the handles has dropped nothing";
  EXPECT_EQ(reading.session(), session);
  EXPECT_EQ(publisher.position(), 100u);
  EXPECT_EQ(publisher.subscriber_count(), 1);
  publish_sample(publisher, 5000, 100, kSoon);
  take_all(slow, 11);
}

TEST(Restart, LosslessSubscriberLosesNothingUnderLoad) {
  PrivateBroker broker;
  Client writing = broker.client("writing");
  Client reading = broker.client("reading");
  RemoteClient far(broker, "far");
  Publisher publisher = writing.publisher_or_throw("load");
  SubscriberOptions lossless;
  lossless.lossless = true;
  Subscriber subscriber = reading.subscriber_or_throw("load", lossless);
  ASSERT_EQ(far.subscribe("load").at("code"), HF_OK);
  far.begin_taking_until_ended();
  std::atomic<bool> stop{false};
  std::atomic<std::uint32_t> published{0};
  std::thread publishing([&] {
    for (std::uint32_t i = 0; !stop; ++i) {
      const std::uint64_t bytes = i % 7 == 0 ? 16 : 1000 + i % 40 * 1000;
      ASSERT_EQ(publish_sample(publisher, bytes, i, kSoon), Status::kOk);
      published = i + 1;
    }
    publisher.close();
  });
  std::uint64_t taken = 0;
  std::thread taking([&] {
    View view;
    while (true) {
      const Status status = subscriber.take(view, kSoon).or_throw();
      if (status == Status::kFinished) break;
      ASSERT_EQ(status, Status::kOk);
      ASSERT_TRUE(sample_is_whole(view));
      ASSERT_EQ(view.position(), taken);
      ++taken;
    }
  });
  double slowest = 0;
  EXPECT_TRUE(eventually([&] { return published > 1000; })) << "the lane has its memory";
  for (int i = 0; i < 20; ++i) {
    broker.kill();
    const std::uint32_t then = published;
    EXPECT_TRUE(eventually([&] { return published > then + 20; })) << "without a broker";
    broker.start();
    const auto begin = now();
    EXPECT_TRUE(eventually([&] { return all_connected(broker, 3); })) << broker.request("sessions");
    slowest = std::max(slowest, milliseconds_since(begin));
  }
  stop = true;
  publishing.join();
  taking.join();
  EXPECT_EQ(taken, published);
  const Seen seen = far.finish_taking();
  EXPECT_EQ(seen.samples, published);
  EXPECT_EQ(seen.torn + seen.disorder + seen.missed + seen.turned + seen.aborted, 0u);
  std::printf("every session back %.1f ms after the broker answered, at most\n", slowest);
  RecordProperty("slowest_ms", std::to_string(slowest));
}

TEST(Restart, IdleSubscriberIsWokenAndMeetsANewPublisher) {
  PrivateBroker broker;
  Client client = broker.client();
  Subscriber subscriber = client.subscriber_or_throw("idle");
  std::thread waiting([&] {
    View view;
    EXPECT_EQ(subscriber.take(view, kSoon).or_throw(), Status::kOk);
  });
  restart(broker);
  EXPECT_TRUE(eventually([&] { return all_connected(broker, 1); })) << broker.request("sessions");
  RemoteClient writer(broker);
  ASSERT_EQ(writer.open_publisher("idle").at("code"), HF_OK);
  writer.publish(1, 5000);
  waiting.join();
}

TEST(Restart, GrowingWaitsForTheBroker) {
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("grow");
  Subscriber subscriber = client.subscriber_or_throw("grow");
  broker.kill();
  const auto begin = now();
  const auto looked = publisher.loan(20 * kMiB, 0, kLook);
  ASSERT_FALSE(looked);
  EXPECT_EQ(looked.error().code, HF_E_NO_BROKER) << looked.error().sentence;
  const auto waited = publisher.loan(20 * kMiB, 0, milliseconds(50));
  EXPECT_FALSE(waited);
  EXPECT_LT(milliseconds_since(begin), 5000) << "no longer than was asked for, by far";
  std::atomic<bool> waiting{false};
  std::thread growing([&] {
    waiting = true;
    EXPECT_EQ(publish_sample(publisher, 20 * kMiB, 7, kSoon), Status::kOk);
  });
  ASSERT_TRUE(eventually([&] { return waiting.load(); }));
  broker.start();
  growing.join();
  View view;
  EXPECT_EQ(subscriber.take(view, kSoon).or_throw(), Status::kOk);
  EXPECT_TRUE(sample_is_whole(view));
  // Once only, though it was asked more than once.
  EXPECT_LT(broker.topic("grow").at("lanes")[0].at("bytes").get<std::uint64_t>(), 45 * kMiB);
}

bool readable(int fd, nanoseconds within) {
  pollfd one{fd, POLLIN, 0};
  return ::poll(&one, 1, static_cast<int>(std::chrono::duration_cast<milliseconds>(within).count())) > 0;
}

TEST(Restart, EventLoopGoesOn) {
  PrivateBroker broker;
  Client client = broker.client();
  Subscriber subscriber = client.subscriber_or_throw("loop");
  const int fd = subscriber.fd().or_throw();
  RemoteClient old(broker);
  ASSERT_EQ(old.open_publisher("loop").at("code"), HF_OK);
  View view;
  const auto take_one = [&] {
    Status status = Status::kEmpty;
    while ((status = subscriber.take(view).or_throw()) == Status::kEmpty)
      if (!readable(fd, kSoon)) return false;
    return status == Status::kOk;
  };
  const auto drained = [&] {
    while (subscriber.take(view).or_throw() != Status::kEmpty) {
    }
    return true;
  };
  std::uint32_t seed = 0;
  for (int i = 0; i < 3; ++i) {
    restart(broker);
    // The loop hears of it, and comes back.
    ASSERT_TRUE(eventually([&] {
      (void)readable(fd, milliseconds(100));
      return drained() && connected(broker, client.session());
    }));
    RemoteClient fresh(broker);
    ASSERT_EQ(fresh.open_publisher("loop").at("code"), HF_OK);
    const auto begin = now();
    for (int sample = 0; sample < 10; ++sample) {
      (void)drained();
      fresh.publish(1, 5000, ++seed);
      ASSERT_TRUE(take_one());
      EXPECT_EQ(view.type(), seed);
      (void)drained();
      old.publish(1, 5000, ++seed);
      ASSERT_TRUE(take_one());
      EXPECT_EQ(view.type(), seed);
    }
    EXPECT_LT(milliseconds_since(begin), 10'000) << "rung, not found by a look every second";
    fresh.close_publisher();
    View end;
    Status status = Status::kEmpty;
    while ((status = subscriber.take(end).or_throw()) == Status::kEmpty) ASSERT_TRUE(readable(fd, kSoon));
    EXPECT_EQ(status, Status::kFinished);
  }
  EXPECT_EQ(subscriber.fd().or_throw(), fd);
}

// A publisher that knew the eventfd of an earlier broker rings the one of now, even where the number is the same again.
TEST(Restart, OldPublisherRingsTheDescriptorThatCountsNow) {
  PrivateBroker broker;
  Client client = broker.client();
  Subscriber subscriber = client.subscriber_or_throw("same");
  const int fd = subscriber.fd().or_throw();
  RemoteClient writer(broker);
  ASSERT_EQ(writer.open_publisher("same").at("code"), HF_OK);
  View view;
  for (std::uint32_t i = 0; i < 5; ++i) {
    const auto begin = now();
    for (std::uint32_t sample = 0; sample < 10; ++sample) {
      while (subscriber.take(view).or_throw() != Status::kEmpty) {
      }
      writer.publish(1, 5000, i * 10 + sample);
      Status status = Status::kEmpty;
      while ((status = subscriber.take(view).or_throw()) == Status::kEmpty) ASSERT_TRUE(readable(fd, kSoon));
      EXPECT_EQ(view.type(), i * 10 + sample);
    }
    EXPECT_LT(milliseconds_since(begin), 8'000) << "rung, not found by a look every second, after restart " << i;
    restart(broker);
    ASSERT_TRUE(eventually([&] {
      (void)readable(fd, milliseconds(100));
      (void)subscriber.take(view).or_throw();
      return connected(broker, client.session());
    }));
  }
}

// Whatever the kill interrupts is repeated under its key: an exclusive publisher that was opened is not in its own way.
TEST(Restart, RequestAtTheMomentOfTheKillMakesOneHandle) {
  PrivateBroker broker;
  Client client = broker.client("opening", kSoon);
  std::vector<Publisher> publishers;
  std::vector<Subscriber> subscribers;
  std::atomic<bool> stop{false};
  std::atomic<int> opened{0};
  std::thread opening([&] {
    PublisherOptions exclusive;
    exclusive.exclusive = true;
    for (int i = 0; !stop && i < 400; ++i) {
      const std::string topic = "once/" + std::to_string(i);
      auto publisher = client.publisher(topic, exclusive);
      ASSERT_TRUE(publisher) << publisher.error().sentence;
      auto subscriber = client.subscriber(topic);
      ASSERT_TRUE(subscriber) << subscriber.error().sentence;
      publishers.push_back(std::move(*publisher));
      subscribers.push_back(std::move(*subscriber));
      opened = i + 1;
    }
  });
  for (int i = 0; i < 12; ++i) {
    const int then = opened;
    EXPECT_TRUE(eventually([&] { return opened > std::min(then + 2, 399); }));
    restart(broker);
  }
  stop = true;
  opening.join();
  ASSERT_TRUE(client.ping());
  EXPECT_EQ(broker.stats().at("publishers"), publishers.size());
  EXPECT_EQ(broker.stats().at("subscribers"), subscribers.size());
  for (std::size_t i = 0; i < publishers.size(); ++i) {
    publish_sample(publishers[i], 16, static_cast<std::uint32_t>(i), kSoon);
    take_all(subscribers[i], 1);
  }
}

// A broker that hands over opens nothing any more, which nobody hears of: the next one does.
TEST(Restart, OpeningWaitsForTheBrokerThatIsHandedOverTo) {
  PrivateBroker broker;
  std::atomic<bool> stop{false};
  std::atomic<int> opened{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i)
    threads.emplace_back([&, i] {
      Client client = broker.client("opening", kSoon);
      const std::string topic = "handed/" + std::to_string(i);
      while (!stop) {
        auto publisher = client.publisher(topic);
        ASSERT_TRUE(publisher) << publisher.error().sentence;
        auto subscriber = client.subscriber(topic);
        ASSERT_TRUE(subscriber) << subscriber.error().sentence;
        publish_sample(*publisher, 16, 1, kSoon);
        take_all(*subscriber, 1);
        ++opened;
      }
    });
  for (int i = 0; i < 20; ++i) {
    const int then = opened;
    EXPECT_TRUE(eventually([&] { return opened > then + 6; }));
    EXPECT_EQ(broker.hand_over(), 0);
    broker.start();
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(broker.stats().at("publishers"), 0);
}

TEST(Restart, ThreadsThatAskAtTheSameTimeAllGetTheirAnswers) {
  PrivateBroker broker;
  Client client = broker.client("threads", kSoon);
  Publisher publisher = client.publisher_or_throw("threads");
  std::atomic<bool> stop{false};
  std::atomic<int> answers{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&, i] {
      while (!stop) {
        const auto ping = client.ping();
        ASSERT_TRUE(ping) << ping.error().sentence;
        auto subscriber = client.subscriber("threads/" + std::to_string(i));
        ASSERT_TRUE(subscriber) << subscriber.error().sentence;
        ++answers;
      }
    });
  for (int i = 0; i < 8; ++i) {
    const int then = answers;
    EXPECT_TRUE(eventually([&] { return answers > then + 8; }));
    broker.kill();
    publish_sample(publisher, 16, 1, kSoon);
    broker.start();
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(client.ping());
  EXPECT_EQ(broker.stats().at("publishers"), 1);
  EXPECT_EQ(broker.stats().at("subscribers"), 0);
  EXPECT_EQ(broker.stats().at("sessions"), 1);
}

TEST(Restart, WhatIsClosedWhileTheBrokerIsAwayIsGoneAfterwards) {
  PrivateBroker broker;
  Client client = broker.client();
  std::optional<Publisher> closed(client.publisher_or_throw("closed"));
  std::optional<Subscriber> subscriber(client.subscriber_or_throw("closed"));
  Publisher stays = client.publisher_or_throw("stays");
  std::optional<Client> other(broker.client("other"));
  View view;
  publish_sample(*closed, 5000, 1);
  ASSERT_EQ(subscriber->take(view, kSoon).or_throw(), Status::kOk);
  broker.kill();
  closed.reset();
  subscriber.reset();
  broker.start();
  EXPECT_TRUE(sample_is_whole(view));
  ASSERT_TRUE(client.ping());
  EXPECT_EQ(broker.stats().at("publishers"), 1);
  EXPECT_EQ(broker.stats().at("subscribers"), 1) << "its view is still held";
  EXPECT_TRUE(sample_is_whole(view));
  view.release();
  EXPECT_EQ(broker.stats().at("subscribers"), 0);
  // A client whose connection is broken says goodbye all the same.
  other.reset();
  EXPECT_EQ(broker.stats().at("sessions"), 1);
}

TEST(Restart, EndedLaneOfWhichTheBrokerWasNotToldIsReleasedLater) {
  PrivateBroker broker;
  Client client = broker.client();
  Subscriber subscriber = client.subscriber_or_throw("ended");
  PublisherOptions options;
  options.linger = milliseconds(1);
  Client writing = broker.client("writing");
  std::optional<Publisher> publisher(writing.publisher_or_throw("ended", options));
  publish_sample(*publisher, 5000, 1);
  take_all(subscriber, 1);
  broker.kill();
  publisher.reset();
  View view;
  EXPECT_EQ(subscriber.take(view, kSoon).or_throw(), Status::kFinished);
  broker.start();
  ASSERT_TRUE(writing.ping());
  ASSERT_TRUE(client.ping());
  EXPECT_TRUE(eventually([&] { return broker.stats().at("lanes") == 0; })) << broker.topic("ended");
}

TEST(Restart, CutConnectionIsMadeAgain) {
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("cut");
  const std::uint32_t session = client.session();
  for (int i = 0; i < 3; ++i) {
    const int fd = connection_to(broker.socket());
    ASSERT_GE(fd, 0);
    ASSERT_EQ(::shutdown(fd, SHUT_RDWR), 0);
    ASSERT_TRUE(client.ping());
    EXPECT_TRUE(all_connected(broker, 1)) << broker.request("sessions");
    Subscriber subscriber = client.subscriber_or_throw("cut");
    publish_sample(publisher, 5000, 1, kSoon);
    take_all(subscriber, 1);
  }
  EXPECT_EQ(client.session(), session);
  EXPECT_EQ(broker.stats().at("publishers"), 1);
}

TEST(Restart, ForkedChildDoesNotInheritTheNewConnection) {
  PrivateBroker broker;
  Client client = broker.client();
  restart(broker);
  ASSERT_TRUE(client.ping());
  ASSERT_GE(connection_to(broker.socket()), 0);
  const pid_t child = ::fork();
  if (child == 0) ::_exit(connection_to(broker.socket()) >= 0 ? 1 : 0);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_TRUE(client.ping()) << "the parent's stays";
}

// Something listens where the broker did, takes connections, and says nothing.
TEST(Restart, ListenerThatNeverAnswersHoldsUpNobodyWhoIsAttached) {
  PrivateBroker broker;
  Client client = broker.client("patient", milliseconds(300));
  Publisher publisher = client.publisher_or_throw("mute");
  Subscriber subscriber = client.subscriber_or_throw("mute");
  publish_sample(publisher, 5000, 0);
  take_all(subscriber, 1);
  broker.kill();
  {
    const Descriptor mute(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    broker.socket().copy(address.sun_path, sizeof address.sun_path - 1);
    ::unlink(address.sun_path);
    ASSERT_EQ(::bind(mute.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(::listen(mute.get(), 1), 0);
    std::thread asking([&] {
      for (int i = 0; i < 3; ++i) {
        const auto ping = client.ping();
        EXPECT_FALSE(ping);
        EXPECT_EQ(ping.error().code, HF_E_NO_BROKER);
        EXPECT_NE(ping.error().sentence.find(broker.socket()), std::string::npos) << ping.error().sentence;
      }
    });
    const auto begin = now();
    for (std::uint32_t i = 0; i < 200; ++i) {
      publish_sample(publisher, 5000, i, kSoon);
      take_all(subscriber, 1);
    }
    const auto large = publisher.loan(20 * kMiB, 0, kLook);
    EXPECT_FALSE(large);
    EXPECT_LT(milliseconds_since(begin), 20'000);
    asking.join();
  }
  broker.start();
  EXPECT_TRUE(eventually([&] { return bool(client.ping()); }));
  publish_sample(publisher, 20 * kMiB, 1, kSoon);
  take_all(subscriber, 1);
}

void set_registry_aside(const PrivateBroker& broker) {
  for (const char* suffix : {"", "-wal", "-shm"})
    std::filesystem::remove(broker.directory() + "/" + broker.instance() + ".db" + suffix);
}

TEST(Restart, BrokerThatBeganAnewIsSaidAndANewClientWorks) {
  PrivateBroker broker;
  Client client = broker.client("old");
  Publisher publisher = client.publisher_or_throw("anew");
  Subscriber subscriber = client.subscriber_or_throw("anew");
  Subscriber alone = client.subscriber_or_throw("anew/alone");
  publish_sample(publisher, 5000, 0);
  take_all(subscriber, 1);
  broker.kill();
  set_registry_aside(broker);
  broker.start();
  for (int i = 0; i < 2; ++i) {
    const auto ping = client.ping();
    ASSERT_FALSE(ping);
    EXPECT_EQ(ping.error().code, HF_E_CLOSED);
    EXPECT_NE(ping.error().sentence.find("open a new client"), std::string::npos) << ping.error().sentence;
    EXPECT_NE(ping.error().sentence.find(broker.socket()), std::string::npos) << ping.error().sentence;
  }
  EXPECT_EQ(client.publisher("anew/too").error().code, HF_E_CLOSED);
  EXPECT_EQ(publisher.loan(20 * kMiB, 0, kLook).error().code, HF_E_CLOSED);
  // What is attached goes on.
  for (std::uint32_t i = 0; i < 200; ++i) {
    publish_sample(publisher, 5000, i, kSoon);
    take_all(subscriber, 1);
  }
  // Who has no lane gets none any more, and hears it.
  View view;
  const auto nothing = alone.take(view, kSoon);
  ASSERT_FALSE(nothing);
  EXPECT_EQ(nothing.error().code, HF_E_CLOSED) << nothing.error().sentence;
  publisher.close();
  EXPECT_EQ(subscriber.take(view, kSoon).or_throw(), Status::kFinished);
  const auto ended = subscriber.take(view, kSoon);
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().code, HF_E_CLOSED) << ended.error().sentence;
  Client again = broker.client("new");
  Publisher fresh = again.publisher_or_throw("anew");
  Subscriber reader = again.subscriber_or_throw("anew");
  publish_sample(fresh, 20 * kMiB, 1);
  take_all(reader, 1);
}

TEST(Restart, EventLoopHearsThatTheBrokerBeganAnew) {
  PrivateBroker broker;
  Client client = broker.client();
  Subscriber subscriber = client.subscriber_or_throw("anew/loop");
  const int fd = subscriber.fd().or_throw();
  View view;
  while (subscriber.take(view).or_throw() != Status::kEmpty) {
  }
  broker.kill();
  set_registry_aside(broker);
  broker.start();
  while (true) {
    ASSERT_TRUE(readable(fd, kSoon));
    const auto result = subscriber.take(view);
    if (result) continue;
    EXPECT_EQ(result.error().code, HF_E_CLOSED) << result.error().sentence;
    break;
  }
}

}  // namespace
}  // namespace holdfast::integration
