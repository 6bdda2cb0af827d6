// SPDX-License-Identifier: MIT
//
// Brokers and clients of two releases (proto/control/versions.hpp): upgrade and downgrade while everybody works, and what is
// said where two do not fit. A client of the next release is this program with the next library.
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <sys/wait.h>

#include "tests/integration/broker.hpp"
#include "tests/integration/payload.hpp"
#include "tests/integration/remote_client.hpp"

namespace holdfast::integration {
namespace {

constexpr const char* kNextBroker = HOLDFAST_NEXT_DIRECTORY "/holdfastd_next";
constexpr const char* kAfterNextBroker = HOLDFAST_NEXT_DIRECTORY "/holdfastd_after_next";
constexpr const char* kNextLibrary = HOLDFAST_NEXT_DIRECTORY "/libholdfast.so.1";

// A variable of the environment, for the processes that are started meanwhile.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    if (value != nullptr) ::setenv(name, value, 1);
  }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;
  ~Variable() { ::unsetenv(name_); }

 private:
  const char* name_;
};

// The same program with another library of the same name. `next`: that of the next release.
std::unique_ptr<RemoteClient> client_of(const PrivateBroker& broker, bool next, const std::string& name) {
  const Variable library("LD_PRELOAD", next ? kNextLibrary : nullptr);
  return std::make_unique<RemoteClient>(broker, name.c_str());
}

void start(PrivateBroker& broker, const char* program) {
  const Variable which("HOLDFAST_TEST_BROKER", program);
  broker.start();
}

// Ends it as a restart does. Afterwards it is as after kill().
void hand_over(PrivateBroker& broker) {
  ::kill(broker.pid(), SIGUSR1);
  siginfo_t ended{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(broker.pid()), &ended, WEXITED | WNOWAIT), 0);
  EXPECT_TRUE(ended.si_code == CLD_EXITED && ended.si_status == 0);
  broker.kill();
}

// The next broker knows which library a client has; this release's says nothing about it.
std::map<std::string, std::string> libraries(const PrivateBroker& broker) {
  std::map<std::string, std::string> found;
  const nlohmann::json listed = broker.request("sessions").at("sessions");
  for (const nlohmann::json& session : listed) found[session.at("name")] = session.value("library", "not asked");
  return found;
}

bool all_connected(const PrivateBroker& broker, std::size_t sessions) {
  const nlohmann::json listed = broker.request("sessions").at("sessions");
  return listed.size() == sessions && std::all_of(listed.begin(), listed.end(), [](const nlohmann::json& session) {
           return session.at("connected");
         });
}

// How far each publisher of the topic is, by its session.
std::map<std::uint64_t, std::uint64_t> heads(const PrivateBroker& broker, const std::string& name) {
  std::map<std::uint64_t, std::uint64_t> found;
  const nlohmann::json lanes = broker.topic(name).at("lanes");
  for (const nlohmann::json& lane : lanes)
    if (lane.at("state") == "open") found[lane.at("session")] = lane.at("head");
  return found;
}

bool all_ahead_of(const std::map<std::uint64_t, std::uint64_t>& before, const PrivateBroker& broker,
                  const std::string& topic) {
  const auto now = heads(broker, topic);
  return now.size() == before.size() && std::all_of(now.begin(), now.end(), [&](const auto& head) {
           const auto was = before.find(head.first);
           return was != before.end() && head.second > was->second + 20;
         });
}

// Answers that come when the client is told to stop.
void begin(RemoteClient& client, nlohmann::json command) { client.process().channel().send(command); }
nlohmann::json told_to_stop(RemoteClient& client) {
  Channel& channel = client.process().channel();
  channel.send({{"do", "session"}});
  nlohmann::json answer = channel.receive();
  if (answer.is_null() || answer.contains("broken")) throw Broken("a client failed: " + answer.dump());
  channel.receive();
  return answer;
}

