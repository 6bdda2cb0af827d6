// SPDX-License-Identifier: MIT
//
// Waiting: timeouts, being woken from other processes, many subscribers at once, descriptors for event loops.
#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "tests/integration/broker.hpp"
#include "tests/integration/payload.hpp"
#include "tests/integration/remote_client.hpp"

namespace holdfast::integration {
namespace {

constexpr int kSoonMs = 60'000;

bool readable(int fd, int timeout_ms) {
  pollfd one{fd, POLLIN, 0};
  return ::poll(&one, 1, timeout_ms) == 1;
}

TEST(Waiting, TimeoutsLookWaitAndWaitForEver) {
  PrivateBroker broker;
  Client client = broker.client();
  Subscriber subscriber = client.subscriber_or_throw("timeouts");
  RemoteClient writer(broker);
  ASSERT_EQ(writer.open_publisher("timeouts").at("code"), HF_OK);
  View view;
  EXPECT_EQ(subscriber.take(view).or_throw(), Status::kEmpty);
  EXPECT_EQ(subscriber.take(view, kLook).or_throw(), Status::kTimeout);
  const auto begin = now();
  EXPECT_EQ(subscriber.take(view, milliseconds(50)).or_throw(), Status::kTimeout);
  EXPECT_GE(milliseconds_since(begin), 50);
  std::thread waiting([&] { EXPECT_EQ(subscriber.take(view, kForever).or_throw(), Status::kOk); });
  writer.publish(1, 5000);
  waiting.join();
  EXPECT_TRUE(sample_is_whole(view));
}

TEST(Waiting, SleepersAreRungAndDoNotWaitForTheirBound) {
  // A lost ring would cost a second each: both sides sleep in every one of these round trips.
  constexpr std::uint32_t kRoundTrips = 100;
  PrivateBroker broker;
  Client client = broker.client();
  Subscriber answers = client.subscriber_or_throw("answers");
  Publisher questions = client.publisher_or_throw("questions");
  RemoteClient other(broker);
  ASSERT_EQ(other.subscribe("questions").at("code"), HF_OK);
  ASSERT_EQ(other.open_publisher("answers").at("code"), HF_OK);
  ASSERT_EQ(questions.wait_for_subscribers(1, kSoon).or_throw(), Status::kOk);
  other.process().channel().send({{"do", "echo"}, {"samples", kRoundTrips}});
  const auto begin = now();
  for (std::uint32_t i = 0; i < kRoundTrips; ++i) {
    ASSERT_EQ(publish_sample(questions, i % 2 == 0 ? 8 : 5000, i, kSoon), Status::kOk);
    View view;
    ASSERT_EQ(answers.take(view, kSoon).or_throw(), Status::kOk);
    EXPECT_EQ(view.type(), i);
  }
  EXPECT_LT(milliseconds_since(begin), 30'000);
  EXPECT_EQ(other.process().channel().receive().value("echoed", 0u), kRoundTrips);
}

TEST(Waiting, SpinningThenSleepingWorksTheSame) {
  PrivateBroker broker;
  Client client = broker.client();
  SubscriberOptions options;
  options.spin = std::chrono::microseconds(200);
  Subscriber subscriber = client.subscriber_or_throw("spin", options);
  RemoteClient writer(broker);
  ASSERT_EQ(writer.open_publisher("spin").at("code"), HF_OK);
  View view;
  EXPECT_EQ(subscriber.take(view, milliseconds(5)).or_throw(), Status::kTimeout);
  writer.process().channel().send({{"do", "publish"}, {"samples", 20}, {"bytes", 8}, {"seed", 1}});
  for (std::uint32_t i = 1; i <= 20; ++i) {
    ASSERT_EQ(subscriber.take(view, kSoon).or_throw(), Status::kOk);
    EXPECT_EQ(view.type(), i);
  }
  writer.process().channel().receive();
}

TEST(Waiting, InterruptedWaitsGoOn) {
  PrivateBroker broker;
  Client client = broker.client();
  Subscriber subscriber = client.subscriber_or_throw("interrupted");
  Publisher publisher = client.publisher_or_throw("interrupted");
  static std::atomic<int> interruptions;
  interruptions = 0;
  struct sigaction action{};
  action.sa_handler = [](int) { ++interruptions; };
  struct sigaction before{};
  ::sigaction(SIGALRM, &action, &before);
  const itimerval often{{0, 5000}, {0, 5000}};
  const itimerval never{};
  ::setitimer(ITIMER_REAL, &often, nullptr);
  View view;
  const auto begin = now();
  EXPECT_EQ(subscriber.take(view, milliseconds(200)).or_throw(), Status::kTimeout);
  EXPECT_GE(milliseconds_since(begin), 200);
  for (int i = 0; i < 50; ++i) EXPECT_TRUE(client.ping());
  EXPECT_EQ(publisher.wait_for_subscribers(2, milliseconds(50)).or_throw(), Status::kTimeout);
  Subscriber opened_under_fire = client.subscriber_or_throw("interrupted/too");
  ::setitimer(ITIMER_REAL, &never, nullptr);
  ::sigaction(SIGALRM, &before, nullptr);
  EXPECT_GT(interruptions, 0);
}

TEST(Waiting, OneOfManySubscribers) {
  PrivateBroker broker;
  Client client = broker.client();
  std::vector<Subscriber> subscribers;
  std::vector<Subscriber*> pointers;
  for (int i = 0; i < 5; ++i) subscribers.push_back(client.subscriber_or_throw("many/" + std::to_string(i)));
  for (Subscriber& subscriber : subscribers) pointers.push_back(&subscriber);
  auto nothing = wait(pointers, kLook);
  ASSERT_FALSE(nothing);
  EXPECT_EQ(nothing.error().code, HF_TIMEOUT);
  for (const std::size_t index : {3u, 0u, 4u}) {
    RemoteClient writer(broker);
    ASSERT_EQ(writer.open_publisher("many/" + std::to_string(index)).at("code"), HF_OK);
    // A publisher is nothing to take.
    for (const Timeout timeout : {kLook, Timeout(milliseconds(20))}) {
      nothing = wait(pointers, timeout);
      ASSERT_FALSE(nothing);
      EXPECT_EQ(nothing.error().code, HF_TIMEOUT);
    }
    writer.process().channel().send({{"do", "publish"}, {"samples", 1}, {"bytes", 4000}, {"seed", 1}});
    auto ready = wait(pointers, kSoon);
    ASSERT_TRUE(ready) << ready.error().sentence;
    ASSERT_EQ(*ready, index);
    View view;
    EXPECT_EQ(subscribers[index].take(view).or_throw(), Status::kOk);
    writer.process().channel().receive();
    writer.close_publisher();
    EXPECT_EQ(subscribers[index].take(view, kSoon).or_throw(), Status::kFinished);
  }
}

TEST(Waiting, OnlyForSubscribersOfOneClient) {
  PrivateBroker broker;
  Client one = broker.client();
  Client two = broker.client();
  Subscriber a = one.subscriber_or_throw("a");
  Subscriber b = two.subscriber_or_throw("b");
  hf_subscriber* both[] = {a.c(), b.c()};
  EXPECT_EQ(hf_wait(both, 2, 0, nullptr), HF_E_INVALID);
  EXPECT_NE(std::string(hf_last_error()), "");
  EXPECT_EQ(hf_wait(both, 0, 0, nullptr), HF_E_INVALID);
  EXPECT_EQ(hf_wait(nullptr, 1, 0, nullptr), HF_E_INVALID);
  hf_subscriber* none[] = {nullptr};
  EXPECT_EQ(hf_wait(none, 1, 0, nullptr), HF_E_INVALID);
}

TEST(Waiting, DescriptorIsReadableWhenThereIsSomething) {
  PrivateBroker broker;
  Client client = broker.client();
  Subscriber subscriber = client.subscriber_or_throw("fd");
  const int fd = subscriber.fd().or_throw();
  View view;
  RemoteClient writer(broker);
  ASSERT_EQ(writer.open_publisher("fd").at("code"), HF_OK);
  while (subscriber.take(view).or_throw() != Status::kEmpty) {
  }
  for (std::uint32_t i = 1; i <= 30; ++i) {
    ASSERT_EQ(subscriber.take(view).or_throw(), Status::kEmpty);
    EXPECT_FALSE(readable(fd, 0)) << i;
    writer.publish(1, i % 2 == 0 ? 8 : 9000, i);
    ASSERT_TRUE(readable(fd, kSoonMs)) << i;
    ASSERT_EQ(subscriber.take(view).or_throw(), Status::kOk);
    EXPECT_EQ(view.type(), i);
    EXPECT_EQ(subscriber.fd().or_throw(), fd) << "never changes";
  }
  ASSERT_EQ(subscriber.take(view).or_throw(), Status::kEmpty);
  writer.kill();
  Status status = Status::kEmpty;
  while (status == Status::kEmpty) {
    ASSERT_TRUE(readable(fd, kSoonMs)) << "the end of a lane is something";
    status = subscriber.take(view).or_throw();
  }
  EXPECT_EQ(status, Status::kAborted);
}

TEST(Waiting, EpollServesManySubscribersAndLateLanes) {
  PrivateBroker broker;
  Client client = broker.client();
  std::vector<Subscriber> subscribers;
  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  for (std::uint64_t i = 0; i < 3; ++i) {
    subscribers.push_back(client.subscriber_or_throw("epoll/" + std::to_string(i)));
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = i;
    ASSERT_EQ(::epoll_ctl(epoll, EPOLL_CTL_ADD, subscribers.back().fd().or_throw(), &event), 0);
  }
  std::vector<std::optional<RemoteClient>> writers(3);
  std::array<std::uint64_t, 3> taken{};
  for (std::size_t i = 0; i < writers.size(); ++i) {
    writers[i].emplace(broker);
    ASSERT_EQ(writers[i]->open_publisher("epoll/" + std::to_string(i)).at("code"), HF_OK);
    writers[i]->process().channel().send({{"do", "publish"}, {"samples", 40}, {"bytes", 600}, {"seed", 1}});
  }
  std::uint64_t total = 0;
  while (total < 120) {
    epoll_event event{};
    ASSERT_EQ(::epoll_wait(epoll, &event, 1, kSoonMs), 1) << "took " << total;
    View view;
    for (Status status = Status::kOk; status != Status::kEmpty;) {
      status = subscribers[event.data.u64].take(view).or_throw();
      if (status == Status::kOk) EXPECT_TRUE(sample_is_whole(view));
      const std::uint64_t counts = status == Status::kOk ? 1 : status == Status::kLapped ? view.missed() : 0;
      total += counts;
      taken[event.data.u64] += counts;
    }
  }
  EXPECT_EQ(taken, (std::array<std::uint64_t, 3>{40, 40, 40}));
  for (auto& writer : writers) writer->process().channel().receive();
  ::close(epoll);
}

TEST(Waiting, DescriptorWakesOnceWhenTheBrokerGoesAway) {
  PrivateBroker broker;
  Client client = broker.client();
  Subscriber subscriber = client.subscriber_or_throw("lost");
  Publisher publisher = client.publisher_or_throw("lost");
  const int fd = subscriber.fd().or_throw();
  View view;
  publish_sample(publisher, 7000, 0);  // the lane has its memory
  while (subscriber.take(view, kLook).or_throw() != Status::kTimeout) {
  }
  EXPECT_FALSE(readable(fd, 0));
  broker.kill();
  EXPECT_TRUE(readable(fd, kSoonMs));
  EXPECT_EQ(subscriber.take(view).or_throw(), Status::kEmpty);
  EXPECT_FALSE(readable(fd, 0)) << "a loop must not spin because of it";
  publish_sample(publisher, 7000, 1);
  EXPECT_TRUE(readable(fd, kSoonMs));
  EXPECT_EQ(subscriber.take(view).or_throw(), Status::kOk);
}

TEST(Waiting, PublisherWaitsForSubscribers) {
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("count");
  EXPECT_EQ(publisher.subscriber_count(), 0);
  EXPECT_EQ(publisher.wait_for_subscribers(0, kLook).or_throw(), Status::kOk);
  EXPECT_EQ(publisher.wait_for_subscribers(1, kLook).or_throw(), Status::kTimeout);
  const auto begin = now();
  EXPECT_EQ(publisher.wait_for_subscribers(1, milliseconds(20)).or_throw(), Status::kTimeout);
  EXPECT_GE(milliseconds_since(begin), 20);
  RemoteClient readers[3] = {RemoteClient(broker), RemoteClient(broker), RemoteClient(broker)};
  std::thread waiting([&] { EXPECT_EQ(publisher.wait_for_subscribers(3, kSoon).or_throw(), Status::kOk); });
  for (RemoteClient& reader : readers) ASSERT_EQ(reader.subscribe("count", false).at("code"), HF_OK);
  waiting.join();
  EXPECT_EQ(publisher.subscriber_count(), 3);
  readers[0].close_subscriber();
  EXPECT_TRUE(eventually([&] { return publisher.subscriber_count() == 2; }));
  readers[1].kill();
  EXPECT_TRUE(eventually([&] { return publisher.subscriber_count() == 1; }));
  readers[2].close_client();
  EXPECT_TRUE(eventually([&] { return publisher.subscriber_count() == 0; }));
}

// A subscriber that opens at the same moment is on the roster before it has a cursor: whoever waited for it must not publish
// past it, drain and leave.
TEST(Waiting, SubscriberThatWasWaitedForGetsWhatFollows) {
  PrivateBroker broker;
  for (int round = 0; round < 60; ++round) {
    const std::string topic = "meeting/" + std::to_string(round);
    std::thread publishing([&] {
      Client client = broker.client();
      Publisher publisher = client.publisher_or_throw(topic);
      ASSERT_EQ(publisher.wait_for_subscribers(1, kSoon).or_throw(), Status::kOk);
      ASSERT_EQ(publisher.publish("first", 5, kSoon).or_throw(), Status::kOk);
      EXPECT_EQ(publisher.drain(kSoon).or_throw(), Status::kOk);
    });
    Client client = broker.client();
    SubscriberOptions options;
    options.lossless = round % 2 == 0;
    Subscriber subscriber = client.subscriber_or_throw(topic, options);
    View view;
    EXPECT_EQ(subscriber.take(view, kSoon).or_throw(), Status::kOk) << "round " << round;
    EXPECT_EQ(view.position(), 0u);
    view.release();
    publishing.join();
  }
}

TEST(Waiting, SixtyFourThreadsMayWaitAndOneMoreIsBusy) {
  constexpr int kThreads = 65;
  PrivateBroker broker;
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw("crowd");
  std::vector<Subscriber> subscribers;
  for (int i = 0; i < kThreads; ++i) subscribers.push_back(client.subscriber_or_throw("crowd"));
  std::atomic<int> busy{0};
  std::atomic<int> woken{0};
  std::vector<std::thread> threads;
  for (Subscriber& subscriber : subscribers) {
    threads.emplace_back([&] {
      View view;
      const auto taken = subscriber.take(view, kSoon);
      if (!taken) busy += taken.error().code == HF_E_BUSY ? 1 : 0;
      if (taken && sample_is_whole(view)) ++woken;
    });
  }
  const bool one_refused = eventually([&] { return busy > 0; });
  publish_sample(publisher, 5000, 1);
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(one_refused);
  EXPECT_EQ(busy, 1);
  EXPECT_EQ(woken, kThreads - 1);
}

// ---- a broker that is busy or away ----------------------------------------------------------------------------------

// What this process has sent to the broker, which does not read it.
int unread_bytes(const PrivateBroker& broker) {
  int most = 0;
  for (int fd = 0; fd < 1024; ++fd) {
    sockaddr_un peer{};
    socklen_t bytes = sizeof peer;
    int unread = 0;
    if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &bytes) == 0 && peer.sun_family == AF_UNIX &&
        broker.socket() == peer.sun_path && ::ioctl(fd, SIOCOUTQ, &unread) == 0)
      most = std::max(most, unread);
  }
  return most;
}

// A paused broker, and a thread that waits for its answer.
class Asking {
 public:
  Asking(PrivateBroker& broker, Client& client) : broker_(broker) {
    broker.pause();
    thread_ = std::thread([&client] { EXPECT_TRUE(client.ping()); });
    EXPECT_TRUE(eventually([&] { return unread_bytes(broker) > 0; }));
  }
  ~Asking() {
    broker_.resume();
    thread_.join();
  }

