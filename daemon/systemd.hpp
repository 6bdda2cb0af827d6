// SPDX-License-Identifier: MIT
//
// What systemd is told and asked. Without systemd all of it does nothing.
#pragma once

#include <memory>
#include <string>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "daemon/descriptor.hpp"

namespace holdfast::daemon {

void notify(const std::string& state);

// The listening socket that systemd passed, if it passed one. `error`: it passed something else.
Descriptor passed_socket(std::string& error);

// Says that the loop is alive, twice per period, if systemd wants to know.
class Watchdog {
 public:
  explicit Watchdog(boost::asio::io_context& io);

 private:
  void wait();

  boost::asio::steady_timer timer_;
  std::chrono::microseconds period_{0};
};

}  // namespace holdfast::daemon
