// SPDX-License-Identifier: MIT
//
// While both sides are busy there is no system call at all. Publisher and subscriber are processes of their own; each
// enters a filter (seccomp) that kills it at its first call but for the one that ends a process, and then they work.
//
// Before the filter each side does all that happens once: opening, meeting, the lane's memory, a warm-up. Under it nothing
// but the data path and a page of memory that both sides and the test map: who is inside, how far it got, what went wrong.
// Nobody leaves before both are done, since an end is an event that the other one would ask the broker about.
//
// Each side is bound to a CPU of its own, where there are two. That CPU need not be free: two sides that seldom run at the
// same time get less far. A process under the filter cannot watch the time: the test does, and says when it is enough.
#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <iterator>
#include <optional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/shm/atomics.hpp"
#include "tests/integration/broker.hpp"
#include "tests/integration/payload.hpp"
#include "tests/integration/process.hpp"
#include "tests/sanitized.hpp"

namespace holdfast::integration {
namespace {

using nlohmann::json;

constexpr std::uint64_t kRounds =
    kSanitized ? 10'000 : 100'000;  // round trips, or samples of a publisher that runs ahead
constexpr std::uint64_t kWarmUp = 10;  // the lane attached, symbols bound
constexpr std::chrono::nanoseconds kEnough = std::chrono::seconds(20);  // for these rounds; under one, mostly
constexpr std::uint64_t kAheadMax = 48;  // loans that a lossless reader has not taken: of 64 chunks
constexpr int kSides = 2;
constexpr std::uint64_t kNone = ~std::uint64_t{0};
constexpr std::int64_t kTorn = -1000;  // beside the results of the C ABI
constexpr std::chrono::nanoseconds kSpin = std::chrono::hours(1);  // longer than any deadline here

// ---- the filter

// From now on every system call of this process kills it with SIGSYS, but for exit_group.
bool enter_filter() {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
  };
  const sock_fprog filter{std::size(program), program};
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  // Every thread of the process: a library that had one of its own would be caught, too.
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter) == 0;
}

// The one call that is allowed. Not _exit(), which does not return: before such a call the address sanitizer makes one of
// its own.
void leave(int status) { ::syscall(SYS_exit_group, status); }

// ---- what both sides and the test share

struct Progress {
  std::atomic<std::uint32_t> inside;
  std::atomic<std::uint32_t> through;
  std::atomic<bool> enough;  // the test: end before all rounds are done
  std::atomic<std::uint64_t> last;  // side 0, before it sends it: the position of its last sample; else kNone
  struct Side {
    std::atomic<std::uint64_t> rounds;
    std::atomic<std::int64_t> wrong;  // a result that was not expected, or kTorn
  } sides[kSides];
};

class SharedProgress {
 public:
  // Made by who comes first, zeroed.
  explicit SharedProgress(const std::string& path) {
    const Descriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!file || ::ftruncate(file.get(), sizeof(Progress)) != 0) throw Broken("cannot make " + path);
    void* at = ::mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    if (at == MAP_FAILED) throw Broken("cannot map " + path);
    progress_ = static_cast<Progress*>(at);
  }
  SharedProgress(const SharedProgress&) = delete;
  SharedProgress& operator=(const SharedProgress&) = delete;
  ~SharedProgress() { ::munmap(progress_, sizeof(Progress)); }

  Progress* operator->() { return progress_; }
  Progress& operator*() { return *progress_; }

 private:
  Progress* progress_;
};

// ---- the two APIs

constexpr std::uint64_t kInline = 32;

// Every call looks and does not wait, but for take_waiting(). Results as the C ABI has them.
class CApi {
 public:
  CApi(Publisher* publisher, Subscriber* subscriber)
      : publisher_(publisher != nullptr ? publisher->c() : nullptr),
        subscriber_(subscriber != nullptr ? subscriber->c() : nullptr) {}

  int publish(const void* payload) { return hf_publish(publisher_, payload, kInline, 0); }
  int loan(std::uint64_t bytes) { return hf_publisher_loan(publisher_, bytes, 0, 0, &loan_); }
  void* loaned() { return hf_loan_data(&loan_); }
  int publish_loan() { return hf_loan_publish(&loan_, 0); }

  int take() { return hf_take(subscriber_, &view_); }
  int take_waiting() { return hf_take_wait(subscriber_, -1, &view_); }
  const hf_view& taken() { return view_; }
  void release() { hf_view_release(&view_); }

 private:
  hf_publisher* publisher_;
  hf_subscriber* subscriber_;
  hf_loan loan_{};
  hf_view view_{};
};

