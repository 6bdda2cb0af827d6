// SPDX-License-Identifier: MIT
//
// SIGKILL at every row of the crash tables of publishers and subscribers, in real processes.
//
// For each crash point: a private broker; survivors in this process, with the ordinary library; a child, whose library
// kills it at that point. Then: the others go on and get exactly what was published, whole; an end is reported once;
// nothing of the dead one is left.
#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <poll.h>

#include "tests/crash/crash_child.hpp"
#include "tests/crash/crash_points.hpp"
#include "tests/crash/feed.hpp"
#include "tests/crash/survivor.hpp"
#include "tests/integration/broker.hpp"

namespace holdfast::crash {
namespace {

using integration::Broken;
using integration::eventually;
using integration::kSoon;
using integration::PrivateBroker;
using Tally = Survivor::Tally;

constexpr std::chrono::milliseconds kLinger{1};
constexpr std::uint32_t kSecondWriter = 77;
constexpr std::uint32_t kFeedWriter = 78;

// What must be as before when everybody has gone.
struct Baseline {
  nlohmann::json resources;
  std::vector<std::string> files;

  explicit Baseline(const PrivateBroker& broker) : resources(integration::resources(broker)), files(sorted(broker)) {}

  static std::vector<std::string> sorted(const PrivateBroker& broker) {
    std::vector<std::string> files = broker.shm_files();
    std::sort(files.begin(), files.end());
    return files;
  }

  void expect_again(const PrivateBroker& broker) const {
    const bool same = eventually([&] { return integration::resources(broker) == resources && sorted(broker) == files; },
                                 std::chrono::seconds(20));
    EXPECT_TRUE(same) << "left behind: " << integration::resources(broker) << " instead of " << resources << ", "
                      << sorted(broker).size() << " files instead of " << files.size() << "; "
                      << broker.request("sessions") << broker.request("topics") << broker.request("segments");
  }
};

bool session_is_gone(const PrivateBroker& broker, pid_t pid) {
  const nlohmann::json sessions = broker.request("sessions")["sessions"];
  for (const nlohmann::json& session : sessions)
    if (session["pid"] == pid) return false;
  return true;
}

PublisherOptions small_ring(std::uint32_t slots) {
  PublisherOptions options;
  options.ring_slots = slots;
  options.linger = kLinger;
  return options;
}

// ---- a publisher dies

class PublisherScene {
 public:
  explicit PublisherScene(PrivateBroker& broker)
      : broker_(broker),
        lossless_(broker, kTopic, true),
        drop_oldest_(broker, kTopic, false),
        second_client_(broker.client("second publisher")),
        second_(second_client_.publisher_or_throw(kTopic, small_ring(16))) {
    for (Survivor* survivor : {&lossless_, &drop_oldest_}) {
      survivor->quit_after(second_client_.session());
      survivor->start();
    }
  }

  // Runs the child until it is gone, and takes stock.
  CrashReport play(const std::optional<Kill>& kill) {
    CrashChild child({"publisher", broker_.socket(), kTopic}, kill);
    child_pid_ = child.pid();
    serve(child);
    const CrashReport report = child.expect_end();
    lossless_.never_hold();
    drop_oldest_.never_hold();
    EXPECT_TRUE(eventually([&] { return session_is_gone(broker_, child_pid_); })) << "the session outlives its process";
    others_go_on();
    close(report, kill.has_value());
    return report;
  }

 private:
  static constexpr const char* kTopic = "crash/publisher";

  // Does what the child asks for, until it hangs up, and publishes meanwhile.
  void serve(CrashChild& child) {
    while (true) {
      publish_second(0);
      pollfd readable{child.channel().fd(), POLLIN, 0};
      if (::poll(&readable, 1, 1) <= 0) continue;
      const nlohmann::json message = child.channel().receive();
      if (message.is_null()) return;
      if (message.contains("lane")) {
        ++lanes_;
        child_session_ = message["session"];
      } else {
        (message["go"] == "lossless" ? lossless_ : drop_oldest_).go();
      }
    }
  }

