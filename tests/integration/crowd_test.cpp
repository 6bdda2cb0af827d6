// SPDX-License-Identifier: MIT
//
// More sleepers on one lane than its board has bits: readers whose places are the same modulo 64 share one.
//
// The readers live in processes that are stopped when all of them sleep. So whoever finds a bell taken down afterwards
// knows that the publisher rang it: nobody else ran. No clock is needed to tell a ring from the end of a bounded sleep.
#include <algorithm>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "proto/shm/bells_layout.hpp"
#include "tests/integration/broker.hpp"
#include "tests/integration/payload.hpp"
#include "tests/integration/process.hpp"

namespace holdfast::integration {
namespace {

constexpr std::size_t kCrowds = 2;
constexpr std::size_t kCrowd = 40;  // a client has 64 bells
constexpr std::size_t kSleepers = kCrowds * kCrowd;
constexpr std::uint64_t kPublishes = 20;
constexpr const char* kTopic = "crowd/asleep";

// ---- a process with 40 threads that sleep

// Arguments: socket. Answers each message with its session and how many samples each of its threads has taken.
int crowd(Channel& test, const Arguments& arguments) {
  ClientOptions options;
  options.socket = arguments.at(0);
  Client client = Client::connect_or_throw(options);
  std::vector<Subscriber> subscribers;
  for (std::size_t i = 0; i < kCrowd; ++i) subscribers.push_back(client.subscriber_or_throw(kTopic));
  std::vector<std::atomic<std::uint64_t>> taken(kCrowd);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < kCrowd; ++i) {
    threads.emplace_back([&subscriber = subscribers[i], &count = taken[i]] {
      View view;
      for (Status status = Status::kOk; status == Status::kOk;) {
        status = subscriber.take(view, kForever).or_throw();
        if (status == Status::kOk) ++count;
      }
    });
  }
  while (!test.receive(10 * kSoon).is_null()) {
    std::vector<std::uint64_t> counts(taken.begin(), taken.end());
    test.send({{"session", client.session()}, {"taken", counts}});
  }
  for (std::thread& thread : threads) thread.join();  // when the publisher has finished
  return 0;
}
const Role kCrowdRole("crowd", crowd);

// ---- the bells of another process

class Bells {
 public:
  Bells(const PrivateBroker& broker, std::uint32_t session) {
    const nlohmann::json segments = broker.request("segments")["segments"];
    for (const nlohmann::json& segment : segments)
      if (segment["kind"] == "bells" && segment["session"] == session) map(segment["name"]);
    if (bells_ == nullptr) throw Broken("no bells of session " + std::to_string(session));
  }
  Bells(const Bells&) = delete;
  Bells& operator=(const Bells&) = delete;
  ~Bells() { ::munmap(const_cast<shm::BellSegment*>(bells_), sizeof(shm::BellSegment)); }

  std::uint64_t ticket(std::size_t bell) const { return __atomic_load_n(&bells_->bells[bell].armed, __ATOMIC_ACQUIRE); }

 private:
  void map(const std::string& name) {
    const Descriptor file(::shm_open(name.c_str(), O_RDONLY | O_CLOEXEC, 0));
    void* at = ::mmap(nullptr, sizeof(shm::BellSegment), PROT_READ, MAP_SHARED, file.get(), 0);
    if (at == MAP_FAILED) throw Broken("cannot map " + name);
    bells_ = static_cast<const shm::BellSegment*>(at);
  }

  const shm::BellSegment* bells_ = nullptr;
};

// The state of each thread of a process as the kernel says it: true if every one waits for something that may be
// interrupted, such as a semaphore.
bool every_thread_waits(pid_t pid) {
  for (const auto& task : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task")) {
    std::ostringstream text;
    text << std::ifstream(task.path() / "stat").rdbuf();
    const std::string stat = text.str();
    const std::size_t name_end = stat.rfind(')');
    if (name_end == std::string::npos || stat.compare(name_end, 3, ") S") != 0) return false;
  }
  return true;
}

// ---- the test

class Crowd {
 public:
  explicit Crowd(const PrivateBroker& broker) : process_("crowd", {broker.socket()}), bells_(broker, session()) {}

  Process& process() { return process_; }
  bool waits() { return every_thread_waits(process_.pid()); }
  void pause() {
    process_.kill(SIGSTOP);
    siginfo_t stopped{};
    ::waitid(P_PID, static_cast<id_t>(process_.pid()), &stopped, WSTOPPED);
  }
  void resume() { process_.kill(SIGCONT); }

  void add_tickets(std::vector<std::uint64_t>& tickets) const {
    for (std::size_t bell = 0; bell < shm::kBellCount; ++bell)
      if (bells_.ticket(bell) != 0) tickets.push_back(bells_.ticket(bell));
  }
  bool all_took(std::uint64_t samples) {
    const std::vector<std::uint64_t> taken = process_.call({{"do", "count"}})["taken"];
    return std::all_of(taken.begin(), taken.end(), [=](std::uint64_t count) { return count == samples; });
  }

 private:
  std::uint32_t session() { return process_.call({{"do", "count"}})["session"]; }

  Process process_;
  Bells bells_;
};

class Crowds {
 public:
  explicit Crowds(const PrivateBroker& broker) : crowds_{Crowd(broker), Crowd(broker)} {}
  ~Crowds() { resume(); }

  std::vector<std::uint64_t> tickets() const {
    std::vector<std::uint64_t> all;
    for (const Crowd& crowd : crowds_) crowd.add_tickets(all);
    return all;
  }
  // Stops the processes when all threads sleep. One whose bounded sleep ends just then arms with another ticket: again.
  bool stop_asleep() {
    return eventually([&] {
      const std::vector<std::uint64_t> before = tickets();
      if (before.size() != kSleepers || !crowds_[0].waits() || !crowds_[1].waits()) return false;
      for (Crowd& crowd : crowds_) crowd.pause();
      if (tickets() == before) return true;
      resume();
      return false;
    });
  }
  void resume() {
    for (Crowd& crowd : crowds_) crowd.resume();
  }
  bool all_took(std::uint64_t samples) {
    return eventually([&] { return crowds_[0].all_took(samples) && crowds_[1].all_took(samples); });
  }

 private:
  Crowd crowds_[kCrowds];
};

TEST(Waiting, EightySleepersOfOneLaneAreAllRungByEachPublish) {
  PrivateBroker broker;
  Crowds crowds(broker);
  Client client = broker.client();
  Publisher publisher = client.publisher_or_throw(kTopic);
  ASSERT_EQ(publisher.wait_for_subscribers(kSleepers, kSoon).or_throw(), Status::kOk);
  // On the roster they are at once; the lane itself each has when it has taken from it.
  ASSERT_EQ(publisher.publish("x", 1, kSoon).or_throw(), Status::kOk);
  ASSERT_TRUE(crowds.all_took(1));
  for (std::uint64_t round = 2; round <= 1 + kPublishes; ++round) {
    ASSERT_TRUE(crowds.stop_asleep()) << "round " << round << ": " << crowds.tickets().size() << " sleep";
    ASSERT_EQ(publisher.publish("x", 1, kSoon).or_throw(), Status::kOk);
    EXPECT_EQ(crowds.tickets().size(), 0u) << "round " << round << ": so many were not rung";
    crowds.resume();
    ASSERT_TRUE(crowds.all_took(round)) << "round " << round;
  }
}

}  // namespace
}  // namespace holdfast::integration
