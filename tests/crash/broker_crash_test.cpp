// SPDX-License-Identifier: MIT
//
// SIGKILL at every row of the broker's crash table. The broker of these tests is holdfastd_crash: holdfastd, but the one
// file that writes shared memory is built with CrashAtomics.
//
// A publisher and two subscribers are attached. Then the point is armed, and a client does everything that makes the broker
// write shared memory, until it dies of it. Those who were attached go on; a new broker of the same instance starts, serves,
// and leaves nothing behind.
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include "tests/crash/crash_child.hpp"
#include "tests/crash/crash_points.hpp"
#include "tests/crash/feed.hpp"
#include "tests/crash/sample.hpp"
#include "tests/crash/survivor.hpp"
#include "tests/integration/broker.hpp"

namespace holdfast::crash {
namespace {

using integration::Broken;
using integration::kSoon;
using integration::PrivateBroker;

constexpr const char* kTopic = "crash/broker";

// A broker that dies at `kill`, once arm() was called.
class DoomedBroker {
 public:
  explicit DoomedBroker(const Kill& kill) : kill_(kill) {
    int pipe[2];
    if (::pipe2(pipe, O_CLOEXEC) != 0) throw Broken("pipe2");
    report_.reset(pipe[0]);
    const Descriptor ours(pipe[1]);
    const Descriptor inherited(::fcntl(pipe[1], F_DUPFD, 10));
    std::vector<std::string> environment = crash_environment(kill, inherited.get());
    environment.push_back("CRASH_SIGNAL=1");
    for (const std::string& entry : environment) {
      const std::size_t equals = entry.find('=');
      ::setenv(entry.substr(0, equals).c_str(), entry.substr(equals + 1).c_str(), 1);
    }
    broker_.emplace();
    for (const std::string& entry : environment) ::unsetenv(entry.substr(0, entry.find('=')).c_str());
  }

  PrivateBroker& get() { return *broker_; }
  void arm() { ::kill(broker_->pid(), SIGUSR2); }
  bool died() const {
    pollfd report{report_.get(), POLLIN, 0};
    return ::poll(&report, 1, 0) > 0;
  }

  // Waits for its death, and checks that it died where it was told to.
  void expect_death() {
    const CrashReport report = read_report(report_.get());
    EXPECT_EQ(report.word, std::string("died ") + kill_.site->name) << "it died elsewhere";
    const auto executed = report.count.find(kill_.site->name);
    EXPECT_EQ(executed == report.count.end() ? 0 : executed->second, kill_.before ? kill_.nth - 1 : kill_.nth);
    broker_->kill();  // and reaps it
  }

 private:
  Kill kill_;
  Descriptor report_;
  std::optional<PrivateBroker> broker_;
};

// ---- what makes the broker write

// An open waits for the next broker as long as for an answer: not here, where none comes before the test has looked on.
// On a machine that is busy the broker may take longer to answer: then all of it is made again.
constexpr std::int64_t kPatienceNs = 300'000'000;
constexpr int kTries = 100;

// Each step may be the one that it dies of: results are looked at only to stop.
class Commotion {
 public:
  explicit Commotion(PrivateBroker& broker) : broker_(broker) {}

  ~Commotion() {
    for (hf_subscriber* subscriber : subscribers_) hf_subscriber_close(subscriber);
    hf_publisher_close(publisher_);
    hf_client_close(client_);
  }

  // True: the broker has survived all of it.
  bool make() {
    return connect() && subscribe(1) && publish() && grow() && descriptor() && subscribe(13) && lose_a_process() &&
           leave() && publish() && leave();
  }

 private:
  bool connect() {
    hf_client_options options{};
    options.struct_size = sizeof options;
    const std::string socket = broker_.socket();
    options.socket = socket.c_str();
    options.name = "commotion";
    options.timeout_ns = kPatienceNs;
    return hf_client_open(&options, &client_) == HF_OK;
  }

  bool subscribe(int count) {
    for (int i = 0; i < count; ++i) {
      hf_subscriber* subscriber = nullptr;
      if (hf_subscriber_open(client_, kTopic, nullptr, &subscriber) != HF_OK) return false;
      subscribers_.push_back(subscriber);
    }
    return true;
  }

  bool publish() {
    if (hf_publisher_open(client_, kTopic, nullptr, &publisher_) != HF_OK) return false;
    std::uint8_t payload[32];
    write_sample(payload, 32, next_writer_++, 0);
    return hf_publish(publisher_, payload, 32, 0) == HF_OK;
  }

  bool grow() {
    hf_loan loan;
    if (hf_publisher_loan(publisher_, 1 << 20, 0, 0, &loan) != HF_OK) return false;
    hf_loan_drop(&loan);
    return true;
  }

  bool descriptor() { return hf_fd(subscribers_.front()) >= 0; }