class CppApi {
 public:
  CppApi(Publisher* publisher, Subscriber* subscriber) : publisher_(publisher), subscriber_(subscriber) {}

  int publish(const void* payload) { return result_of(publisher_->publish(payload, kInline, kLook)); }
  int loan(std::uint64_t bytes) {
    auto made = publisher_->loan(bytes, 0, kLook);
    if (!made) return made.error().code;
    loan_ = std::move(*made);
    return HF_OK;
  }
  void* loaned() { return loan_.data(); }
  int publish_loan() { return result_of(loan_.publish(kLook)); }

  int take() { return result_of(subscriber_->take(view_)); }
  int take_waiting() { return result_of(subscriber_->take(view_, kForever)); }
  const hf_view& taken() { return view_.c(); }
  void release() { view_.release(); }

 private:
  static int result_of(Result<Status> result) { return result ? static_cast<int>(*result) : result.error().code; }

  Publisher* publisher_;
  Subscriber* subscriber_;
  Loan loan_;
  View view_;
};

// ---- one side

struct Plan {
  bool ahead = false;  // side 0 publishes and side 1 takes, each as fast as it can; else a ping-pong
  bool lossless = false;
  bool waits = false;  // hf_take_wait(), spinning; else hf_take() in a loop
  bool cpp_first = false;  // side 0 uses the C++ API and side 1 the C API; else the other way
  std::uint64_t bytes = kInline;

  friend void PrintTo(const Plan& plan, std::ostream* out) { *out << name_of(plan); }
  friend std::string name_of(const Plan& plan) {
    return std::string(plan.ahead ? "Ahead" : "PingPong") + (plan.bytes <= kInline ? "Inline" : "Loans") +
           (plan.lossless ? "Lossless" : "DropOldest") + (plan.waits ? "Waiting" : "Taking") +
           (plan.cpp_first ? "CppFirst" : "CFirst");
  }
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Plan, ahead, lossless, waits, cpp_first, bytes)

// What a side does, through one of the APIs. The payload of a sample follows from its position.
template <class Api>
class Worker {
 public:
  Worker(const Plan& plan, int side, Progress& progress, Publisher* publisher, Subscriber* subscriber)
      : plan_(plan),
        side_(side),
        progress_(progress),
        api_(publisher, subscriber) {}

  // Until side 0 has done so many rounds more, or enough. False: something went wrong, and `progress` has it.
  bool work(std::uint64_t rounds) {
    const std::uint64_t goal = done_ + rounds;
    if (side_ == 0) progress_.last = kNone;  // side 1 looks when it has got a sample, which we send later
    bool good = true;
    bool last = false;
    while (good && !last) {
      if (side_ == 0) {
        last = done_ + 1 == goal || progress_.enough;
        if (last) progress_.last = sent_;
        good = send() && (plan_.ahead || receive());
      } else {
        good = receive() && (plan_.ahead || send());
        last = progress_.last != kNone && next_ > progress_.last;
      }
      ++done_;
      progress_.sides[side_].rounds.store(done_, std::memory_order_release);
    }
    return good;
  }

 private:
  bool send() {
    const auto seed = static_cast<std::uint32_t>(sent_);
    int result = HF_OK;
    if (plan_.bytes <= kInline) {
      unsigned char payload[kInline];
      fill_payload(payload, kInline, seed);
      do {
        result = api_.publish(payload);
      } while (result == HF_FULL);
    } else {
      // A loan that fails tells it in a sentence, which needs memory: not the way that is tested here.
      while (plan_.ahead && plan_.lossless && sent_ >= done_by_other() + kAheadMax) {
      }
      result = api_.loan(plan_.bytes);
      if (result == HF_OK) fill_payload(api_.loaned(), plan_.bytes, seed);
      while (result == HF_OK && (result = api_.publish_loan()) == HF_FULL) result = HF_OK;
    }
    ++sent_;
    return result == HF_OK || wrong(result);
  }

  // One sample, or what a publisher that ran ahead has left out.
  bool receive() {
    int result = HF_OK;
    do {
      result = plan_.waits ? api_.take_waiting() : api_.take();
    } while (result == HF_EMPTY);
    if (result == HF_LAPPED && plan_.ahead && !plan_.lossless) {
      next_ += api_.taken().missed;
      return true;
    }
    if (result != HF_OK) return wrong(result);
    const hf_view& view = api_.taken();
    const bool whole = view.position == next_ && view.bytes == plan_.bytes &&
                       payload_matches(hf_view_data(&view), view.bytes, static_cast<std::uint32_t>(next_));
    api_.release();
    ++next_;
    return whole || wrong(kTorn);
  }

