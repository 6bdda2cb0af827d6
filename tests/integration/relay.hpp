// SPDX-License-Identifier: MIT
//
// Something between clients and their broker: it takes connections at a path of its own and passes everything on, descriptors
// included. It can cut them, and hold an answer back for as long as a test needs.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <list>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "proto/control/descriptor.hpp"

namespace holdfast::integration {

class Relay {
 public:
  Relay(const std::string& path, const std::string& target);
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;
  ~Relay();

  // The next answer of the broker waits for `call`; it is the last thing that its connection passes on.
  void before_next_answer(std::function<void()> call);
  // Ends every connection that there is.
  void cut();
  // How many there are.
  std::size_t connections() const { return connections_; }

 private:
  struct Pair {
    Descriptor client;
    Descriptor broker;
  };

  void run();
  void take_connection();
  bool pass_on(int from, int to, bool answer);

  std::string path_;
  std::string target_;
  Descriptor listener_;
  Descriptor wake_;
  std::mutex mutex_;  // protects the next three
  std::function<void()> before_answer_;
  bool cut_ = false;
  bool over_ = false;
  std::list<Pair> pairs_;  // the thread's
  // So are these: what was passed on. To close a session's file here would let go of the lock that its client holds, where
  // that is a part of this process.
  std::vector<Descriptor> kept_;
  std::atomic<std::size_t> connections_{0};
  std::thread thread_;
};

}  // namespace holdfast::integration