  bool publish_second(std::int64_t timeout_ns) {
    const std::uint64_t position = second_.position();
    std::uint8_t payload[2000];
    const std::uint64_t bytes = position % 4 == 0 ? 2000 : 30;
    write_sample(payload, bytes, kSecondWriter, position);
    return hf_publish(second_.c(), payload, bytes, timeout_ns) == HF_OK;
  }

  void others_go_on() {
    const std::int64_t soon_ns = kSoon.count();
    for (int i = 0; i < 100; ++i) EXPECT_TRUE(publish_second(soon_ns)) << hf_last_error();
    EXPECT_TRUE(lossless_.wait_for(second_client_.session(), second_.position()));
    // Who comes later reads what is left of the dead one's lane, if it is still there, and is told of its end.
    late();
    // And the topic takes another publisher.
    Client client = broker_.client("third publisher");
    Publisher third = client.publisher_or_throw(kTopic);
    std::uint8_t payload[32];
    write_sample(payload, 32, kSecondWriter + 100, 0);
    EXPECT_EQ(hf_publish(third.c(), payload, 32, soon_ns), HF_OK);
    third_session_ = client.session();
  }

  void late() {
    Client client = broker_.client("late subscriber");
    SubscriberOptions options;
    options.start = HF_START_OLDEST;
    Subscriber late = client.subscriber_or_throw(kTopic, options);
    int ends = 0;
    for (int result = HF_OK; result != HF_EMPTY;) {
      View view;
      result = hf_take(late.c(), &view.c());
      ASSERT_GE(result, 0) << hf_last_error();
      SampleHeader header{};
      if (result == HF_OK) {
        EXPECT_TRUE(read_sample(view.data(), view.bytes(), header)) << view.position();
      }
      if (result == HF_FINISHED || result == HF_ABORTED) ++ends;
    }
    EXPECT_LE(ends, lanes_);
  }

  void close(const CrashReport& report, bool killed) {
    const std::uint64_t second_published = second_.position();
    const std::uint32_t second_session = second_client_.session();
    second_.close();
    second_client_.close();
    const auto count = [&](const char* site) {
      const auto found = report.count.find(site);
      return found == report.count.end() ? std::uint64_t{0} : found->second;
    };
    // The child counted its stamps: exactly so many samples are published.
    const std::uint64_t published = count("publish.stamp");
    const int finished = static_cast<int>(count("finish.state"));
    const std::map<std::uint32_t, Tally> exact = {
        {child_session_, {published, 0, finished, lanes_ - finished}},
        {second_session, {second_published, 0, 1, 0}},
        {third_session_, {1, 0, 1, 0}},
    };
    EXPECT_EQ(lossless_.join(), exact);
    std::map<std::uint32_t, Tally> lossy = drop_oldest_.join();
    if (!killed) EXPECT_GT(lossy[child_session_].missed, 0u) << "nothing was ever lost: the scene is too tame";
    for (auto& [session, tally] : lossy) tally = {tally.taken + tally.missed, 0, tally.finished, tally.aborted};
    EXPECT_EQ(lossy, exact);
    if (!killed) EXPECT_EQ(finished, 2);
  }

  PrivateBroker& broker_;
  Survivor lossless_;
  Survivor drop_oldest_;
  Client second_client_;
  Publisher second_;
  pid_t child_pid_ = -1;
  std::uint32_t child_session_ = 0;
  std::uint32_t third_session_ = 0;
  int lanes_ = 0;
};

// ---- a subscriber dies

class SubscriberScene {
 public:
  explicit SubscriberScene(PrivateBroker& broker)
      : broker_(broker),
        lossless_(broker, kTopic, true),
        drop_oldest_(broker, kTopic, false),
        feed_(broker, kTopic, options(), kFeedWriter) {
    for (Survivor* survivor : {&lossless_, &drop_oldest_}) {
      survivor->quit_after(feed_.session());
      survivor->start();
    }
    feed_.add(50, Feed::Kind::kMixed);
    EXPECT_TRUE(feed_.wait_idle()) << feed_.failure();
  }

