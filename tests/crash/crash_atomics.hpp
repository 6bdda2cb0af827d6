// SPDX-License-Identifier: MIT
//
// The atomics policy that kills: native accesses, and after (or before) the n-th execution of one armed site the process
// kills itself with SIGKILL. Crash tests build the client library and the broker with it.
//
// Armed by the environment:
//   CRASH_SITE    name of a site whose access is a store or an exchange, as in sites.hpp
//   CRASH_NTH     which execution, from 1
//   CRASH_WHEN    "after" (default) or "before"
//   CRASH_SIGNAL  set: not armed, and nothing counted, before the process gets SIGUSR2
//   CRASH_STOP    set: SIGSTOP in place of SIGKILL, once; the process goes on when it is told to
//   CRASH_FD      a descriptor, inherited: the report of the death is written there, as one line
//
// The report says at which site and how often every site was executed by then, so that a test can prove that the point
// fired and knows exactly how many samples had been published. Any thread.
#pragma once

#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include <fcntl.h>
#include <unistd.h>

#include "proto/shm/atomics.hpp"

namespace holdfast::crash {

using shm::At;

inline constexpr bool is_crash_point(const shm::Site& site) {
  return site.access == shm::Access::kStore || site.access == shm::Access::kExchange;
}

// Kills this process at one access. One of them to a process: trap().
class Trap {
 public:
  Trap() {
    const char* fd = std::getenv("CRASH_FD");
    if (fd != nullptr) report_fd_ = std::atoi(fd);
    // Whatever this process starts is not to report in its place.
    if (report_fd_ >= 0) ::fcntl(report_fd_, F_SETFD, FD_CLOEXEC);
    const char* name = std::getenv("CRASH_SITE");
    if (name == nullptr) return;
    for (const shm::Site& site : shm::kSites)
      if (site.name == std::string_view(name) && is_crash_point(site)) wanted_ = static_cast<std::size_t>(site.at);
    if (wanted_ == shm::kSiteCount) {
      std::fprintf(stderr, "CRASH_SITE=%s names no store and no exchange\n", name);
      std::abort();
    }
    const char* nth = std::getenv("CRASH_NTH");
    nth_ = nth != nullptr ? std::strtoull(nth, nullptr, 10) : 1;
    const char* when = std::getenv("CRASH_WHEN");
    before_ = when != nullptr && std::string_view(when) == "before";
    stops_ = std::getenv("CRASH_STOP") != nullptr;
    if (std::getenv("CRASH_SIGNAL") == nullptr)
      site_ = wanted_;
    else
      std::signal(SIGUSR2, [](int) { arm(); });
  }

  // From now on.
  static void arm();

  bool armed_at(At at) const { return site_.load(std::memory_order_relaxed) == static_cast<std::size_t>(at); }
  std::uint64_t count(At at) const { return counts_[static_cast<std::size_t>(at)].load(std::memory_order_relaxed); }

  void before(At at) {
    if (!armed_at(at)) [[likely]]
      return;
    if (before_ && count(at) + 1 == nth_) die(at);
  }
  void after(At at) {
    const std::uint64_t now = counts_[static_cast<std::size_t>(at)].fetch_add(1, std::memory_order_relaxed) + 1;
    if (armed_at(at) && !before_ && now == nth_) [[unlikely]]
      die(at);
  }

  // Writes `word` and how often each crash point was executed: one line, "word name=count …".
  void report(const char* word) const {
    char line[4096];
    int used = std::snprintf(line, sizeof line, "%s", word);
    for (const shm::Site& site : shm::kSites) {
      const std::uint64_t executed = count(site.at);
      if (executed == 0 || !is_crash_point(site)) continue;
      used += std::snprintf(line + used, sizeof line - static_cast<std::size_t>(used), " %s=%llu", site.name,
                            static_cast<unsigned long long>(executed));
    }
    line[used++] = '\n';
    if (report_fd_ < 0) return;
    [[maybe_unused]] const ssize_t written = ::write(report_fd_, line, static_cast<std::size_t>(used));
  }

 private:
  [[gnu::noinline]] void die(At at) const {
    if (stops_) {
      ::kill(::getpid(), SIGSTOP);
      return;
    }
    char word[64];
    std::snprintf(word, sizeof word, "died %s", shm::site(at).name);
    report(word);
    ::kill(::getpid(), SIGKILL);
    while (true) ::pause();
  }

  std::atomic<std::size_t> site_ = shm::kSiteCount;
  std::size_t wanted_ = shm::kSiteCount;
  std::uint64_t nth_ = 0;
  bool before_ = false;
  bool stops_ = false;
  int report_fd_ = -1;
  std::atomic<std::uint64_t> counts_[shm::kSiteCount] = {};
};

inline Trap& trap() {
  static Trap one;
  return one;
}

inline void Trap::arm() {
  Trap& one = trap();
  for (auto& count : one.counts_) count.store(0, std::memory_order_relaxed);
  one.site_.store(one.wanted_, std::memory_order_relaxed);
}

struct CrashAtomics : shm::NativeAtomics {
  using Native = shm::NativeAtomics;

  template <At kAt, class T>
  static void store(T& word, T value) {
    trap().before(kAt);
    Native::store<kAt>(word, value);
    trap().after(kAt);
  }

  template <At kAt, class T>
  static T exchange(T& word, T value) {
    trap().before(kAt);
    const T old = Native::exchange<kAt>(word, value);
    trap().after(kAt);
    return old;
  }

  template <At kAt, class T>
  static T fetch_or(T& word, T bits) {
    trap().before(kAt);
    const T old = Native::fetch_or<kAt>(word, bits);
    trap().after(kAt);
    return old;
  }

  template <At kAt, class T>
  static bool compare_exchange(T& word, T expected, T desired) {
    trap().before(kAt);
    const bool done = Native::compare_exchange<kAt>(word, expected, desired);
    trap().after(kAt);
    return done;
  }

  template <At kStore, At kFence, class T>
  static void store_full(T& word, T value) {
    trap().before(kStore);
    Native::store_full<kStore, kFence>(word, value);
    trap().after(kStore);
  }

  template <At kAt>
  static void step() {
    trap().before(kAt);
    trap().after(kAt);
  }
};

}  // namespace holdfast::crash
