// SPDX-License-Identifier: MIT
//
// A client that only waits for what does not come, in each way that the library has. A wait that ends too early has failed;
// one that ends too late is a gap, as with samples. It says how often it has seen the wall clock step.
#include <ctime>

#include "tests/soak/jobs.hpp"
#include "tests/soak/worker.hpp"

namespace holdfast::soak {

namespace {

constexpr Timeout kWait = std::chrono::milliseconds(10);
constexpr std::int64_t kStep = 500'000'000;  // more than this between two looks is one

// How far the wall clock is ahead of the monotonic one.
std::int64_t wall_clock_ahead_ns() {
  timespec wall{};
  ::clock_gettime(CLOCK_REALTIME, &wall);
  return wall.tv_sec * 1'000'000'000 + wall.tv_nsec - static_cast<std::int64_t>(now_ns());
}

class Waiter {
 public:
  Waiter(const Board& board, Tally& tally)
      : tally_(tally),
        client_(connect(board, "waiter")),
        empty_(client_.subscriber_or_throw(kIdleTopic)),
        full_(client_.publisher_or_throw(kFullTopic, load_options())),
        holds_back_(client_.subscriber_or_throw(kFullTopic, lossless())) {
    while (full_.publish(std::uint64_t{0}, kLook).or_throw() == Status::kOk) {
    }
    tally.running(client_.session());
  }

  void once() {
    timed("take", [&] { return empty_.take(view_, kWait); });
    timed("wait", [&]() -> Result<Status> {
      auto ready = wait({&empty_}, kWait);
      if (ready) return Status::kOk;
      if (ready.error().code == HF_TIMEOUT) return Status::kTimeout;
      return ready.error();
    });
    timed("publish", [&] { return full_.publish(std::uint64_t{0}, kWait); });
    timed("drain", [&] { return full_.drain(kWait); });
    timed("wait_for_subscribers", [&] { return full_.wait_for_subscribers(2, kWait); });
    const std::int64_t ahead_ns = wall_clock_ahead_ns();
    if (ahead_ns > ahead_ns_ + kStep || ahead_ns < ahead_ns_ - kStep) ++tally_.seat().clock_steps;
    ahead_ns_ = ahead_ns;
  }

 private:
  static SubscriberOptions lossless() {
    SubscriberOptions options;
    options.lossless = true;
    return options;
  }

  template <class Call>
  void timed(const std::string& name, Call&& call) {
    const std::uint64_t began = now_ns();
    auto result = call();
    const auto took = std::chrono::nanoseconds(now_ns() - began);
    if (!result) return tally_.failed(name + ": " + result.error().sentence);
    if (*result != Status::kTimeout) return tally_.failed(name + " did not end by its timeout");
    if (took < kWait) tally_.failed(name + " ended after " + std::to_string(took.count()) + " ns");
    tally_.sample();
  }

  Tally& tally_;
  Client client_;
  Subscriber empty_;
  Publisher full_;
  Subscriber holds_back_;
  View view_;
  std::int64_t ahead_ns_ = wall_clock_ahead_ns();
};

}  // namespace

void only_wait(const Board& board, Tally& tally) {
  Waiter waiter(board, tally);
  while (board->phase != Phase::kEndAll && tally.seat().failed == 0) waiter.once();
}

}  // namespace holdfast::soak
