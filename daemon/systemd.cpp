// SPDX-License-Identifier: MIT
#include "daemon/systemd.hpp"

#include <sys/socket.h>
#include <systemd/sd-daemon.h>

namespace holdfast::daemon {

void notify(const std::string& state) { ::sd_notify(0, state.c_str()); }

Descriptor passed_socket(std::string& error) {
  const int count = ::sd_listen_fds(1);
  if (count <= 0) return {};
  if (count != 1 || ::sd_is_socket_unix(SD_LISTEN_FDS_START, SOCK_STREAM, 1, nullptr, 0) <= 0) {
    error = "systemd must pass one listening Unix stream socket; it passed " + std::to_string(count) + " descriptors";
    return {};
  }
  return Descriptor(SD_LISTEN_FDS_START);
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