// Clients of both releases, working all the time.
struct Load {
  explicit Load(const PrivateBroker& broker) {
    for (const bool next : {false, true}) {
      const std::string release = next ? "next" : "this";
      for (const bool lossless : {true, false}) {
        auto reader = client_of(broker, next, release + (lossless ? "-lossless" : "-oldest"));
        EXPECT_EQ(reader->subscribe("load", lossless).at("code"), HF_OK);
        (lossless ? all_of_it : as_it_comes).push_back(std::move(reader));
      }
      publishers.push_back(client_of(broker, next, release + "-publisher"));
      EXPECT_EQ(publishers.back()->open_publisher("load").at("code"), HF_OK);
      openers.push_back(client_of(broker, next, release + "-opener"));
    }
  }

  void begin_it(std::uint64_t ends) {
    for (auto* readers : {&all_of_it, &as_it_comes})
      for (const auto& reader : *readers) reader->begin_taking_until_ended(ends);
    for (const auto& publisher : publishers) begin(*publisher, {{"do", "publish_until_told"}, {"bytes", 4000}});
    for (const auto& opener : openers)
      begin(*opener, {{"do", "open_until_told"}, {"topic", "side/" + std::to_string(opener->session())}});
  }

  std::uint64_t end_it() {
    std::uint64_t published = 0;
    for (const auto& publisher : publishers) {
      published += told_to_stop(*publisher).at("published").get<std::uint64_t>();
      publisher->close_publisher();
    }
    for (const auto& opener : openers) EXPECT_GT(told_to_stop(*opener).at("opened").get<std::uint64_t>(), 20u);
    return published;
  }

  std::size_t clients() const { return all_of_it.size() + as_it_comes.size() + publishers.size() + openers.size(); }

  std::vector<std::unique_ptr<RemoteClient>> all_of_it, as_it_comes, publishers, openers;
};

// One that comes now, of either release: it publishes to all who are there.
std::uint64_t meet_newcomers(const PrivateBroker& broker) {
  constexpr std::uint64_t kSamples = 10;
  for (const bool next : {false, true}) {
    const auto newcomer = client_of(broker, next, "newcomer");
    EXPECT_EQ(newcomer->open_publisher("load").at("code"), HF_OK);
    newcomer->publish(kSamples, 3000);
    newcomer->drain();
    newcomer->close_publisher();
  }
  return 2 * kSamples;
}

TEST(Upgrade, TwentyTimesUpAndDownUnderLoadLosesNothing) {
  constexpr std::uint64_t kTimes = 20;
  PrivateBroker broker;
  Load load(broker);
  load.begin_it(load.publishers.size() + 2 * kTimes);
  std::uint64_t published = 0;
  for (std::uint64_t i = 0; i < kTimes; ++i) {
    const bool next = i % 2 == 0;
    // By turns as it should be, and by SIGKILL.
    if (i % 4 < 2) {
      hand_over(broker);
    } else {
      broker.kill();
    }
    start(broker, next ? kNextBroker : nullptr);
    ASSERT_TRUE(eventually([&] { return all_connected(broker, load.clients()); })) << broker.request("sessions");
    const auto then = heads(broker, "load");
    EXPECT_EQ(then.size(), load.publishers.size());
    published += meet_newcomers(broker);
    EXPECT_TRUE(eventually([&] { return all_ahead_of(then, broker, "load"); })) << broker.topic("load");
    ASSERT_TRUE(eventually([&] { return broker.stats().at("sessions") == load.clients(); }));
    for (const auto& [name, library] : libraries(broker)) {
      const char* of_next = next ? hf_version() : "not asked";
      const char* of_this = next ? "" : "not asked";
      EXPECT_EQ(library, name.starts_with("next") ? of_next : of_this) << name << " after " << i;
    }
  }
  published += load.end_it();
  for (const auto& reader : load.all_of_it) {
    const Seen seen = reader->finish_taking();
    EXPECT_EQ(seen.samples, published);
    EXPECT_EQ(seen.torn + seen.disorder + seen.missed + seen.turned + seen.aborted + seen.corrupt, 0u);
  }
  for (const auto& reader : load.as_it_comes) {
    const Seen seen = reader->finish_taking();
    EXPECT_EQ(seen.samples + seen.missed, published);
    EXPECT_EQ(seen.torn + seen.disorder + seen.aborted + seen.corrupt, 0u);
  }
  EXPECT_EQ(broker.stats().at("epoch"), kTimes + 1);
  const std::string log = broker.log();
  EXPECT_EQ(log.find("kept as"), std::string::npos) << "no registry was set aside";
  EXPECT_NE(log.find("is brought up from version"), std::string::npos);
  EXPECT_NE(log.find("stays at version"), std::string::npos);
  std::printf("%llu samples\n", static_cast<unsigned long long>(published));
}

