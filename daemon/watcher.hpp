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

#include "proto/control/descriptor.hpp"

namespace holdfast::daemon {

class Watcher {
 public:
  explicit Watcher(boost::asio::io_context& io) : io_(io) {}

  // Calls `ended` once, from the loop, when the process is gone. One watch to a key: a new one takes the place of the old.
  void watch(std::uint64_t key, Descriptor pidfd, std::function<void()> ended);
  void forget(std::uint64_t key) { watches_.erase(key); }

  void stop() { watches_.clear(); }

 private:
  boost::asio::io_context& io_;
  std::map<std::uint64_t, std::unique_ptr<boost::asio::posix::stream_descriptor>> watches_;
};

// The process at the other end of a Unix socket.
struct PeerProcess {
  enum class Answer { kThere, kGone, kUnknown } answer;
  Descriptor pidfd;  // kThere
  int error = 0;  // kUnknown
};
PeerProcess peer_process(int socket);

// A pidfd of `pid`, or none with errno set.
Descriptor open_process(pid_t pid);

}  // namespace holdfast::daemon
