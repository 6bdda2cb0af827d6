// SPDX-License-Identifier: MIT
#include "client/cli/interrupt.hpp"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <string>

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "client/cli/outcome.hpp"

namespace holdfast::cli {

namespace {

volatile std::sig_atomic_t g_signal = 0;
int g_event = -1;  // readable for ever after the first signal

void on_signal(int number) {
  if (g_signal != 0) ::_exit(128 + number);
  g_signal = number;
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(g_event, &one, sizeof one);
}

// `output` -1: standard output does not matter.
bool wait_for(int fd, int output, std::int64_t timeout_ns) {
  const Deadline deadline(timeout_ns);
  constexpr std::int64_t kLongNs = 3'600'000'000'000;
  while (true) {
    end_if_interrupted();
    // poll() always reports POLLERR: of a pipe, that its reader is gone.
    pollfd fds[3] = {{g_event, POLLIN, 0}, {output, 0, 0}, {fd, POLLIN, 0}};
    const std::int64_t left_ns = deadline.left_ns(kLongNs);
    const int ready = ::poll(fds, 3, static_cast<int>((left_ns + 999'999) / 1'000'000));
    if (ready < 0 && errno != EINTR)
      throw Failed(Exit::kFailure, "system", std::string("poll: ") + std::strerror(errno));
    end_if_interrupted();
    if (ready > 0 && (fds[1].revents & POLLERR) != 0) throw Ended{0};
    if (ready > 0 && fds[2].revents != 0) return true;
    if (deadline.expired()) return false;
  }
}

}  // namespace

void watch_for_interrupts() {
  g_event = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  struct sigaction action{};
  action.sa_handler = on_signal;  // without SA_RESTART: what blocks is woken
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    // Whoever started us with it ignored, such as nohup, goes on ignoring it.
    struct sigaction before{};
    if (::sigaction(number, nullptr, &before) == 0 && before.sa_handler == SIG_IGN) continue;
    ::sigaction(number, &action, nullptr);
  }
  std::signal(SIGPIPE, SIG_IGN);
}

bool interrupted() { return g_signal != 0; }

void end_if_interrupted() {
  if (g_signal != 0) throw Ended{128 + g_signal};
}

bool wait_readable(int fd, std::int64_t timeout_ns) { return wait_for(fd, -1, timeout_ns); }

bool wait_readable_or_closed(int fd, std::int64_t timeout_ns) { return wait_for(fd, STDOUT_FILENO, timeout_ns); }

std::int64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace holdfast::cli
