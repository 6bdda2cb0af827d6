// SPDX-License-Identifier: MIT
//
// What a campaign and its workers know together: one memory that all of them map, so that what a worker has counted
// survives its SIGKILL. The campaign writes specs and the phase; each worker writes its own seat and the feeds of its own
// publishers; subscribers read the feeds of others.
//
// A feed says how much a publisher has published. `published` is stored after each publish and `intended` before it: what a
// killed publisher has published lies between the two.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "proto/control/descriptor.hpp"

namespace holdfast::soak {

inline constexpr std::size_t kSeatsMax = 32;
inline constexpr std::uint32_t kFeedsMax = 1U << 18;  // more publishers than this, and the oldest are forgotten
inline constexpr std::size_t kGapsMax = 32;

enum class Phase : std::uint32_t { kRun, kEndPublishers, kEndAll };
enum class Job : std::uint32_t { kPublish, kSubscribe, kOpen, kIdle, kWait, kStep };
// On the first, all who are attached stay; on the second, others come and go, and all have to notice; on the third somebody
// talks to itself.
enum class Topic : std::uint32_t { kLoad, kBusy, kSide };
enum class SeatState : std::uint32_t { kStarting, kRunning, kEnded };

// What a worker does.
struct Spec {
  Job job = Job::kPublish;
  Topic topic = Topic::kLoad;
  std::uint32_t lossless = 0;
  std::uint32_t event_loop = 0;  // takes when the descriptor says so
  std::uint32_t views_held = 0;
  std::uint32_t burst = 1;  // a publisher pauses after as many samples
  std::uint32_t pause_us = 0;
  std::uint32_t grown = 0;  // its lane has all its memory before it runs: it needs the broker for nothing
  std::uint32_t alternating = 0;  // every other sample is inline
  std::uint32_t operation = 0;  // of kStep: see steps.hpp
  std::uint64_t seed = 0;
};

// Nothing was published, taken or waited for from `begin_ns` to `end_ns`, CLOCK_MONOTONIC.
struct Gap {
  std::uint64_t begin_ns = 0;
  std::uint64_t end_ns = 0;
};

// One worker. Read by the campaign: counters at any time, gaps and the sentence when the worker has ended.
struct Seat {
  Spec spec;
  std::atomic<SeatState> state;
  std::atomic<std::uint32_t> session;
  std::atomic<std::uint64_t> samples;
  std::atomic<std::uint64_t> last_ns;  // of the last sample
  std::atomic<std::uint64_t> lost;
  std::atomic<std::uint64_t> duplicated;
  std::atomic<std::uint64_t> torn;
  std::atomic<std::uint64_t> failed;
  std::atomic<std::uint64_t> clock_steps;  // that a waiter has seen
  std::atomic<std::uint32_t> gaps_count;
  Gap gaps[kGapsMax];  // the longest
  char sentence[256];  // of the first thing that went wrong
};

// One publisher.
struct Feed {
  std::atomic<std::uint32_t> writer;  // stored last; 0: nobody's yet
  std::atomic<std::uint32_t> session;
  std::atomic<std::uint32_t> only;  // its session has no other on the topic
  std::atomic<Topic> topic;
  std::atomic<std::uint64_t> open_begin_ns;  // before it was opened
  std::atomic<std::uint64_t> intended;
  std::atomic<std::uint64_t> published;
};

struct BoardLayout {
  char socket[108];
  std::atomic<Phase> phase;
  std::atomic<std::uint32_t> writers;  // how many writers there are; the first is 1
  Seat seats[kSeatsMax];
  Feed feeds[kFeedsMax];
};

class Board {
 public:
  Board();  // a new one
  explicit Board(int fd);  // the campaign's, in a worker
  Board(const Board&) = delete;
  Board& operator=(const Board&) = delete;
  ~Board();

  BoardLayout* operator->() const { return layout_; }
  int fd() const { return memory_.get(); }
  Seat& seat(std::size_t index) const { return layout_->seats[index]; }
  // The feed of `writer`; nullptr: forgotten.
  Feed* feed(std::uint32_t writer) const;
  // A feed that begins now. Requires: the session is known, the publisher not open yet.
  std::uint32_t new_feed(std::uint32_t session, bool only, Topic topic) const;

 private:
  void map();

  Descriptor memory_;
  BoardLayout* layout_ = nullptr;
};

std::uint64_t now_ns();

// Counts what one worker does: samples, gaps, what went wrong.
class Tally {
 public:
  explicit Tally(Seat& seat) : seat_(seat) {}

  // It runs: from now on, time without samples counts.
  void running(std::uint32_t session);
  void sample();
  void lost(std::uint64_t samples, const std::string& what);
  void duplicated(const std::string& what);
  void torn(const std::string& what);
  void failed(const std::string& what);
  Seat& seat() const { return seat_; }

 private:
  void say(const std::string& what);
  void note(Gap gap);

  Seat& seat_;
};

}  // namespace holdfast::soak
