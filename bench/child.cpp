// SPDX-License-Identifier: MIT
#include "bench/child.hpp"

#include <cerrno>
#include <system_error>

#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>

namespace holdfast::bench {

pid_t fork_child() {
  const pid_t child = fork();
  if (child < 0) throw std::system_error(errno, std::generic_category(), "fork");
  return child;
}

bool reap(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return false;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int open_pidfd(pid_t pid) {
  const int descriptor = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  if (descriptor < 0) throw std::system_error(errno, std::generic_category(), "pidfd_open");
  return descriptor;
}

void see_off(pid_t child, int timeout_ms) {
  pollfd end{open_pidfd(child), POLLIN, 0};
  if (poll(&end, 1, timeout_ms) != 1) kill(child, SIGKILL);
  close(end.fd);
  (void)reap(child);
}

}  // namespace holdfast::bench