 private:
  PrivateBroker& broker_;
  std::thread thread_;
};

constexpr double kNotARequestMs = 5'000;  // half of what a thread waits for the broker

TEST(Waiting, DoesNotWaitForAnotherThreadsRequest) {
  PrivateBroker broker;
  Client client = broker.client();
  Subscriber subscriber = client.subscriber_or_throw("quiet");
  Subscriber reader = client.subscriber_or_throw("loud");
  Publisher publisher = client.publisher_or_throw("loud");
  publish_sample(publisher, 5000, 0);
  const Asking asking(broker, client);
  const auto begin = now();
  View view;
  EXPECT_EQ(subscriber.take(view, milliseconds(20)).or_throw(), Status::kTimeout);
  EXPECT_EQ(publisher.wait_for_subscribers(2, milliseconds(20)).or_throw(), Status::kTimeout);
  publish_sample(publisher, 5000, 1);
  EXPECT_LT(milliseconds_since(begin), kNotARequestMs);
}

// A client whose subscriber is to be woken through an eventfd that the publisher has not rung yet.
struct EventLoop {
  explicit EventLoop(const PrivateBroker& broker)
      : publishing(broker.client("publishing")),
        reading(broker.client("reading")),
        publisher(publishing.publisher_or_throw("loop")),
        subscriber(reading.subscriber_or_throw("loop")),
        fd(subscriber.fd().or_throw()) {
    EXPECT_EQ(publisher.wait_for_subscribers(1, kSoon).or_throw(), Status::kOk);
  }
  // Takes until there is nothing, which arms the descriptor. How many samples there were.
  int take_all() {
    View view;
    int samples = 0;
    while (subscriber.take(view).or_throw() == Status::kOk) ++samples;
    return samples;
  }

