// SPDX-License-Identifier: MIT
#include "bench/pair.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <stdexcept>

#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench/child.hpp"
#include "bench/semaphore.hpp"
#include "bench/shared_memory.hpp"

namespace holdfast::bench {

void wrong(const char* what) { throw std::runtime_error(what); }

namespace {

constexpr std::uint32_t kPairsMost = 1024;
constexpr std::uint32_t kTriesPerPair = 4;
constexpr std::uint32_t kWarmUpPairs = 3;
constexpr int kDeadlineMs = 120'000;
constexpr std::uint64_t kOver = ~0ull;  // a count that ends the follower

// What the two processes and the one that waits for them share.
struct Control {
  Line block;     // lead: number of the block that begins
  Line ready;     // follower: number of the block that it is in
  Line done;      // follower: number of the block that it has finished
  alignas(128) std::uint64_t count;  // lead, before `block`: operations, or kOver
  std::uint64_t which;               // lead, before `block`: index of the workload
  alignas(128) std::uint64_t completed;  // follower, before `done`
  std::uint64_t preempted;               // follower, before `done`: 1 if it lost its CPU in the block
  alignas(128) std::uint32_t pair_count;
  std::uint32_t disturbed;
  std::array<BlockPair, kPairsMost> pairs;
  Failure failure;
};

void wait_for(const std::atomic<std::uint64_t>& word, std::uint64_t value) {
  while (word.load(std::memory_order_acquire) < value) pause();
}

long preemptions() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_nivcsw;
}

struct Block {
  double seconds;  // all of it
  double seconds_per_operation;
  bool preempted;
};

class Lead {
 public:
  Lead(Control& control, std::array<Workload*, 2> workloads, const PairOptions& options)
      : control_(control),
        workloads_(workloads),
        options_(options) {}

  void run() {
    std::array<std::uint64_t, 2> counts{};
    for (std::size_t which = 0; which < 2; ++which) counts[which] = calibrate(which);
    for (std::uint32_t i = 0; i < kWarmUpPairs; ++i) (void)pair(counts, i);
    std::vector<BlockPair> disturbed;
    const std::uint32_t wanted = std::clamp(options_.pairs, kPairsLeast, kPairsMost);
    for (std::uint32_t i = 0; control_.pair_count < wanted && i < wanted * kTriesPerPair; ++i) {
      const auto [blocks, preempted] = pair(counts, i);
      if (preempted)
        disturbed.push_back(blocks);
      else
        keep(blocks);
    }
    control_.disturbed = static_cast<std::uint32_t>(disturbed.size());
    if (control_.pair_count < kPairsLeast) {
      for (const BlockPair& blocks : disturbed)
        if (control_.pair_count < kPairsMost) keep(blocks);
    }
    begin(0, kOver);
  }

 private:
  void keep(const BlockPair& blocks) { control_.pairs[control_.pair_count++] = blocks; }

  void begin(std::size_t which, std::uint64_t count) {
    control_.which = which;
    control_.count = count;
    control_.block.value.store(++number_, std::memory_order_release);
  }

  Block block(std::size_t which, std::uint64_t count) {
    using Clock = std::chrono::steady_clock;
    const long before = preemptions();
    begin(which, count);
    wait_for(control_.ready.value, number_);
    const auto start = Clock::now();
    (void)workloads_[which]->run(Role::kLead, count);
    wait_for(control_.done.value, number_);
    const std::chrono::duration<double> took = Clock::now() - start;
    const bool preempted = !options_.sleeps && (control_.preempted != 0 || preemptions() != before);
    require(control_.completed > 0, "a block completed nothing");
    const double seconds = took.count() / static_cast<double>(control_.completed);
    return {took.count(), seconds - workloads_[which]->uncounted_seconds(), preempted};
  }

  std::pair<BlockPair, bool> pair(const std::array<std::uint64_t, 2>& counts, std::uint32_t index) {
    const std::size_t first = index % 2;
    std::array<Block, 2> blocks{};
    blocks[first] = block(first, counts[first]);
    blocks[1 - first] = block(1 - first, counts[1 - first]);
    return {{blocks[0].seconds_per_operation, blocks[1].seconds_per_operation},
            blocks[0].preempted || blocks[1].preempted};
  }

