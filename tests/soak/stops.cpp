// SPDX-License-Identifier: MIT
//
// Clients and the broker are stopped (SIGSTOP) for 10 ms to 5 s, up to sixteen of them at a time; in a long run eight of
// them for two minutes at the end. Nobody may be taken for dead, and nothing may be lost. Who waits for a stopped lossless
// subscriber waits rightly: gaps are not counted, but after the last stop everybody must go on within a second.
#include <algorithm>
#include <csignal>
#include <set>

#include "tests/soak/scene.hpp"

namespace holdfast::soak {

namespace {

constexpr std::size_t kStoppedMax = 16;
constexpr std::uint64_t kLongFrom = 1'000;  // stops; then eight of two minutes, too

class Stops {
 public:
  Stops(const Plan& plan, Score& score) : plan_(plan), score_(score), scene_(score) { scene_.seed(plan.seed); }

  void run() {
    const Resources before = scene_.resources();
    attach();
    const auto began = integration::now();
    while (!plan_.over(score_.count, began)) {
      const std::size_t most = 1 + scene_.random()() % kStoppedMax;
      if (stopped_.size() < most) stop(pick(), log_uniform(scene_.random(), milliseconds(10), seconds(5)));
      continue_until(most - 1);
    }
    continue_until(0);
    if (plan_.count >= kLongFrom) long_stops();
    everybody_goes_on();
    scene_.end();
    scene_.count_leaks(before);
  }

 private:
  using Time = std::chrono::steady_clock::time_point;

  void attach() {
    for (int i = 0; i < 4; ++i) scene_.add(publisher_spec());
    for (int i = 0; i < 10; ++i) scene_.add(subscriber_spec(i < 6, i % 3 == 0));
    scene_.add(spec_of(Job::kOpen));
    scene_.add(spec_of(Job::kIdle));
    scene_.wait_running();
    sessions_ = scene_.sessions();
  }

  std::size_t broker() const { return scene_.workers(); }

  // One that runs.
  std::size_t pick() {
    while (true) {
      const std::size_t target = scene_.random()() % (scene_.workers() + 1);
      if (!is_stopped(target)) return target;
    }
  }

  bool is_stopped(std::size_t target) const {
    return std::any_of(stopped_.begin(), stopped_.end(), [&](const auto& one) { return one.second == target; });
  }

  void signal(std::size_t target, int signal) {
    if (target == broker())
      scene_.broker().signal(signal);
    else
      scene_.process(target).signal(signal);
  }

  void stop(std::size_t target, nanoseconds time) {
    signal(target, SIGSTOP);
    stopped_.emplace(integration::now() + time, target);
    ++score_.count;
  }

  // Lets go on whose time is over, until at most `most` are stopped.
  void continue_until(std::size_t most) {
    while (true) {
      while (!stopped_.empty() && stopped_.begin()->first <= integration::now()) {
        signal(stopped_.begin()->second, SIGCONT);
        stopped_.erase(stopped_.begin());
      }
      if (!is_stopped(broker())) scene_.expect_listed(sessions_);
      if (stopped_.size() <= most) return;
      pass(std::clamp<nanoseconds>(stopped_.begin()->first - integration::now(), milliseconds(1), milliseconds(50)));
    }
  }

  void long_stops() {
    for (std::size_t i = 0; i < 8; ++i) stop(i == 0 ? broker() : pick(), std::chrono::minutes(2));
    continue_until(0);
  }

  void everybody_goes_on() {
    const MachineWatch watch;
    for (std::size_t worker = 0; worker < scene_.workers(); ++worker) {
      const Seat& seat = scene_.seat(worker);
      if (seat.spec.job == Job::kIdle) continue;
      const std::uint64_t then = seat.samples;
      const std::uint64_t began = now_ns();
      const bool goes_on = soon([&] { return seat.samples > then; }, seconds(10));
      if (goes_on && watch.unshared_ns({began, now_ns()}) < 1'000'000'000) continue;
      ++score_.stalled;
      score_.say("worker " + std::to_string(worker) + " did not go on when nobody was stopped any more");
    }
  }

  const Plan& plan_;
  Score& score_;
  Scene scene_;
  std::multiset<std::pair<Time, std::size_t>> stopped_;
  std::vector<std::uint32_t> sessions_;
};

}  // namespace

void stops(const Plan& plan, Score& score) {
  Stops(plan, score).run();
  clock_steps(plan, score);
}

}  // namespace holdfast::soak
