// SPDX-License-Identifier: MIT
//
// What systemd is told and asked. Without systemd all of it does nothing.
#pragma once

#include <memory>
#include <string>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "daemon/fd_store.hpp"
#include "proto/control/descriptor.hpp"

namespace holdfast::daemon {

void notify(const std::string& state);
// With a descriptor. Returns 0, or the error.
[[nodiscard]] int notify_with(const std::string& state, int fd);

// What systemd passed at the start.
struct Passed {
  Descriptor socket;  // the listening one, if there is one
  FdStore::Found stored;  // what an earlier broker has put into the descriptor store
  std::string error;  // it passed what it must not
};
Passed passed_descriptors();

// How many descriptors are kept for us: what FileDescriptorStoreMax= of the unit says. systemd tells it from version 254
// on, and the unit tells it to those before. 0: none.
std::size_t fd_store_limit();

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
