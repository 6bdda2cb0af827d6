// SPDX-License-Identifier: MIT
//
// Processes in pid namespaces of their own, and processes with a pid that was another's.
#pragma once

#include <csignal>
#include <exception>
#include <fstream>

#include <sched.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

namespace holdfast::integration {

// Thrown where this machine gives no pid namespace; a test that needs one is skipped then.
class NoNamespace : public std::exception {
 public:
  const char* what() const noexcept override { return "not_run: this machine gives no pid namespace"; }
};

// fork() into a pid namespace of the child's own, where it is pid 1 and sees nobody else; we see it as any child.
inline pid_t fork_into_own_pids() {
  return static_cast<pid_t>(::syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, nullptr, nullptr, nullptr, nullptr));
}

// The next process of this pid namespace gets this pid, if it is free. False: not allowed here.
inline bool next_pid_is(pid_t pid) {
  std::ofstream last("/proc/sys/kernel/ns_last_pid");
  last << pid - 1 << std::flush;
  return static_cast<bool>(last);
}

}  // namespace holdfast::integration
