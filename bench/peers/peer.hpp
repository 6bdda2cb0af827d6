// SPDX-License-Identifier: MIT
//
// Another system, as the workloads of this folder ask for it: a client with which one process sends and receives
// messages of one size on named topics.
//
// Made after the fork, one per process, used by one thread. Failures throw std::runtime_error with a sentence.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>

#include <sched.h>

#include "bench/workload.hpp"

namespace holdfast::bench {

enum class Wait { kSpin, kSleep };

struct Shape {
  std::size_t bytes = 32;      // of every message
  Wait wait = Wait::kSpin;     // how both ends wait
  std::uint32_t receivers = 1;
};

// What it does for a message too large for its API, or for a way of waiting that it has not: throws this sentence.
[[noreturn]] inline void cannot(const std::string& why) { throw std::runtime_error(why); }

[[noreturn]] inline void call_failed(const char* call) {
  throw std::runtime_error(std::string(call) + ": " + std::strerror(errno));
}

class Sender {
 public:
  Sender() = default;
  Sender(const Sender&) = delete;
  Sender& operator=(const Sender&) = delete;
  virtual ~Sender() = default;

  // Sends a message that begins with `head_bytes` bytes of `head`; what else is in it nobody looks at. Waits while
  // there is no room.
  virtual void send(const void* head, std::size_t head_bytes) = 0;
};

class Receiver {
 public:
  Receiver() = default;
  Receiver(const Receiver&) = delete;
  Receiver& operator=(const Receiver&) = delete;
  virtual ~Receiver() = default;

  // Waits for the next message and copies its first `head_bytes` bytes to `head`.
  virtual void receive(void* head, std::size_t head_bytes) = 0;
};

class Peer {
 public:
  Peer() = default;
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;
  virtual ~Peer() = default;

  // The two ends of a topic may be opened in either order, by two processes or by one. A sender's first message waits
  // until `shape.receivers` are there.
  virtual std::unique_ptr<Sender> sender(const std::string& topic, const Shape& shape) = 0;
  virtual std::unique_ptr<Receiver> receiver(const std::string& topic, const Shape& shape) = 0;
};

using MakePeer = std::function<std::unique_ptr<Peer>()>;

// While it lives, threads that the calling thread starts may run on any CPU; the calling thread then returns to its own.
class FreeThreads {
 public:
  FreeThreads() {
    sched_getaffinity(0, sizeof own_, &own_);
    cpu_set_t all;
    std::memset(&all, 0xff, sizeof all);
    sched_setaffinity(0, sizeof all, &all);
  }
  FreeThreads(const FreeThreads&) = delete;
  FreeThreads& operator=(const FreeThreads&) = delete;
  ~FreeThreads() { sched_setaffinity(0, sizeof own_, &own_); }

 private:
  cpu_set_t own_{};
};

// Where peers keep their files, in /dev/shm as well, and how their names there begin: scripts/bench removes both.
std::string runtime_folder();
std::string shared_memory_prefix();

// A file name for a topic.
inline std::string flat(std::string topic) {
  for (char& letter : topic)
    if (letter == '/') letter = '.';
  return topic;
}

}  // namespace holdfast::bench
