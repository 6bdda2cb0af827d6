// SPDX-License-Identifier: MIT
#include "tests/soak/child.hpp"

#include <cerrno>
#include <csignal>

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace holdfast::soak {

using integration::Broken;

namespace {

constexpr int kInherited = 3;
constexpr int kAbove = 16;  // where descriptors are out of the way

// In the child between fork() and exec: only calls that are safe there.
[[noreturn]] void become(const Launch& launch, char* const* arguments, int done, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, launch.when_we_die);
  if (::getppid() != parent) ::_exit(1);
  ::setpgid(0, 0);  // Ctrl-C is the campaign's
  done = ::fcntl(done, F_DUPFD_CLOEXEC, kAbove);
  if (launch.output >= 0) {
    ::dup2(launch.output, STDOUT_FILENO);
    ::dup2(launch.output, STDERR_FILENO);
  }
  if (launch.inherited >= 0) {
    const int inherited = ::fcntl(launch.inherited, F_DUPFD_CLOEXEC, kAbove);
    ::dup2(inherited, kInherited);
  }
  ::execv(launch.program.c_str(), arguments);
  ::_exit(127);
}

}  // namespace

Child::Child(const Launch& launch) {
  std::vector<char*> arguments;
  for (const std::string& argument : launch.arguments) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  int done[2];
  if (::pipe2(done, O_CLOEXEC) != 0) throw Broken("pipe2");
  const Descriptor executed(done[0]);
  Descriptor writing(done[1]);
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) throw Broken("fork");
  if (pid_ == 0) become(launch, arguments.data(), writing.get(), parent);
  writing.reset();
  pidfd_.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
  char byte = 0;
  while (::read(executed.get(), &byte, 1) < 0 && errno == EINTR) {
  }
}

Child::~Child() {
  if (running()) kill();
}

void Child::signal(int signal) const {
  if (running()) ::syscall(SYS_pidfd_send_signal, pidfd_.get(), signal, nullptr, 0);
}

void Child::kill() {
  if (!running()) return;
  signal(SIGKILL);
  while (!ended(seconds(10))) {
  }
}

bool Child::ended(nanoseconds within) {
  if (!running()) return true;
  const auto until = integration::now() + within;
  while (true) {
    pollfd end{pidfd_.get(), POLLIN, 0};
    const auto left = std::chrono::duration_cast<milliseconds>(until - integration::now()).count();
    const int polled = ::poll(&end, 1, left > 0 ? static_cast<int>(left) : 0);
    if (polled < 0 && errno == EINTR) continue;
    if (polled <= 0) return false;
    ::waitpid(pid_, &status_, 0);
    pid_ = -1;
    return true;
  }
}

int Child::await_stop() {
  while (running()) {
    if (::waitpid(pid_, &status_, 0) != pid_) {
      if (interrupted()) throw Interrupted();
      continue;
    }
    if (WIFSTOPPED(status_)) return WSTOPSIG(status_);
    pid_ = -1;
  }
  return 0;
}

}  // namespace holdfast::soak