  std::uint64_t done_by_other() const { return progress_.sides[1 - side_].rounds.load(std::memory_order_acquire); }

  bool wrong(std::int64_t what) {
    progress_.sides[side_].wrong.store(what, std::memory_order_relaxed);
    return false;
  }

  const Plan& plan_;
  int side_;
  Progress& progress_;
  Api api_;
  std::uint64_t done_ = 0;
  std::uint64_t sent_ = 0;
  std::uint64_t next_ = 0;  // the position to be taken
};

// The lane gets all the memory that it may have, so that nothing is asked of the broker for it later.
void use_all_memory(Publisher& publisher, std::uint64_t bytes) {
  std::vector<Loan> loans;
  for (auto loan = publisher.loan(bytes, 0, kLook); loan; loan = publisher.loan(bytes, 0, kLook))
    loans.push_back(std::move(*loan));
}

void stay_on(int cpu) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<std::size_t>(cpu), &one);
  if (::sched_setaffinity(0, sizeof one, &one) != 0) throw Broken("sched_setaffinity");
}

template <class Api>
int run_side(const Plan& plan, int side, Channel& test, Progress& progress, Publisher* publisher,
             Subscriber* subscriber) {
  Worker<Api> worker(plan, side, progress, publisher, subscriber);
  if (!worker.work(kWarmUp)) return 1;
  test.send({{"warm", true}});
  if (!enter_filter()) return 2;
  ++progress.inside;
  while (progress.inside < kSides) {
  }
  if (!worker.work(kRounds)) leave(1);
  ++progress.through;
  while (progress.through < kSides) {
  }
  leave(0);
  return 0;
}

// Arguments: socket, file of the progress, side, CPU. Status 1: something went wrong; 2: no filter.
int busy_side(Channel& test, const Arguments& arguments) {
  const Plan plan = test.receive();
  SharedProgress progress(arguments.at(1));
  const int side = std::stoi(arguments.at(2));
  stay_on(std::stoi(arguments.at(3)));
  ClientOptions options;
  options.socket = arguments.at(0);
  Client client = Client::connect_or_throw(options);
  std::optional<Publisher> publisher;
  std::optional<Subscriber> subscriber;
  if (!plan.ahead || side == 1) {
    SubscriberOptions reading;
    reading.lossless = plan.lossless;
    reading.spin = plan.waits ? kSpin : std::chrono::nanoseconds(0);
    subscriber.emplace(client.subscriber_or_throw("busy/" + std::to_string(1 - side), reading));
  }
  if (!plan.ahead || side == 0) {
    PublisherOptions writing;
    if (plan.ahead) writing.stall_timeout = kForever;  // a reader that the machine does not run has not stalled
    publisher.emplace(client.publisher_or_throw("busy/" + std::to_string(side), writing));
    if (plan.bytes > kInline) use_all_memory(*publisher, plan.bytes);
    if (publisher->wait_for_subscribers(1, kSoon).or_throw() != Status::kOk) throw Broken("nobody subscribes");
  }
  const auto run = plan.cpp_first == (side == 0) ? run_side<CppApi> : run_side<CApi>;
  return run(plan, side, test, *progress, publisher ? &*publisher : nullptr, subscriber ? &*subscriber : nullptr);
}
const Role kBusySide("busy", busy_side);

// ---- what the filter does

// Arguments: what to do under the filter, socket.
int filtered(Channel&, const Arguments& arguments) {
  const std::string& what = arguments.at(0);
  ClientOptions options;
  options.socket = arguments.at(1);
  Client client = Client::connect_or_throw(options);
  Subscriber subscriber = client.subscriber_or_throw("filtered");
  View view;
  (void)subscriber.take(view);
  if (!enter_filter()) return 2;
  if (what == "getppid") ::syscall(SYS_getppid);
  if (what == "clock")
    for (timespec now{}; ::clock_gettime(CLOCK_MONOTONIC, &now) == 0 && now.tv_nsec % 100 != 0;) {
    }
  if (what == "take") (void)subscriber.take(view);
  if (what == "sleep") (void)subscriber.take(view, kForever);
  leave(0);
  return 0;
}
const Role kFiltered("filtered", filtered);

// How a process ends that does this under the filter: 0, or the signal.
int end_under_filter(const PrivateBroker& broker, const char* what) {
  Process process("filtered", {what, broker.socket()});
  const int status = process.wait();
  return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
}

// The sanitizer's own calls would be ours.
bool under_thread_sanitizer() {
#if defined(HOLDFAST_UNDER_TSAN)
  return true;
#else
  return false;
#endif
}

