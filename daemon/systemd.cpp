// SPDX-License-Identifier: MIT
#include "daemon/systemd.hpp"

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <sys/socket.h>
#include <systemd/sd-daemon.h>

namespace holdfast::daemon {

namespace {

bool is_listening_socket(int fd) { return ::sd_is_socket_unix(fd, SOCK_STREAM, 1, nullptr, 0) > 0; }

// Only we put anything there, so what is no segment of ours is a mistake, and goes.
void take_stored(Descriptor fd, const std::string& name, FdStore::Found& stored) {
  const broker::SegmentId segment = stored_segment(name);
  if (segment == 0 || !stored.emplace(segment, std::move(fd)).second) {
    stored.erase(segment);
    notify("FDSTOREREMOVE=1\nFDNAME=" + name);
  }
}

}  // namespace

void notify(const std::string& state) { ::sd_notify(0, state.c_str()); }

int notify_with(const std::string& state, int fd) {
  const int sent = ::sd_pid_notify_with_fds(0, 0, state.c_str(), &fd, 1);
  return sent < 0 ? -sent : 0;
}

Passed passed_descriptors() {
  Passed passed;
  char** names = nullptr;
  const int count = ::sd_listen_fds_with_names(1, &names);
  for (int i = 0; i < count; ++i) {
    Descriptor fd(SD_LISTEN_FDS_START + i);
    const std::string name = names[i];
    std::free(names[i]);
    if (::sd_is_socket(fd.get(), AF_UNSPEC, 0, -1) <= 0)
      take_stored(std::move(fd), name, passed.stored);
    else if (passed.socket || !is_listening_socket(fd.get()))
      passed.error = "systemd must pass one listening Unix stream socket; it passed another one, \"" + name + "\"";
    else
      passed.socket = std::move(fd);
  }
  std::free(names);
  return passed;
}

std::size_t fd_store_limit() {
  const char* limit = std::getenv("FDSTORE");
  if (limit == nullptr || std::getenv("NOTIFY_SOCKET") == nullptr) return 0;
  std::size_t most = 0;
  const char* end = limit + std::strlen(limit);
  const auto parsed = std::from_chars(limit, end, most);
  return parsed.ec == std::errc() && parsed.ptr == end ? most : 0;
}

Watchdog::Watchdog(boost::asio::io_context& io) : timer_(io) {
  std::uint64_t period_us = 0;
  if (::sd_watchdog_enabled(0, &period_us) <= 0) return;
  period_ = std::chrono::microseconds(period_us / 2);
  wait();
}

void Watchdog::wait() {
  timer_.expires_after(period_);
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (error) return;
    notify("WATCHDOG=1");
    wait();
  });
}

}  // namespace holdfast::daemon
