// SPDX-License-Identifier: MIT
#include "tests/soak/board.hpp"

#include <algorithm>
#include <cstring>
#include <ctime>

#include <sys/mman.h>
#include <unistd.h>

#include "tests/integration/within.hpp"

namespace holdfast::soak {

namespace {

// Shorter ones are the scheduler's everyday.
constexpr std::uint64_t kGapMin = 2'000'000;

}  // namespace

std::uint64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

Board::Board() : memory_(::memfd_create("holdfast-soak", MFD_CLOEXEC)) {
  if (::ftruncate(memory_.get(), sizeof(BoardLayout)) != 0) throw integration::Broken("no memory for the board");
  map();
  layout_->writers.store(1, std::memory_order_relaxed);  // 0 is nobody
}

Board::Board(int fd) : memory_(fd) { map(); }

void Board::map() {
  void* const memory = ::mmap(nullptr, sizeof(BoardLayout), PROT_READ | PROT_WRITE, MAP_SHARED, memory_.get(), 0);
  if (memory == MAP_FAILED) throw integration::Broken("the board cannot be mapped");
  layout_ = static_cast<BoardLayout*>(memory);
}

Board::~Board() { ::munmap(layout_, sizeof(BoardLayout)); }

Feed* Board::feed(std::uint32_t writer) const {
  Feed& feed = layout_->feeds[writer % kFeedsMax];
  return writer != 0 && feed.writer.load() == writer ? &feed : nullptr;
}

std::uint32_t Board::new_feed(std::uint32_t session, bool only, Topic topic) const {
  const std::uint32_t writer = layout_->writers.fetch_add(1);
  Feed& feed = layout_->feeds[writer % kFeedsMax];
  feed.writer = 0;
  feed.session = session;
  feed.only = only;
  feed.topic = topic;
  feed.intended = 0;
  feed.published = 0;
  feed.open_begin_ns = now_ns();
  feed.writer = writer;
  return writer;
}

void Tally::running(std::uint32_t session) {
  seat_.session = session;
  seat_.last_ns = now_ns();
  seat_.state = SeatState::kRunning;
}

void Tally::sample() {
  const std::uint64_t now = now_ns();
  const std::uint64_t last = seat_.last_ns.load(std::memory_order_relaxed);
  seat_.samples.fetch_add(1, std::memory_order_relaxed);
  seat_.last_ns.store(now, std::memory_order_relaxed);
  if (last != 0 && now - last >= kGapMin) note({last, now});
}

void Tally::note(Gap gap) {
  const std::uint32_t count = seat_.gaps_count;
  if (count < kGapsMax) {
    seat_.gaps[count] = gap;
    seat_.gaps_count = count + 1;
    return;
  }
  Gap* const shortest = std::min_element(seat_.gaps, seat_.gaps + kGapsMax, [](const Gap& a, const Gap& b) {
    return a.end_ns - a.begin_ns < b.end_ns - b.begin_ns;
  });
  if (gap.end_ns - gap.begin_ns > shortest->end_ns - shortest->begin_ns) *shortest = gap;
}

void Tally::lost(std::uint64_t samples, const std::string& what) {
  seat_.lost += samples;
  say(what);
}

void Tally::duplicated(const std::string& what) {
  ++seat_.duplicated;
  say(what);
}

void Tally::torn(const std::string& what) {
  ++seat_.torn;
  say(what);
}

void Tally::failed(const std::string& what) {
  ++seat_.failed;
  say(what);
}

void Tally::say(const std::string& what) {
  if (seat_.sentence[0] != '\0') return;
  const std::size_t bytes = std::min(what.size(), sizeof seat_.sentence - 1);
  std::memcpy(seat_.sentence, what.data(), bytes);
}

}  // namespace holdfast::soak