  // A process with a publisher and a subscriber is killed.
  bool lose_a_process() {
    CrashChild idler({"idle", broker_.socket(), kTopic}, std::nullopt);
    if (idler.channel().receive().is_null()) return false;
    const pid_t pid = idler.pid();
    ::kill(pid, SIGKILL);
    try {
      return integration::eventually([&] {
        for (const nlohmann::json& session : broker_.request("sessions")["sessions"])
          if (session["pid"] == pid) return false;
        return true;
      });
    } catch (const std::exception&) {
      return false;  // the broker is gone
    }
  }

  bool leave() {
    while (!subscribers_.empty()) {
      hf_subscriber_close(subscribers_.back());
      subscribers_.pop_back();
    }
    hf_publisher_close(publisher_);
    publisher_ = nullptr;
    return hf_client_ping(client_) == HF_OK;
  }

  PrivateBroker& broker_;
  hf_client* client_ = nullptr;
  hf_publisher* publisher_ = nullptr;
  std::vector<hf_subscriber*> subscribers_;
  std::uint32_t next_writer_ = 100;
};

// ---- the scene

PublisherOptions options() {
  PublisherOptions options;
  options.ring_slots = 64;
  options.linger = std::chrono::milliseconds(1);
  return options;
}

void serves(PrivateBroker& broker) {
  Client client = broker.client("afterwards");
  Subscriber subscriber = client.subscriber_or_throw(kTopic);
  Publisher publisher = client.publisher_or_throw(kTopic);
  std::uint8_t payload[32];
  write_sample(payload, 32, 9, 0);
  EXPECT_EQ(hf_publish(publisher.c(), payload, 32, 0), HF_OK);
  View view;
  EXPECT_EQ(hf_take_wait(subscriber.c(), kSoon.count(), &view.c()), HF_OK) << hf_last_error();
  SampleHeader header{};
  EXPECT_TRUE(read_sample(view.data(), view.bytes(), header));
}

void broker_dies(const Kill& kill) {
  DoomedBroker doomed(kill);
  PrivateBroker& broker = doomed.get();
  Survivor lossless(broker, kTopic, true);
  Survivor drop_oldest(broker, kTopic, false);
  Feed feed(broker, kTopic, options(), 1);
  for (Survivor* survivor : {&lossless, &drop_oldest}) {
    survivor->quit_after(feed.session());
    survivor->start();
  }
  feed.add(50, Feed::Kind::kMixed);
  ASSERT_TRUE(feed.wait_idle()) << feed.failure();
  ASSERT_TRUE(lossless.wait_for(feed.session(), 50));
  ASSERT_TRUE(drop_oldest.wait_for(feed.session(), 50));
  {
    std::optional<Commotion> commotion;
    doomed.arm();
    for (int i = 0; i < kTries && !doomed.died(); ++i)
      ASSERT_FALSE(commotion.emplace(broker).make()) << "the point did not fire";
    ASSERT_TRUE(doomed.died()) << "nor did anything else end it";
    doomed.expect_death();
    // Without a broker.
    feed.add(200, Feed::Kind::kInline);
    EXPECT_TRUE(feed.wait_idle()) << feed.failure();
    EXPECT_TRUE(lossless.wait_for(feed.session(), 250));
    hf_client* refused = nullptr;
    hf_client_options nobody{};
    nobody.struct_size = sizeof nobody;
    const std::string socket = broker.socket();
    nobody.socket = socket.c_str();
    EXPECT_EQ(hf_client_open(&nobody, &refused), HF_E_NO_BROKER);
  }
  broker.start();
  serves(broker);
  feed.add(100, Feed::Kind::kInline);
  EXPECT_TRUE(feed.wait_idle()) << feed.failure();
  const std::uint64_t published = feed.published();
  const std::uint32_t session = feed.session();
  feed.close();
  EXPECT_EQ(lossless.join()[session], (Survivor::Tally{published, 0, 1, 0}));
  const Survivor::Tally lossy = drop_oldest.join()[session];
  EXPECT_EQ(lossy.taken + lossy.missed, published);
  EXPECT_EQ(lossy.finished, 1);
  // Everybody of the old broker's has gone: the next start leaves its own roster and nothing else.
  EXPECT_EQ(broker.stop(), 0);
  broker.start();
  EXPECT_EQ(broker.shm_files().size(), 1u);
}

class CrashPoint : public ::testing::TestWithParam<Point> {};

TEST_P(CrashPoint, SurvivorsGoOn) {
  const shm::Site* site = GetParam().site;
  for (const Kill& kill : {Kill{site, 1, false}, Kill{site, 1, true}, Kill{site, 2, false}, Kill{site, 3, false}}) {
    std::ostringstream where;
    where << kill;
    SCOPED_TRACE(where.str());
    broker_dies(kill);
    if (HasFailure()) return;
  }
}

std::string name(const ::testing::TestParamInfo<Point>& point) { return test_suffix(point.param.site->name); }
INSTANTIATE_TEST_SUITE_P(Broker, CrashPoint, ::testing::ValuesIn(points(Role::kBroker)), name);

}  // namespace
}  // namespace holdfast::crash
