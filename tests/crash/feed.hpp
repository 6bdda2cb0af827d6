// SPDX-License-Identifier: MIT
//
// A publisher that must go on whichever subscriber dies: a session and a thread of its own, with the ordinary library. It
// publishes as many samples as it is asked for, of the kind that it is asked for.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>

#include "holdfast/holdfast.hpp"
#include "tests/integration/broker.hpp"

namespace holdfast::crash {

class Feed {
 public:
  enum class Kind { kInline, kMixed, kChunk };

  Feed(const integration::PrivateBroker& broker, const std::string& topic, const PublisherOptions& options,
       std::uint32_t writer);
  Feed(const Feed&) = delete;
  Feed& operator=(const Feed&) = delete;
  ~Feed();

  // So many more. Does not wait.
  void add(std::uint64_t samples, Kind kind);
  // More than anybody takes, until stop().
  void fill();
  void stop();
  // Waits until all that was asked for is published. False: not in time, or it failed.
  bool wait_idle();

  std::uint32_t session() const { return client_.session(); }
  std::uint64_t published();
  // As the roster says. Requires: idle.
  std::int64_t subscriber_count() { return publisher_.subscriber_count(); }
  // What it failed with; empty: nothing.
  std::string failure();

  // Ends the lane and the session. Requires: idle.
  void close();

 private:
  void run();
  int publish_one(Kind kind, std::uint64_t position);
  bool idle() const { return published_ >= asked_ && !busy_; }

  Client client_;
  Publisher publisher_;
  std::uint32_t writer_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t asked_ = 0;
  std::uint64_t published_ = 0;
  Kind kind_ = Kind::kInline;
  bool busy_ = false;
  bool closing_ = false;
  std::string failure_;
  std::thread thread_;  // last: it uses the others
};

}  // namespace holdfast::crash