std::vector<int> usable_cpus() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  ::sched_getaffinity(0, sizeof allowed, &allowed);
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(static_cast<std::size_t>(cpu), &allowed)) cpus.push_back(cpu);
  return cpus;
}

TEST(BusyFilter, KillsAtTheFirstCall) {
  if (under_thread_sanitizer()) GTEST_SKIP() << "the thread sanitizer makes system calls of its own";
  PrivateBroker broker;
  EXPECT_EQ(end_under_filter(broker, "nothing"), 0);
  EXPECT_EQ(end_under_filter(broker, "take"), 0);
  EXPECT_EQ(end_under_filter(broker, "getppid"), SIGSYS);
  EXPECT_EQ(end_under_filter(broker, "sleep"), SIGSYS) << "a wait that has nothing to take and does not spin sleeps";
}

// ---- the test

class BusySides : public ::testing::TestWithParam<Plan> {
 protected:
  // Waits for both. One that fails takes the other one with it.
  static void watch(Process (&sides)[kSides], SharedProgress& progress) {
    const Descriptor ends[] = {open_pidfd(sides[0].pid()), open_pidfd(sides[1].pid())};
    pollfd either[] = {{ends[0].get(), POLLIN, 0}, {ends[1].get(), POLLIN, 0}};
    const auto one_ends = [&](nanoseconds within) {
      const auto ms = static_cast<int>(std::chrono::duration_cast<milliseconds>(within).count());
      return ::poll(either, kSides, ms) > 0;
    };
    for (Process& side : sides) (void)side.channel().receive();  // warm, or at its end
    if (!one_ends(kEnough)) progress->enough = true;
    const bool in_time = one_ends(kSoon);
    for (const int side : {either[0].revents != 0 ? 0 : 1, either[0].revents != 0 ? 1 : 0}) {
      if (!in_time || HasFailure()) {
        sides[side].kill(SIGKILL);
        continue;
      }
      const int status = sides[side].wait();
      EXPECT_FALSE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) << "side " << side << " made a system call";
      EXPECT_EQ(status, 0) << "side " << side << ", which got " << progress->sides[side].wrong << " (" << kTorn
                           << ": a torn sample)";
    }
    EXPECT_TRUE(in_time) << "not done before the deadline";
    if (HasFailure())
      ADD_FAILURE() << "after " << progress->sides[0].rounds << " and " << progress->sides[1].rounds << " rounds, "
                    << progress->inside << " sides under the filter";
  }
};

TEST_P(BusySides, MakeNoSystemCall) {
  const Plan& plan = GetParam();
  if (under_thread_sanitizer()) GTEST_SKIP() << "the thread sanitizer makes system calls of its own";
  if (plan.waits && ::sysconf(_SC_NPROCESSORS_ONLN) == 1)
    GTEST_SKIP() << "one CPU: a wait does not spin there (ADR 0017)";
  PrivateBroker broker;
  if (plan.waits && end_under_filter(broker, "clock") == SIGSYS)
    GTEST_SKIP() << "here the clock is read by a system call: a wait that spins looks at it";
  SharedProgress progress(broker.directory() + "/progress");
  const std::vector<int> cpus = usable_cpus();
  const auto arguments = [&](int side) -> Arguments {
    return {broker.socket(), broker.directory() + "/progress", std::to_string(side),
            std::to_string(side == 0 ? cpus.front() : cpus.back())};
  };
  Process sides[kSides] = {Process("busy", arguments(0)), Process("busy", arguments(1))};
  for (Process& side : sides) side.channel().send(plan);
  watch(sides, progress);
  if (HasFailure()) return;
  EXPECT_EQ(progress->through, 2u);
  EXPECT_GT(progress->sides[0].rounds, kWarmUp) << "nothing was done under the filter";
  if (!progress->enough) EXPECT_GE(progress->sides[0].rounds, kRounds);
  RecordProperty("rounds", static_cast<int>(progress->sides[0].rounds - kWarmUp));
}

std::vector<Plan> plans() {
  std::vector<Plan> all;
  for (const std::uint64_t bytes : {kInline, std::uint64_t{4096}}) {
    for (const bool lossless : {true, false}) {
      for (const bool waits : {false, true}) all.push_back({false, lossless, waits, false, bytes});
      for (const bool cpp_first : {false, true}) all.push_back({true, lossless, false, cpp_first, bytes});
    }
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(Waiting, BusySides, ::testing::ValuesIn(plans()),
                         [](const auto& plan) { return name_of(plan.param); });

}  // namespace
}  // namespace holdfast::integration