  Client publishing;
  Client reading;
  Publisher publisher;
  Subscriber subscriber;
  int fd;
};

TEST(Waiting, PublishingToAnEventLoopDoesNotWaitForTheBroker) {
  constexpr int kSamples = 40;
  PrivateBroker broker;
  for (const bool asks : {true, false}) {
    EventLoop loop(broker);
    EXPECT_EQ(loop.take_all(), 0);
    std::optional<Asking> asking;
    if (asks)
      asking.emplace(broker, loop.publishing);
    else
      broker.pause();
    const auto begin = now();
    for (int i = 0; i < kSamples; ++i) ASSERT_EQ(loop.publisher.publish("x", 1, kSoon).or_throw(), Status::kOk);
    EXPECT_LT(milliseconds_since(begin), 1'000) << "a few milliseconds for the first, nothing for the others";
    EXPECT_TRUE(readable(loop.fd, kSoonMs)) << "who could not be rung looks by itself";
    EXPECT_EQ(loop.take_all(), kSamples);
    asking.reset();
    broker.resume();
  }
}

TEST(Waiting, ALoanThatMustGrowWaitsForTheBrokerAfterASkippedRing) {
  PrivateBroker broker;
  EventLoop loop(broker);
  EXPECT_EQ(loop.take_all(), 0);
  broker.pause();
  ASSERT_EQ(loop.publisher.publish("x", 1, kSoon).or_throw(), Status::kOk);
  const int skipped = unread_bytes(broker);
  std::thread growing([&] { publish_sample(loop.publisher, 20 * kMiB, 1); });
  EXPECT_TRUE(eventually([&] { return unread_bytes(broker) > skipped; }));
  std::this_thread::sleep_for(milliseconds(20));  // longer than a ring waits; a loan waits on
  broker.resume();
  growing.join();
  EXPECT_EQ(loop.take_all(), 2);
}

TEST(Waiting, SkippedRingIsTriedAgainAtTheNextPublish) {
  PrivateBroker broker;
  double fastest = kNotARequestMs;
  for (int round = 0; round < 5; ++round) {
    EventLoop loop(broker);
    const auto begin = now();
    EXPECT_EQ(loop.take_all(), 0);
    broker.pause();
    ASSERT_EQ(loop.publisher.publish("x", 1, kSoon).or_throw(), Status::kOk);
    broker.resume();
    ASSERT_TRUE(loop.publishing.ping());
    ASSERT_EQ(loop.publisher.publish("y", 1, kSoon).or_throw(), Status::kOk);
    ASSERT_TRUE(readable(loop.fd, kSoonMs));
    fastest = std::min(fastest, milliseconds_since(begin));
    EXPECT_EQ(loop.take_all(), 2);
  }
  EXPECT_LT(fastest, 700) << "by itself it looks after a second";
}

}  // namespace
}  // namespace holdfast::integration
