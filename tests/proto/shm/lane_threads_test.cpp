// SPDX-License-Identifier: MIT
//
// One writer and several readers in threads of one process: checksummed payloads of both kinds, single and in batches,
// views held for a while and released by another thread. Nothing is torn, lossless readers get everything, drop-oldest
// readers count exactly what they missed, and in the end every chunk comes back. Also runs under the thread sanitizer,
// which sees every pair of a release and an acquire that the payload bytes depend on.
#include <atomic>
#include <deque>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "tests/proto/shm/lane_fixture.hpp"

namespace holdfast::shm {
namespace {

#if defined(HOLDFAST_UNDER_TSAN)
constexpr std::uint64_t kSamples = 20'000;
#else
constexpr std::uint64_t kSamples = 100'000;
#endif

struct Count {
  std::uint64_t taken = 0;
  std::uint64_t missed = 0;
  std::uint64_t torn = 0;
  std::uint64_t corrupt = 0;
  bool in_order = true;
  Take end = Take::kEmpty;
};

// Views on their way to the thread that releases them.
class Handover {
 public:
  void put(TestReader<>& reader, const Taken& view) {
    const std::lock_guard lock(mutex_);
    views_.push_back({&reader, view});
  }
  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  // Checks each view once more and releases it, until the handover is closed and empty. Returns how many had changed.
  std::uint64_t release_all() {
    std::uint64_t changed = 0;
    while (true) {
      std::pair<TestReader<>*, Taken> next{};
      {
        const std::lock_guard lock(mutex_);
        if (views_.empty() && closed_) return changed;
        if (!views_.empty()) {
          next = views_.front();
          views_.pop_front();
        }
      }
      if (next.first == nullptr) {
        std::this_thread::yield();
        continue;
      }
      changed += next.first->intact(next.second) ? 0 : 1;
      next.first->release(next.second);
    }
  }

 private:
  std::mutex mutex_;
  std::deque<std::pair<TestReader<>*, Taken>> views_;
  bool closed_ = false;
};

class ReaderThread {
 public:
  ReaderThread(TestLane& lane, bool lossless, bool batch, Handover* handover)
      : reader_(lane, lane.seat(lossless ? kEntryLossless : 0, 0), lossless),
        batch_(batch),
        handover_(handover) {
    reader_->join_fresh();
  }

  void run() {
    while (count.end != Take::kFinished && count.end != Take::kAborted) {
      Taken taken[8];
      std::size_t got = 0;
      Take result = Take::kEmpty;
      if (batch_) {
        result = reader_->take_batch(std::span(taken), got);
      } else {
        result = reader_->take(taken[0]);
        got = result == Take::kSample ? 1 : 0;
      }
      note(result, taken[0]);
      for (std::size_t i = 0; i < got; ++i) keep(taken[i]);
    }
    while (!held_.empty()) let_go();
  }

  Count count;

 private:
  void note(Take result, const Taken& first) {
    switch (result) {
      case Take::kSample:
        break;
      case Take::kEmpty:
        std::this_thread::yield();
        break;
      case Take::kLapped:
        count.missed += first.missed;
        next_ += first.missed;
        break;
      case Take::kCorrupt:
        ++count.corrupt;
        break;
      case Take::kFinished:
      case Take::kAborted:
        count.end = result;
        break;
    }
  }

  void keep(const Taken& taken) {
    ++count.taken;
    count.in_order = count.in_order && taken.position == next_;
    next_ = taken.position + 1;
    count.torn += reader_.intact(taken) ? 0 : 1;
    if (taken.chunk == kNoChunk) return;
    held_.push_back(taken);
    if (held_.size() > 4) let_go();
  }

  void let_go() {
    const Taken view = held_.front();
    held_.pop_front();
    if (handover_ != nullptr) {
      handover_->put(reader_, view);
      return;
    }
    count.torn += reader_.intact(view) ? 0 : 1;
    reader_.release(view);
  }