  // Doubles until a block is long enough to be timed, then takes what fills `block_ms`. The fastest of three, so that
  // a disturbance does not make all blocks short.
  std::uint64_t calibrate(std::size_t which) {
    const double target = options_.block_ms / 1000;
    std::uint64_t count = 1;
    while (count < options_.count_most && block(which, count).seconds < target / 2)
      count = std::min(2 * count, options_.count_most);
    double best = block(which, count).seconds;
    for (int i = 0; i < 2; ++i) best = std::min(best, block(which, count).seconds);
    const double fits = static_cast<double>(count) * target / best;
    return std::clamp<std::uint64_t>(static_cast<std::uint64_t>(fits), 1, options_.count_most);
  }

  Control& control_;
  std::array<Workload*, 2> workloads_;
  PairOptions options_;
  std::uint64_t number_ = 0;
};

void follow(Control& control, std::array<Workload*, 2> workloads) {
  for (std::uint64_t number = 1;; ++number) {
    wait_for(control.block.value, number);
    const std::uint64_t count = control.count;
    if (count == kOver) return;
    const long before = preemptions();
    control.ready.value.store(number, std::memory_order_release);
    control.completed = workloads[control.which]->run(Role::kFollow, count);
    control.preempted = preemptions() != before;
    control.done.value.store(number, std::memory_order_release);
  }
}

using Opened = std::array<Semaphore, 2>;  // by role: posted by the other side

void act(Role role, Control& control, Opened& opened, std::array<Workload*, 2> workloads, const PairOptions& options) {
  for (Workload* workload : workloads) workload->open(role);
  const auto own = static_cast<std::size_t>(role);
  opened[1 - own].post();
  opened[own].wait();  // asleep: the other side may need the broker, and the broker a CPU
  if (role == Role::kLead)
    Lead(control, workloads, options).run();
  else
    follow(control, workloads);
}

// Waits for both, ends both when one fails or the time is over. Returns why there is no result, or nothing.
std::string wait_for_both(std::array<pid_t, 2> children, const Control& control) {
  std::array<pollfd, 2> ends{};
  for (std::size_t i = 0; i < 2; ++i) ends[i] = {open_pidfd(children[i]), POLLIN, 0};
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(kDeadlineMs);
  bool good = true;
  bool late = false;
  for (int left = 2; left > 0;) {
    const auto rest =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    const int found = poll(ends.data(), ends.size(), good ? std::max(0, static_cast<int>(rest.count())) : 0);
    if (found < 0 && errno == EINTR) continue;
    late = late || (good && found == 0);
    for (std::size_t i = 0; i < 2; ++i) {
      if (ends[i].fd < 0) continue;
      if (late || !good) kill(children[i], SIGKILL);
      if (ends[i].revents == 0 && !late && good) continue;
      good = reap(children[i]) && good;
      close(ends[i].fd);
      ends[i].fd = -1;
      --left;
    }
  }
  if (late) return "not finished after " + std::to_string(kDeadlineMs / 1000) + " s";
  if (good) return "";
  return control.failure.empty() ? "a process of the pair died" : control.failure.why();
}

}  // namespace

PairResult run_pairs(Workload& floor, Workload& measured, const PairOptions& options, CpuPair cpus) {
  const SharedMemory<Control> control;
  const std::array<Workload*, 2> workloads{&floor, &measured};
  Opened opened;
  const auto start = [&](Role role, int cpu) {
    return start_child(control->failure, [&] {
      take_cpu(cpu);
      act(role, *control, opened, workloads, options);
    });
  };
  const pid_t lead = start(Role::kLead, cpus.first);
  const pid_t follower = start(Role::kFollow, cpus.second);
  PairResult result;
  result.reason = wait_for_both({lead, follower}, *control);
  if (!result.reason.empty()) return result;
  result.pairs.assign(control->pairs.begin(), control->pairs.begin() + control->pair_count);
  result.disturbed = control->disturbed;
  return result;
}

}  // namespace holdfast::bench