TEST(Upgrade, NewerClientSaysToAnOlderBrokerOnlyWhatItKnows) {
  PrivateBroker broker;
  const auto client = client_of(broker, true, "next");
  ASSERT_EQ(client->open_publisher("t").at("code"), HF_OK);
  EXPECT_EQ(libraries(broker).at("next"), "not asked");
  broker.kill();
  start(broker, kNextBroker);
  EXPECT_EQ(libraries(broker).at("next"), "") << "not yet";
  ASSERT_EQ(client->subscribe("t").at("code"), HF_OK);
  EXPECT_TRUE(eventually([&] { return libraries(broker).at("next") == hf_version(); })) << "said once it was asked";
  EXPECT_EQ(broker.stats().at("protocol"), 2);
  EXPECT_EQ(broker.stats().at("protocol_min"), 1);
}

TEST(Upgrade, BrokerThatHasGoneTooFarIsTheEndInWordsThatNameBoth) {
  PrivateBroker broker;
  Client client = broker.client("old");
  Publisher publisher = client.publisher_or_throw("far");
  Subscriber subscriber = client.subscriber_or_throw("far");
  const auto next = client_of(broker, true, "next");
  ASSERT_EQ(next->subscribe("far").at("code"), HF_OK);
  next->begin_taking_until_ended();
  View view;
  const auto pass_on = [&](std::uint32_t from, std::uint32_t to) {
    for (std::uint32_t seed = from; seed < to; ++seed) {
      publish_sample(publisher, 5000, seed, kSoon);
      ASSERT_EQ(subscriber.take(view, kSoon).or_throw(), Status::kOk);
      EXPECT_TRUE(sample_is_whole(view));
    }
  };
  pass_on(0, 200);  // the lane has its memory: only a broker could give it more
  broker.kill();
  start(broker, kAfterNextBroker);
  const auto expect_words = [](const Error& error) {
    EXPECT_EQ(error.code, HF_E_VERSION) << error.sentence;
    EXPECT_NE(error.sentence.find("the client speaks protocol 1 and layout 1"), std::string::npos) << error.sentence;
    EXPECT_NE(error.sentence.find("protocol 2 and layout 1: update the older of the two"), std::string::npos)
        << error.sentence;
  };
  const auto asked = client.ping();
  ASSERT_FALSE(asked);
  expect_words(asked.error());
  const auto again = client.subscriber("another");
  ASSERT_FALSE(again) << "it is final";
  expect_words(again.error());
  ClientOptions options;
  options.socket = broker.socket();
  const auto fresh = Client::connect(options);
  ASSERT_FALSE(fresh);
  expect_words(fresh.error());
  // What is attached goes on, and whoever fits is served.
  pass_on(200, 400);
  EXPECT_TRUE(eventually([&] { return libraries(broker).at("next") == hf_version(); }));
  publisher.close();
  const Seen seen = next->finish_taking();
  EXPECT_EQ(seen.samples, 400u);
  EXPECT_EQ(seen.torn + seen.disorder + seen.missed, 0u);
}

}  // namespace
}  // namespace holdfast::integration