  CrashReport play(const std::optional<Kill>& kill, const char* first) {
    CrashChild child({"subscriber", broker_.socket(), kTopic, first}, kill);
    serve(child);
    const CrashReport report = child.expect_end();
    feed_.stop();
    EXPECT_TRUE(eventually([&] { return session_is_gone(broker_, child.pid()); }))
        << "the session outlives its process";
    // Off the rosters, and its pins and its cursor with it: all chunks come round several times.
    const nlohmann::json topic = broker_.topic(kTopic);
    EXPECT_EQ(topic["subscriptions_count"], 2) << topic;
    EXPECT_EQ(topic["lanes"][0]["readers"], 2) << topic;
    EXPECT_TRUE(feed_.wait_idle()) << feed_.failure();
    EXPECT_EQ(feed_.subscriber_count(), 2) << "the dead one is on the roster";
    const std::uint64_t bytes = topic["lanes"][0]["bytes"];
    feed_.add(400, Feed::Kind::kChunk);
    EXPECT_TRUE(feed_.wait_idle()) << feed_.failure();
    EXPECT_LE(broker_.topic(kTopic)["lanes"][0]["bytes"].get<std::uint64_t>(), bytes + (std::uint64_t{1} << 20));
    close();
    return report;
  }

 private:
  static constexpr const char* kTopic = "crash/subscriber";

  static PublisherOptions options() {
    PublisherOptions options = small_ring(256);
    options.bytes_max = std::uint64_t{4} << 20;
    return options;
  }

  void serve(CrashChild& child) {
    while (true) {
      const nlohmann::json message = child.channel().receive();
      if (message.is_null()) return;
      if (message.contains("feed")) {
        feed_.add(message["feed"], kind_of(message["kind"]));
        if (message["wait"]) EXPECT_TRUE(feed_.wait_idle()) << feed_.failure();
      } else if (message.contains("fill")) {
        fill(child);
      } else if (message.contains("stop")) {
        feed_.stop();
      } else {
        // The child makes room until it is answered.
        EXPECT_TRUE(feed_.wait_idle()) << feed_.failure();
      }
      try {
        child.channel().send({{"ok", true}});
      } catch (const Broken&) {
        // It died meanwhile: the next receive() says so.
      }
    }
  }

  static Feed::Kind kind_of(const std::string& kind) {
    return kind == "inline" ? Feed::Kind::kInline : kind == "chunk" ? Feed::Kind::kChunk : Feed::Kind::kMixed;
  }

  // Publishes until the publisher finds no room, once more than it had before.
  void fill(CrashChild& child) {
    const std::uint64_t before = full();
    feed_.fill();
    EXPECT_TRUE(eventually([&] { return full() > before || child.channel().has_message(); })) << "the ring never fills";
  }
  std::uint64_t full() { return broker_.topic(kTopic)["lanes"][0]["full"]; }

  void close() {
    const std::uint64_t published = feed_.published();
    const std::uint32_t session = feed_.session();
    feed_.close();
    EXPECT_EQ(lossless_.join(), (std::map<std::uint32_t, Tally>{{session, {published, 0, 1, 0}}}));
    Tally lossy = drop_oldest_.join()[session];
    EXPECT_EQ(lossy.taken + lossy.missed, published);
    EXPECT_EQ(lossy.finished, 1);
    EXPECT_EQ(lossy.aborted, 0);
  }