  TestReader<> reader_;
  bool batch_;
  Handover* handover_;
  std::deque<Taken> held_;
  std::uint64_t next_ = 0;
};

void write_all(TestWriter<>& writer) {
  std::mt19937_64 random(42);
  while (writer->position() < kSamples) {
    const std::uint64_t left = kSamples - writer->position();
    const bool done = random() % 4 == 0 ? writer.publish_batch(std::min<std::uint64_t>(left, 1 + random() % 8))
                                        : writer.publish_mixed();
    if (!done) std::this_thread::yield();
  }
  writer->finish();
}

// Everything that is asked of one run.
void exchange(const LaneShape& shape, bool with_lossless) {
  ASSERT_TRUE(register_membarrier());
  TestLane lane(shape);
  Handover handover;
  std::vector<std::unique_ptr<ReaderThread>> readers;
  readers.push_back(std::make_unique<ReaderThread>(lane, false, false, nullptr));
  readers.push_back(std::make_unique<ReaderThread>(lane, false, true, &handover));
  if (with_lossless) {
    readers.push_back(std::make_unique<ReaderThread>(lane, true, false, &handover));
    readers.push_back(std::make_unique<ReaderThread>(lane, true, true, nullptr));
  }
  TestWriter<> writer(lane);
  std::uint64_t changed = 0;
  std::thread releaser([&] { changed = handover.release_all(); });
  std::vector<std::thread> threads;
  for (auto& reader : readers) threads.emplace_back([&reader] { reader->run(); });
  std::thread writing([&] { write_all(writer); });
  writing.join();
  for (std::thread& thread : threads) thread.join();
  handover.close();
  releaser.join();

  EXPECT_EQ(changed, 0u);
  for (std::size_t i = 0; i < readers.size(); ++i) {
    const Count& count = readers[i]->count;
    SCOPED_TRACE("reader " + std::to_string(i));
    EXPECT_EQ(count.torn, 0u);
    EXPECT_EQ(count.corrupt, 0u);
    EXPECT_TRUE(count.in_order);
    EXPECT_EQ(count.taken + count.missed, kSamples);
    EXPECT_EQ(count.end, Take::kFinished);
    if (i >= 2) {
      EXPECT_EQ(count.missed, 0u);
    }
  }
  EXPECT_EQ(writer.reclaim(kSamples), Room::kOk);
  EXPECT_EQ(writer.free_chunks(), lane.shape().chunks);
}

TEST(LaneThreads, FourReadersOfADefaultRing) { exchange({.ring_slots = 64, .chunks = 48, .chunk_bytes = 256}, true); }

TEST(LaneThreads, FourReadersOfASmallRing) { exchange({.ring_slots = 8, .chunks = 24, .chunk_bytes = 64}, true); }

TEST(LaneThreads, TwoReadersThatAreLappedAllTheTime) {
  exchange({.ring_slots = 8, .chunks = 12, .chunk_bytes = 1024}, false);
}

// Readers join and leave all the time while the writer never stops: row 6a with real threads.
TEST(LaneThreads, LosslessReadersThatComeAndGoMissNothingWhileTheyAreThere) {
  ASSERT_TRUE(register_membarrier());
  TestLane lane({.ring_slots = 16, .chunks = 24, .chunk_bytes = 64});
  TestWriter<> writer(lane);
  std::atomic<bool> stop{false};
  std::uint64_t joins = 0;
  std::uint64_t wrong = 0;
  std::thread reading([&] {
    Seat seat = lane.seat(0);
    for (; joins < 300; ++joins) {
      lane.seat_again(seat, kEntryLossless);
      TestReader<> reader(lane, seat, true);
      constexpr Start kStarts[] = {Start::kOldest, Start::kLatest, Start::kNext};
      reader->join(kStarts[joins % 3]);
      std::uint64_t next = reader->cursor();
      for (int taken = 0; taken < 40;) {
        Taken sample;
        const Take result = reader->take(sample);
        if (result == Take::kEmpty) {
          std::this_thread::yield();
          continue;
        }
        wrong += result != Take::kSample || sample.position != next || !reader.intact(sample) ? 1 : 0;
        reader.release(sample);
        next = reader->cursor();
        ++taken;
      }
      reader->leave();
      lane.unseat(seat);
    }
    stop = true;
  });
  while (!stop)
    if (!writer.publish_mixed()) std::this_thread::yield();
  reading.join();
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(joins, 300u);
}

}  // namespace
}  // namespace holdfast::shm
