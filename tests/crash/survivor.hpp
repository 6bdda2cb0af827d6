// SPDX-License-Identifier: MIT
//
// A subscriber that must go on whoever dies: a session and a thread of its own, with the ordinary library. It checks every
// sample, keeps the last few views and checks them again when it gives them back, and counts.
//
// It ends by itself when the lane that quit_after() or quit_after_first() names has ended and nothing more is to be taken.
// Say which before that lane can end: an end is reported once.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "holdfast/holdfast.hpp"
#include "tests/crash/sample.hpp"
#include "tests/integration/broker.hpp"

namespace holdfast::crash {

class Survivor {
 public:
  // What was seen of one publisher's session.
  struct Tally {
    std::uint64_t taken = 0;
    std::uint64_t missed = 0;
    int finished = 0;
    int aborted = 0;
    bool operator==(const Tally&) const = default;
    friend void PrintTo(const Tally& tally, std::ostream* out) {
      *out << tally.taken << " taken, " << tally.missed << " missed, " << tally.finished << " finished, "
           << tally.aborted << " aborted";
    }
  };

  Survivor(const integration::PrivateBroker& broker, const std::string& topic, bool lossless);
  Survivor(const Survivor&) = delete;
  Survivor& operator=(const Survivor&) = delete;
  ~Survivor();

  void start();
  // The lane of this publisher, or whichever ends first.
  void quit_after(std::uint32_t session);
  void quit_after_first();

  // Goes on after a sample that told it to hold. never_hold(): and holds no more.
  void go();
  void never_hold();

  // Waits until `taken + missed` of a session is at least `count`. False: not in time.
  bool wait_for(std::uint32_t session, std::uint64_t count);
  // Waits until it has ended by itself, closes, and says what it saw. Not in time: a test failure.
  std::map<std::uint32_t, Tally> join();

 private:
  void run();
  bool step();
  void sample(hf_view& view);
  void keep(const hf_view& view);
  void give_back(std::size_t keep);
  void hold();
  void wrong(const std::string& what);
  // Requires: mutex_ is held.
  bool is_last(std::uint32_t session) const { return first_is_last_ || session == last_session_; }

  bool lossless_;
  Client client_;
  Subscriber subscriber_;
  std::thread thread_;

  // The thread's own.
  std::deque<hf_view> kept_;
  std::map<std::uint32_t, std::uint64_t> next_;  // by writer: the next position, or the lowest possible one
  bool batch_ = false;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::uint32_t, Tally> tallies_;
  std::vector<std::string> wrongs_;
  std::uint64_t goes_ = 0;
  std::uint64_t goes_used_ = 0;
  bool held_ = false;
  bool holds_ = true;
  std::uint32_t last_session_ = 0;
  bool first_is_last_ = false;
  bool quit_ = false;  // that one has ended
  bool ended_ = false;  // the thread is done
};

}  // namespace holdfast::crash
