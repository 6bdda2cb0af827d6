// SPDX-License-Identifier: MIT
//
// A broker that is there and does not answer, or dies between an answer and what the client does with it: who does not
// want to wait does not, and no session of nobody is left.
#include <atomic>
#include <future>
#include <optional>
#include <string>
#include <thread>

#include <gtest/gtest.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/integration/broker.hpp"
#include "tests/integration/payload.hpp"
#include "tests/integration/process_state.hpp"
#include "tests/integration/relay.hpp"
#include "tests/integration/remote_client.hpp"
#include "tests/integration/socket_address.hpp"

namespace holdfast::integration {
namespace {

constexpr nanoseconds kPatient = std::chrono::minutes(10);  // what no test may wait for

bool names(const std::string& sentence, const char* what) { return sentence.find(what) != std::string::npos; }

// SIOCOUTQ: has the kernel something of ours that the broker has not read? FIONREAD: of the broker's that we have not?
bool waits(int connection, unsigned long request) {
  int bytes = 0;
  return ::ioctl(connection, request, &bytes) == 0 && bytes > 0;
}

// ---- who does not wait --------------------------------------------------------------------------------------------

TEST(StoppedBroker, LoanThatLooksDoesNotWaitAndItsMemoryIsThereAfterwards) {
  PrivateBroker broker;
  Client client = broker.client("patient", kPatient);
  Publisher publisher = client.publisher_or_throw("look");
  Subscriber subscriber = client.subscriber_or_throw("look");
  broker.pause();
  const auto begin = now();
  for (int i = 0; i < 10'000; ++i) {
    const auto loan = publisher.loan(20 * kMiB, 0, kLook);
    ASSERT_FALSE(loan);
    ASSERT_EQ(loan.error().code, HF_E_NO_BROKER);
    EXPECT_TRUE(names(loan.error().sentence, "lane.grow")) << loan.error().sentence;
    EXPECT_FALSE(names(loan.error().sentence, " 0 ms")) << loan.error().sentence;
  }
  EXPECT_LT(milliseconds_since(begin), 20'000) << "once it waits for a moment, and then no more";
  // What needs no memory goes on.
  for (std::uint32_t i = 0; i < 100; ++i) ASSERT_EQ(hf_publish(publisher.c(), "x", 1, 0), HF_OK);
  broker.resume();
  ASSERT_TRUE(eventually([&] { return bool(publisher.loan(20 * kMiB, 0, kLook)); }));
  publish_sample(publisher, 20 * kMiB, 7, kSoon);
  // Once only, though it was asked more than once.
  EXPECT_LT(broker.topic("look").at("lanes")[0].at("bytes").get<std::uint64_t>(), 45 * kMiB);
}

TEST(StoppedBroker, LoanWaitsNoLongerThanItsCaller) {
  PrivateBroker broker;
  Client client = broker.client("patient", kPatient);
  Publisher publisher = client.publisher_or_throw("bounded");
  broker.pause();
  const auto begin = now();
  const auto waited = publisher.loan(20 * kMiB, 0, milliseconds(300));
  EXPECT_FALSE(waited);
  EXPECT_GE(milliseconds_since(begin), 300);
  EXPECT_LT(milliseconds_since(begin), 10'000);
  broker.resume();
  // One who waits gets it.
  publish_sample(publisher, 20 * kMiB, 7, kSoon);
}

// A thread that waits for a broker that is stopped, until it goes on.
class Waiting {
 public:
  Waiting(const PrivateBroker& broker, Client& client)
      : thread_([&client] { EXPECT_TRUE(client.ping()) << "as soon as the broker goes on"; }) {
    // It waits once the kernel has its request, which the broker does not read.
    const int connection = connection_to(broker.socket());
    EXPECT_TRUE(eventually([&] { return waits(connection, SIOCOUTQ); }));
  }
  ~Waiting() { thread_.join(); }

 private:
  std::thread thread_;
};

TEST(StoppedBroker, ThreadThatWaitsForItMakesNoOtherOneWait) {
  PrivateBroker broker;
  Client client = broker.client("patient", kPatient);
  Publisher publisher = client.publisher_or_throw("beside");
  std::optional<Publisher> closed(client.publisher_or_throw("beside/closed"));
  broker.pause();
  {
    const Waiting waiting(broker, client);
    const auto begin = now();
    for (int i = 0; i < 100; ++i) EXPECT_FALSE(publisher.loan(20 * kMiB, 0, kLook));
    EXPECT_FALSE(publisher.loan(20 * kMiB, 0, milliseconds(300)));
    closed.reset();
    EXPECT_LT(milliseconds_since(begin), 15'000);
    broker.resume();
  }
  ASSERT_TRUE(client.ping());
  EXPECT_TRUE(eventually([&] { return broker.stats().at("publishers") == 1; })) << resources(broker);
  publish_sample(publisher, 20 * kMiB, 7, kSoon);
}

// ---- the data path does not wait ----------------------------------------------------------------------------------

TEST(StoppedBroker, PublishThatFindsAStalledReaderDoesNotWait) {
  PrivateBroker broker;
  Client client = broker.client("patient", kPatient);
  PublisherOptions options;
  options.ring_slots = 8;
  options.stall_timeout = milliseconds(100);
  Publisher publisher = client.publisher_or_throw("stalled", options);
  SubscriberOptions lossless;
  lossless.lossless = true;
  Subscriber subscriber = client.subscriber_or_throw("stalled", lossless);
  ASSERT_EQ(publisher.wait_for_subscribers(1, kSoon).or_throw(), Status::kOk);
  broker.pause();
  const auto begin = now();
  int full = 0;
  while (milliseconds_since(begin) < 500 || full < 10'000)
    if (hf_publish(publisher.c(), "x", 1, 0) == HF_FULL) ++full;
  EXPECT_EQ(hf_publish(publisher.c(), "x", 1, 300'000'000), HF_TIMEOUT);
  EXPECT_LT(milliseconds_since(begin), 20'000) << "a moment, once";
  broker.resume();
  EXPECT_TRUE(eventually([&] { return hf_publish(publisher.c(), "x", 1, 0) == HF_OK; })) << "the reader is turned";
}

TEST(StoppedBroker, PublishThatMeetsANewReaderDoesNotWait) {
  PrivateBroker broker;
  Client client = broker.client("patient", kPatient);
  Publisher publisher = client.publisher_or_throw("reader");
  RemoteClient reader(broker);
  ASSERT_EQ(reader.subscribe("reader").at("code"), HF_OK);
  broker.pause();
  const auto begin = now();
  // A reader that nobody can see yet has taken nothing: the ring is full in the end.
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(hf_publish(publisher.c(), "x", 1, 0), i < 64 ? HF_OK : HF_FULL) << i;
  EXPECT_EQ(publisher.wait_for_subscribers(1, milliseconds(300)).or_throw(), Status::kTimeout);
  EXPECT_LT(milliseconds_since(begin), 20'000) << "a moment, once";
  broker.resume();
  EXPECT_TRUE(eventually([&] { return publisher.wait_for_subscribers(1, kLook).or_throw() == Status::kOk; }));
}

// Without a moment's wait, many times.
void publish_and_take(Publisher& publisher, Subscriber& subscriber) {
  View view;
  for (int i = 0; i < 1000; ++i) {
    ASSERT_EQ(hf_publish(publisher.c(), "x", 1, 0), HF_OK);
    ASSERT_EQ(subscriber.take(view).or_throw(), Status::kOk);
    ASSERT_EQ(subscriber.take(view).or_throw(), Status::kEmpty);
  }
}

TEST(StoppedBroker, TakeThatMeetsANewPublisherDoesNotWait) {
  PrivateBroker broker;
  Client client = broker.client("patient", kPatient);
  Publisher publisher = client.publisher_or_throw("publisher");
  Subscriber subscriber = client.subscriber_or_throw("publisher");
  RemoteClient other(broker);
  ASSERT_EQ(other.open_publisher("publisher").at("code"), HF_OK);
  broker.pause();
  const auto begin = now();
  ASSERT_NO_FATAL_FAILURE(publish_and_take(publisher, subscriber));
  View view;
  EXPECT_EQ(subscriber.take(view, milliseconds(300)).or_throw(), Status::kTimeout);
  EXPECT_LT(milliseconds_since(begin), 20'000) << "a moment, once";
  broker.resume();
  other.publish(1, 5000);
  EXPECT_EQ(subscriber.take(view, kSoon).or_throw(), Status::kOk);
}

TEST(StoppedBroker, EventLoopThatNeedsANewDescriptorDoesNotWait) {
  PrivateBroker broker;
  Client client = broker.client("patient", kPatient);
  Publisher publisher = client.publisher_or_throw("loop");
  Subscriber subscriber = client.subscriber_or_throw("loop");
  (void)subscriber.fd().or_throw();
  broker.kill();
  broker.start();
  ASSERT_TRUE(client.ping());
  broker.pause();
  const auto begin = now();
  ASSERT_NO_FATAL_FAILURE(publish_and_take(publisher, subscriber));
  EXPECT_LT(milliseconds_since(begin), 20'000) << "a moment, once";
  broker.resume();
}

// Nobody but the take is there to go on with what the broker answers to the resumption.
TEST(StoppedBroker, TakeThatFindsANewBrokerGoesOnWithWhatItAnswersLate) {
  PrivateBroker broker;
  Client client = broker.client("looks", kPatient);
  Subscriber subscriber = client.subscriber_or_throw("resumed");
  RemoteClient other(broker);
  ASSERT_EQ(other.open_publisher("resumed").at("code"), HF_OK);
  other.publish(1, 5000);
  broker.kill();
  broker.start();
  broker.pause();
  View view;
  ASSERT_TRUE(eventually([&] {
    EXPECT_EQ(subscriber.take(view).or_throw(), Status::kEmpty);
    return waits(connection_to(broker.socket()), SIOCOUTQ);
  }));
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(subscriber.take(view).or_throw(), Status::kEmpty);
  broker.resume();
  EXPECT_TRUE(eventually([&] { return subscriber.take(view).or_throw() == Status::kOk; }));
}

// Its answers all come when nobody waits for them any more.
TEST(StoppedBroker, WhatIsAnsweredLateIsNotAskedAgain) {
  PrivateBroker broker;
  Client client = broker.client("patient", kPatient);
  Subscriber subscriber = client.subscriber_or_throw("late");
  const int connection = connection_to(broker.socket());
  RemoteClient writer(broker);
  ASSERT_EQ(writer.open_publisher("late").at("code"), HF_OK);
  writer.publish(1, 5000);
  View view;
  Status status = Status::kEmpty;
  for (int i = 0; i < 8 && status == Status::kEmpty; ++i) {
    broker.pause();
    EXPECT_TRUE(eventually([&] {
      status = subscriber.take(view).or_throw();
      return status != Status::kEmpty || waits(connection, SIOCOUTQ);
    }));
    broker.resume();
    if (status == Status::kEmpty) EXPECT_TRUE(eventually([&] { return waits(connection, FIONREAD); }));
  }
  EXPECT_EQ(status, Status::kOk) << "the lanes, and who publishes there";
}

// ---- what is said to it all the same ------------------------------------------------------------------------------

TEST(StoppedBroker, ClosingTakesAMomentAndIsHeardLater) {
  PrivateBroker broker;
  Client client = broker.client("patient", kPatient);
  std::optional<Publisher> publisher(client.publisher_or_throw("close"));
  std::optional<Subscriber> subscriber(client.subscriber_or_throw("close"));
  publish_sample(*publisher, 5000, 1);
  View view;
  ASSERT_EQ(subscriber->take(view, kSoon).or_throw(), Status::kOk);
  broker.pause();
  const auto begin = now();
  publisher.reset();
  view.release();
  subscriber.reset();
  EXPECT_LT(milliseconds_since(begin), 15'000);
  broker.resume();
  ASSERT_TRUE(eventually([&] { return bool(client.ping()); }));
  EXPECT_TRUE(eventually([&] { return broker.stats().at("publishers") == 0; })) << resources(broker);
  EXPECT_EQ(broker.stats().at("subscribers"), 0);
}

TEST(StoppedBroker, LastViewOfAnEndedLaneIsReleasedInAMoment) {
  PrivateBroker broker;
  Client client = broker.client("patient", kPatient);
  Subscriber subscriber = client.subscriber_or_throw("ended");
  PublisherOptions options;
  options.linger = milliseconds(1);
  {
    Publisher publisher = client.publisher_or_throw("ended", options);
    publish_sample(publisher, 5000, 1);
  }
  View view;
  View end;
  ASSERT_EQ(subscriber.take(view, kSoon).or_throw(), Status::kOk);
  broker.pause();
  const auto begin = now();
  ASSERT_EQ(subscriber.take(end, kSoon).or_throw(), Status::kFinished);
  view.release();
  EXPECT_LT(milliseconds_since(begin), 10'000);
  broker.resume();
  ASSERT_TRUE(eventually([&] { return bool(client.ping()); }));
  EXPECT_TRUE(eventually([&] { return broker.stats().at("lanes") == 0; })) << broker.topic("ended");
}

// A lane that has ended while the broker is stopped; its subscriber has not heard of that yet.
struct EndedLane {
  explicit EndedLane(PrivateBroker& of) : broker(of), subscriber(reading.subscriber_or_throw("released")) {
    PublisherOptions options;
    options.linger = milliseconds(1);
    Publisher publisher = writing.publisher_or_throw("released", options);
    publish_sample(publisher, 5000, 1);
    View view;
    EXPECT_EQ(subscriber.take(view, kSoon).or_throw(), Status::kOk);
    view.release();
    broker.pause();
  }

  PrivateBroker& broker;
  Client reading = broker.client("reading", kPatient);
  Client writing = broker.client("writing", kPatient);
  Subscriber subscriber;
};

TEST(StoppedBroker, LaneThatIsReleasedAndNotHeardOfIsReleasedAtTheNextBroker) {
  PrivateBroker broker;
  EndedLane ended(broker);
  View end;
  ASSERT_EQ(ended.subscriber.take(end, kSoon).or_throw(), Status::kFinished);
  broker.kill();
  broker.start();
  ASSERT_TRUE(ended.writing.ping());
  ASSERT_TRUE(ended.reading.ping());
  EXPECT_TRUE(eventually([&] { return broker.stats().at("lanes") == 0; })) << broker.topic("released");
}

TEST(StoppedBroker, LaneThatIsReleasedWhileAnotherThreadWaitsNeedsNoLaterRequest) {
  PrivateBroker broker;
  EndedLane ended(broker);
  {
    const Waiting waiting(broker, ended.reading);
    View end;
    EXPECT_EQ(ended.subscriber.take(end, kSoon).or_throw(), Status::kFinished);
    broker.resume();
  }
  EXPECT_TRUE(eventually([&] { return broker.stats().at("lanes") == 0; })) << broker.topic("released");
}

TEST(StoppedBroker, ClientSaysGoodbyeInAMoment) {
  PrivateBroker broker;
  std::optional<Client> client(broker.client("patient", kPatient));
  broker.pause();
  const auto begin = now();
  client.reset();
  EXPECT_LT(milliseconds_since(begin), 10'000);
  broker.resume();
  EXPECT_TRUE(eventually([&] { return broker.stats().at("sessions") == 0; })) << "and it is heard";
}

// ---- sessions of nobody -------------------------------------------------------------------------------------------

TEST(Hello, ThatIsNotAnsweredInTimeLeavesNoSession) {
  PrivateBroker broker;
  broker.pause();
  ClientOptions options;
  options.socket = broker.socket();
  options.timeout = milliseconds(100);
  for (int i = 0; i < 5; ++i) {
    const auto client = Client::connect(options);
    ASSERT_FALSE(client);
    EXPECT_EQ(client.error().code, HF_E_NO_BROKER);
    EXPECT_TRUE(names(client.error().sentence, "hello within 100 ms")) << client.error().sentence;
    EXPECT_TRUE(names(client.error().sentence, "open the client again")) << client.error().sentence;
    EXPECT_FALSE(names(client.error().sentence, "by itself")) << client.error().sentence;
  }
  broker.resume();
  Client client = broker.client("later");
  EXPECT_TRUE(eventually([&] { return broker.stats().at("sessions") == 1; })) << broker.request("sessions");
}

// The answer came, and nobody read it: what the client says before it gives up ends the session all the same.
TEST(Hello, ThatIsAnsweredTooLateLeavesNoSession) {
  PrivateBroker broker;
  for (int i = 0; i < 20; ++i) {
    RawControl client(broker.socket());
    client.send(
        R"({"jsonrpc":"2.0","id":1,"method":"hello","params":{"protocol":1,"layout":1,"name":"x","exe":"/x","membarrier":true}})"
        "\n"
        R"({"jsonrpc":"2.0","id":2,"method":"bye"})"
        "\n");
  }
  Client client = broker.client("later");
  EXPECT_TRUE(eventually([&] { return broker.stats().at("sessions") == 1; })) << broker.request("sessions");
}

ClientOptions through(const std::string& socket, nanoseconds timeout) {
  ClientOptions options;
  options.socket = socket;
  options.timeout = timeout;
  return options;
}

// The role "opener": opens a client, says how that went, and holds it.
int opener(Channel& test, const Arguments& arguments) {
  auto client = Client::connect(through(arguments.at(0), milliseconds(std::stoi(arguments.at(1)))));
  if (client)
    test.send({{"code", HF_OK}, {"ping", bool(client->ping())}});
  else
    test.send({{"code", client.error().code}, {"sentence", client.error().sentence}});
  (void)test.receive(10 * kSoon);
  return 0;
}

const Role kOpener("opener", opener);

// A client whose hello was answered, and who has not heard of it yet: it is stopped.
class Answered {
 public:
  Answered(const PrivateBroker& broker, milliseconds timeout)
      : relay_(broker.directory() + "/relay", broker.socket()),
        opener_(begin(), {broker.directory() + "/relay", std::to_string(timeout.count())}) {
    answered_.get_future().wait();
    opener_.kill(SIGSTOP);
    siginfo_t stopped{};
    ::waitid(P_PID, static_cast<id_t>(opener_.pid()), &stopped, WSTOPPED);
  }

  // The client has the answer, and its connection has ended.
  void deliver() {
    go_on_.set_value();
    EXPECT_TRUE(eventually([&] { return relay_.connections() == 0; }));
    opener_.kill(SIGCONT);
  }
  nlohmann::json result() { return opener_.channel().receive(); }

 private:
  const char* begin() {
    relay_.before_next_answer([this] {
      answered_.set_value();
      go_on_.get_future().wait();
    });
    return "opener";
  }

  std::promise<void> answered_;
  std::promise<void> go_on_;
  Relay relay_;
  Process opener_;
};

TEST(Hello, OfABrokerThatDiesAfterItsAnswerIsSaidToTheNextOne) {
  PrivateBroker broker;
  Answered answered(broker, std::chrono::duration_cast<milliseconds>(kSoon));
  broker.kill();
  broker.start();
  EXPECT_EQ(broker.stats().at("sessions"), 0) << "nobody holds it";
  answered.deliver();
  const nlohmann::json result = answered.result();
  EXPECT_EQ(result.at("code"), HF_OK) << result;
  EXPECT_EQ(result.value("ping", false), true);
  EXPECT_EQ(broker.stats().at("sessions"), 1) << broker.request("sessions");
}

TEST(Hello, OfABrokerThatDiesAfterItsAnswerIsResumedByALaterOne) {
  PrivateBroker broker;
  Answered answered(broker, std::chrono::duration_cast<milliseconds>(kSoon));
  broker.kill();
  answered.deliver();
  broker.start();
  const nlohmann::json result = answered.result();
  EXPECT_EQ(result.at("code"), HF_OK) << result;
  EXPECT_EQ(result.value("ping", false), true);
  EXPECT_EQ(broker.stats().at("sessions"), 1) << broker.request("sessions");
}

TEST(Hello, WithoutANextBrokerIsAFailureAndLeavesNoSession) {
  PrivateBroker broker;
  Answered answered(broker, milliseconds(300));
  broker.kill();
  answered.deliver();
  EXPECT_EQ(answered.result().at("code"), HF_E_NO_BROKER);
  broker.start();
  EXPECT_EQ(broker.stats().at("sessions"), 0) << broker.request("sessions");
}

// ---- a broker that goes while a client is opened ------------------------------------------------------------------

// What listens where the broker did takes one connection, answers its hello with `answer`, and is gone.
class Leaving {
 public:
  Leaving(const std::string& path, std::string answer)
      : listener_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)),
        answer_(std::move(answer)) {
    const sockaddr_un address = address_of(path);
    ::unlink(path.c_str());
    if (::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener_.get(), 1) != 0)
      throw Broken("nothing can listen at " + path);
    thread_ = std::thread([this] { serve(); });
  }
  void wait() { thread_.join(); }

 private:
  void serve() {
    const Descriptor connection(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    char hello[4096];
    EXPECT_GT(::recv(connection.get(), hello, sizeof hello, 0), 0);
    (void)::send(connection.get(), answer_.data(), answer_.size(), MSG_NOSIGNAL);
    listener_.reset();
  }

  Descriptor listener_;
  std::string answer_;
  std::thread thread_;
};

void open_across_a_change(const std::string& answer) {
  PrivateBroker broker;
  broker.kill();
  Leaving old(broker.socket(), answer);
  auto opening = std::async(std::launch::async, [&] { return Client::connect(through(broker.socket(), kSoon)); });
  old.wait();
  broker.start();
  const auto client = opening.get();
  EXPECT_TRUE(client) << client.error().sentence;
}

TEST(Opening, AClientWaitsForTheNextBrokerWhereOneIsDraining) {
  open_across_a_change(
      R"({"jsonrpc":"2.0","id":1,"error":{"code":-32010,"message":"shutting down","data":{"error":"draining"}}})"
      "\n");
}

TEST(Opening, AClientWaitsForTheNextBrokerWhereOneDiesInTheMiddle) { open_across_a_change(""); }

TEST(Opening, AClientWaitsNoLongerThanItsTimeout) {
  PrivateBroker broker;
  broker.kill();
  Leaving old(broker.socket(), "");
  const auto begin = now();
  const auto client = Client::connect(through(broker.socket(), milliseconds(300)));
  old.wait();
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().code, HF_E_NO_BROKER);
  EXPECT_GE(milliseconds_since(begin), 300);
  EXPECT_LT(milliseconds_since(begin), 20'000);
}

TEST(Opening, AClientWaitsForNothingWhereThereIsNoBroker) {
  PrivateBroker broker;
  broker.kill();
  const auto client = Client::connect(through(broker.socket(), kPatient));
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().code, HF_E_NO_BROKER);
}

// ---- sentences ----------------------------------------------------------------------------------------------------

// What failed is not repeated, so the caller is told to; and told once.
TEST(Sentences, OfAFailedRequestSayWhatTheCallerDoes) {
  PrivateBroker broker;
  Client client = broker.client("short", milliseconds(200));
  broker.kill();
  for (int i = 0; i < 2; ++i) {
    const auto opened = client.publisher("sentence");
    ASSERT_FALSE(opened);
    const std::string sentence = opened.error().sentence;
    EXPECT_TRUE(names(sentence, "call again")) << sentence;
    EXPECT_EQ(sentence.find("call again"), sentence.rfind("call again")) << sentence;
    EXPECT_FALSE(names(sentence, "HOLDFAST_SOCKET")) << "this client knows where to look: " << sentence;
  }
  const auto none = Client::connect(through(broker.socket(), milliseconds(200)));
  ASSERT_FALSE(none);
  EXPECT_TRUE(names(none.error().sentence, "Start holdfastd")) << none.error().sentence;
  EXPECT_FALSE(names(none.error().sentence, "by itself")) << none.error().sentence;
}

}  // namespace
}  // namespace holdfast::integration
