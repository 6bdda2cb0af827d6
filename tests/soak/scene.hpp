// SPDX-License-Identifier: MIT
//
// A broker, its workers on their seats and a watch on the machine: what every campaign plays on. What workers have counted
// goes to the campaign's score when they end, whichever way.
#pragma once

#include <array>
#include <memory>
#include <random>
#include <vector>

#include "tests/soak/board.hpp"
#include "tests/soak/broker_process.hpp"
#include "tests/soak/campaign.hpp"
#include "tests/soak/child.hpp"
#include "tests/soak/machine_watch.hpp"

namespace holdfast::soak {

// What the broker has with nobody attached.
struct Resources {
  std::uint64_t segments = 0;
  std::uint64_t files = 0;
  std::uint64_t descriptors = 0;
  std::uint64_t bytes = 0;
};

// Time without samples of a worker that publishes or takes, not shared with the machine.
struct LongestGap {
  double ms = 0;
  std::string of;  // whose
};

class Scene {
 public:
  explicit Scene(Score& score);
  Scene(const Scene&) = delete;
  Scene& operator=(const Scene&) = delete;

  BrokerProcess& broker() { return broker_; }
  const Board& board() const { return board_; }
  std::mt19937_64& random() { return random_; }
  void seed(std::uint64_t seed) { random_.seed(seed); }

  // A worker on the next seat. Its number.
  std::size_t add(Spec spec);
  std::size_t workers() const { return workers_.size(); }
  Seat& seat(std::size_t worker) const { return board_.seat(worker); }
  Child& process(std::size_t worker) { return *workers_[worker]; }
  // Every worker runs. Throws Broken if one does not get there.
  void wait_running();
  // SIGKILL; the same job begins anew with another seed.
  void kill(std::size_t worker);
  void replace(std::size_t worker);

  // Sessions of the workers that run, as they say.
  std::vector<std::uint32_t> sessions() const;
  // Those of them that are not listed as connected, in words; empty: all are.
  std::string not_connected() const;
  // All of these sessions live for the broker; else it has failed.
  void expect_listed(const std::vector<std::uint32_t>& sessions);

  // Ends it: publishers close, subscribers take what is left, all leave. Whoever does not is stalled.
  void end();
  const LongestGap& longest_gap(Topic topic = Topic::kLoad) const {
    return longest_gaps_[static_cast<std::size_t>(topic)];
  }
  void forget_gaps() { longest_gaps_ = {}; }
  // A gap longer than this counts as stalled. 0: none does.
  void stalls_after(nanoseconds time) { stall_ns_ = static_cast<std::uint64_t>(time.count()); }

  // Requires: no workers. Waits until the broker has let go of everything that it will let go of.
  Resources resources(std::uint64_t descriptors_expected = UINT64_MAX);
  void count_leaks(const Resources& before);

 private:
  void count_sessions_of_nobody();
  void launch(std::size_t worker);
  bool runs(std::size_t worker) const;
  std::string describe(std::size_t worker) const;
  // Takes over what an ended worker has counted. `at_ns`: when it was killed; 0: it left by itself.
  void harvest(std::size_t worker, std::uint64_t at_ns);
  void count_gap(Gap gap, std::size_t worker);
  void await_end(std::size_t worker);

  Score& score_;
  Board board_;
  BrokerProcess broker_;
  MachineWatch watch_;
  std::mt19937_64 random_;
  std::vector<std::unique_ptr<Child>> workers_;
  std::uint64_t stall_ns_ = 0;
  std::array<LongestGap, 3> longest_gaps_;  // by topic
};

// Publishers and subscribers that stay, with enough between samples for two CPUs.
Spec publisher_spec();
Spec subscriber_spec(bool lossless, bool event_loop);
Spec spec_of(Job job);

}  // namespace holdfast::soak
