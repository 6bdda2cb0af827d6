// SPDX-License-Identifier: MIT
//
// Children of the benchmarks: how one begins, what it leaves when it fails, and how its end is awaited.
#pragma once

#include <csignal>
#include <cstdio>
#include <exception>

#include <sys/prctl.h>
#include <unistd.h>

namespace holdfast::bench {

// Why a child failed, in memory that it shares with its parent. Zeroed: it did not.
class Failure {
 public:
  void say(const char* why) { std::snprintf(why_, sizeof why_, "%s", why); }
  const char* why() const { return why_; }
  bool empty() const { return why_[0] == '\0'; }

 private:
  char why_[512];
};

// Forks. The child does `work` and ends: with status 0, or 1 if `work` throws, which `failure` then tells. It dies with
// the process that made it. Throws std::system_error.
pid_t fork_child();
template <class Work>
pid_t start_child(Failure& failure, Work&& work) {
  const pid_t parent = getpid();
  const pid_t child = fork_child();
  if (child > 0) return child;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  try {
    work();
    _exit(0);
  } catch (const std::exception& error) {
    failure.say(error.what());
    _exit(1);
  }
}

// Waits until the child has ended; true if it did so with status 0.
bool reap(pid_t child);

// Readable when the process has ended. Throws std::system_error.
int open_pidfd(pid_t pid);

// Waits until the child has ended, and kills it after `timeout_ms`.
void see_off(pid_t child, int timeout_ms);

}  // namespace holdfast::bench
