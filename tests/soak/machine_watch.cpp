// SPDX-License-Identifier: MIT
#include "tests/soak/machine_watch.hpp"

#include <algorithm>
#include <csignal>
#include <ctime>

#include <pthread.h>
#include <sched.h>

namespace holdfast::soak {

namespace {

constexpr std::uint64_t kPeriod = 1'000'000;
constexpr std::uint64_t kLate = 1'000'000;  // later than this is written down

std::uint64_t shared_ns(const std::vector<Gap>& late, Gap gap) {
  auto next = std::lower_bound(late.begin(), late.end(), gap.begin_ns,
                               [](const Gap& one, std::uint64_t at) { return one.end_ns < at; });
  std::uint64_t sum = 0;
  for (; next != late.end() && next->begin_ns < gap.end_ns; ++next)
    sum += std::min(next->end_ns, gap.end_ns) - std::max(next->begin_ns, gap.begin_ns);
  return sum;
}

}  // namespace

MachineWatch::MachineWatch() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  ::sched_getaffinity(0, sizeof allowed, &allowed);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    Control& control = *controls_.emplace_back(std::make_unique<Control>());
    control.thread = std::thread([this, &control, cpu] { watch(control, cpu); });
  }
}

MachineWatch::~MachineWatch() {
  stop_ = true;
  for (const auto& control : controls_) control->thread.join();
}

void MachineWatch::watch(Control& control, int cpu) {
  sigset_t all;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, nullptr);  // signals are the main thread's
  cpu_set_t here;
  CPU_ZERO(&here);
  CPU_SET(cpu, &here);
  ::sched_setaffinity(0, sizeof here, &here);
  std::uint64_t last = now_ns();
  while (!stop_) {
    const timespec period{0, kPeriod};
    ::clock_nanosleep(CLOCK_MONOTONIC, 0, &period, nullptr);
    const std::uint64_t now = now_ns();
    if (now - last > kPeriod + kLate) {
      const std::lock_guard lock(control.mutex);
      control.late.push_back({last + kPeriod, now});
    }
    last = now;
  }
}

std::uint64_t MachineWatch::unshared_ns(Gap gap) const {
  std::uint64_t shared = 0;
  for (const auto& control : controls_) {
    const std::lock_guard lock(control->mutex);
    shared = std::max(shared, shared_ns(control->late, gap));
  }
  return gap.end_ns - gap.begin_ns - shared;
}

}  // namespace holdfast::soak
