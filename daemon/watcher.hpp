// SPDX-License-Identifier: MIT
//
// Tells when processes are gone: one pidfd each, readable when the process has ended.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>

#include <sys/types.h>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include "daemon/descriptor.hpp"

namespace holdfast::daemon {

class Watcher {
 public:
  explicit Watcher(boost::asio::io_context& io) : io_(io) {}

  // Calls `ended` once, from the loop, when the process is gone.
  void watch(Descriptor pidfd, std::function<void()> ended);

  void stop() { watches_.clear(); }

 private:
  boost::asio::io_context& io_;
  std::map<std::uint64_t, std::unique_ptr<boost::asio::posix::stream_descriptor>> watches_;
  std::uint64_t last_ = 0;
};

// The process at the other end of a Unix socket.
struct PeerProcess {
  enum class Answer { kThere, kGone, kUnknown } answer;
  Descriptor pidfd;  // kThere
  int error = 0;     // kUnknown
};
PeerProcess peer_process(int socket);

// A pidfd of `pid`, or none with errno set.
Descriptor open_process(pid_t pid);

}  // namespace holdfast::daemon