  PrivateBroker& broker_;
  Survivor lossless_;
  Survivor drop_oldest_;
  Feed feed_;
};

// ---- the points

// Plays one scene and looks whether everything is as before.
CrashReport play(PrivateBroker& broker, Role role, const std::optional<Kill>& kill, const char* first) {
  const Baseline before(broker);
  const CrashReport report =
      role == Role::kPublisher ? PublisherScene(broker).play(kill) : SubscriberScene(broker).play(kill, first);
  before.expect_again(broker);
  return report;
}

// How often a child that lived passed the point: the moments to die at are spread over a quarter of that. How often one
// sleeps, is rung or is refused is a matter of time: another life may have half as many of it.
std::vector<Kill> kills_at(const Point& point, std::uint64_t executions) {
  std::vector<Kill> kills;
  const auto add = [&](std::uint64_t nth, bool before) {
    const auto same = [&](const Kill& kill) { return kill.nth == nth && kill.before == before; };
    if (nth >= 1 && nth <= executions && std::none_of(kills.begin(), kills.end(), same))
      kills.push_back({point.site, nth, before});
  };
  for (const std::uint64_t nth :
       {std::uint64_t{1}, std::uint64_t{2}, std::uint64_t{3}, executions / 16, executions / 8, executions / 4})
    add(nth, false);
  for (const std::uint64_t nth : {std::uint64_t{1}, std::uint64_t{2}, executions / 6}) add(nth, true);
  return kills;
}

class CrashPoint : public ::testing::TestWithParam<Point> {};

TEST_P(CrashPoint, SurvivorsGoOn) {
  const auto& [site, role] = GetParam();
  PrivateBroker broker;
  const std::uint64_t executions = play(broker, role, std::nullopt, "lossless").count[site->name];
  ASSERT_GE(executions, 2u) << "the child does not pass the point often enough";
  bool odd = false;
  for (const Kill& kill : kills_at(GetParam(), executions)) {
    odd = !odd;
    std::ostringstream where;
    where << kill;
    SCOPED_TRACE(where.str());
    (void)play(broker, role, kill, odd ? "drop_oldest" : "lossless");
    if (HasFailure()) return;
  }
}

std::string name(const ::testing::TestParamInfo<Point>& point) { return test_suffix(point.param.site->name); }
INSTANTIATE_TEST_SUITE_P(Publisher, CrashPoint, ::testing::ValuesIn(points(Role::kPublisher)), name);
INSTANTIATE_TEST_SUITE_P(Subscriber, CrashPoint, ::testing::ValuesIn(points(Role::kSubscriber)), name);

// ---- the bells of the dead

// A publisher dies between publishing and ringing. Its subscribers have just fallen asleep, for up to a second: the broker
// wakes them. (The best of three: on a busy machine a subscriber may have slept for most of its second already.)
class CrashBell : public ::testing::TestWithParam<const char*> {};

TEST_P(CrashBell, BrokerRingsForTheDead) {
  constexpr double kWellBeforeTheSleepEndsMs = 500;
  double best_ms = 1e9;
  for (int attempt = 0; attempt < 3 && best_ms > kWellBeforeTheSleepEndsMs; ++attempt) {
    PrivateBroker broker;
    Survivor lossless(broker, "crash/bell", true);
    Survivor drop_oldest(broker, "crash/bell", false);
    // Told before there is a publisher: it may be dead before we hear of it.
    for (Survivor* survivor : {&lossless, &drop_oldest}) {
      survivor->quit_after_first();
      survivor->start();
    }
    const auto* site = std::find_if(std::begin(shm::kSites), std::end(shm::kSites),
                                    [&](const shm::Site& one) { return one.name == std::string(GetParam()); });
    CrashChild child({"publisher", broker.socket(), "crash/bell"}, Kill{site, 1, false});
    const std::uint32_t session = child.channel().receive().at("session");
    ASSERT_TRUE(child.channel().receive().is_null());
    const auto died = integration::now();
    const std::uint64_t published = child.expect_end().count["publish.stamp"];
    const Tally all = {published, 0, 0, 1};
    EXPECT_EQ(lossless.join()[session], all);
    const Tally lossy = drop_oldest.join()[session];
    EXPECT_EQ(lossy.taken + lossy.missed, published);
    EXPECT_EQ(lossy.aborted, 1);
    best_ms = std::min(best_ms, integration::milliseconds_since(died));
  }
  EXPECT_LT(best_ms, kWellBeforeTheSleepEndsMs);
}
INSTANTIATE_TEST_SUITE_P(Publisher, CrashBell, ::testing::Values("publish.stamp", "ring.board", "ring.post"),
                         [](const auto& site) { return test_suffix(site.param); });

}  // namespace
}  // namespace holdfast::crash
