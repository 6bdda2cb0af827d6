// SPDX-License-Identifier: MIT
//
// Writers and readers that scribble: one thread writes garbage, random and nearly right, over everything that its side
// may write, while the other side goes on. Nobody crashes or hangs, every answer is one of the known ones, and every
// payload that is handed out lies within the valid size. A bounded number of writes; the long run is in
// tests/integration.
#include <array>
#include <atomic>
#include <latch>
#include <random>
#include <thread>

#include <gtest/gtest.h>

#include "tests/proto/shm/lane_fixture.hpp"

namespace holdfast::shm {
namespace {

#if defined(HOLDFAST_UNDER_TSAN)
constexpr std::uint64_t kWrites = 100'000;
#else
constexpr std::uint64_t kWrites = 600'000;
#endif

void scribble(std::uint64_t& word, std::uint64_t value) { __atomic_store_n(&word, value, __ATOMIC_RELAXED); }

// A value that passes many of the checks.
class Garbage {
 public:
  explicit Garbage(std::uint64_t seed) : random_(seed) {}
  std::uint64_t raw() { return random_(); }
  std::uint64_t below(std::uint64_t bound) { return random_() % bound; }

  std::uint64_t position(std::uint64_t near) {
    switch (below(6)) {
      case 0:
        return raw();
      case 1:
        return ~below(20);
      case 2:
        return (std::uint64_t{1} << 63) + below(40) - 20;
      default:
        return near + below(48) - 16;
    }
  }

  std::uint64_t size() {
    constexpr std::array<std::uint64_t, 8> kSizes = {
        0, 1, 64, 128, kFlagInline | 8, kFlagInline | 32, kFlagInline | 33, kSizeMask};
    return below(4) == 0 ? raw() : kSizes[below(kSizes.size())];
  }

  std::uint64_t offset(TestLane& lane) {
    if (below(4) == 0) return raw();
    return lane.chunk_offset(below(lane.shape().chunks + 2)) + (below(4) == 0 ? below(256) : 0);
  }

 private:
  std::mt19937_64 random_;
};

void scribble_slot(TestLane& lane, Garbage& garbage, std::uint64_t near) {
  const std::uint64_t position = garbage.position(near);
  Slot& slot = garbage.below(8) == 0 ? lane.slot(garbage.raw()) : lane.slot(position);
  scribble(slot.size, garbage.size());
  scribble(slot.tags, garbage.below(2) == 0 ? garbage.below(70'000) : 0);
  scribble(slot.words[0], garbage.below(4) == 0 ? garbage.raw() : garbage.below(lane.shape().chunks_max + 2));
  scribble(slot.words[1], garbage.offset(lane));
  scribble(slot.stamp, garbage.below(8) == 0 ? garbage.raw() : stamp_of(position));
}

void scribble_header(TestLane& lane, Garbage& garbage, std::uint64_t near) {
  LaneHeader& header = lane.header();
  switch (garbage.below(6)) {
    case 0:
      scribble(header.floor, garbage.position(near));
      break;
    case 1:
      scribble(header.head, garbage.position(near));
      break;
    case 2:
      scribble(header.state, garbage.below(4));
      break;
    case 3:
      scribble(header.waits, garbage.below(2) == 0 ? garbage.raw() : garbage.below(70));
      break;
    default:
      scribble(header.floor, near > 8 ? near - garbage.below(8) : 0);
      break;
  }
}

// What every take must give, whatever the lane holds.
template <class A>
void check(TestLane& lane, TestReader<A>& reader, Take result, const Taken& taken) {
  ASSERT_LE(static_cast<int>(result), static_cast<int>(Take::kCorrupt));
  if (result != Take::kSample) return;
  if (taken.chunk == kNoChunk) {
    ASSERT_LE(taken.payload_bytes, kInlineBytesMax);
    return;
  }
  ASSERT_LT(taken.chunk, lane.shape().chunks_max);
  ASSERT_EQ(reader.pin(taken.chunk), 1);
  ASSERT_EQ(taken.offset % kPayloadAlign, 0u);
  ASSERT_GE(taken.offset, lane.chunk_offset(0));
  const std::uint64_t end = taken.offset + attributes_offset(taken.payload_bytes) + taken.attribute_bytes;
  ASSERT_LE(end, lane.chunk_offset(lane.shape().chunks));
  // Touched as a user would, but without a race that a user would have asked for.
  if (end > taken.offset) {
    (void)__atomic_load_n(lane.segment().at(taken.offset), __ATOMIC_RELAXED);
    (void)__atomic_load_n(lane.segment().at(end - 1), __ATOMIC_RELAXED);
  }
}

// Reads until told to stop. Joins again now and then, as a new subscriber would. Returns how many takes it did.
std::uint64_t read_garbage(TestLane& lane, const Seat& seat, bool lossless, std::atomic<std::uint64_t>& near,
                           const std::atomic<bool>& stop) {
  std::uint64_t takes = 0;
  while (!stop.load(std::memory_order_relaxed)) {
    reset_record<NativeAtomics>(lane.record(seat), lane.shape().chunks_max, kCursorNone);
    TestReader<> reader(lane, seat, lossless);
    reader->join(static_cast<Start>(takes % 3));
    for (int i = 0; i < 500; ++i, ++takes) {
      const std::uint64_t before = reader->cursor();
      Taken taken[8];
      std::size_t count = 0;
      Take result = Take::kEmpty;
      if (i % 2 == 0) {
        result = reader->take_batch(std::span(taken), count);
      } else {
        result = reader->take(taken[0]);
        count = result == Take::kSample ? 1 : 0;
      }
      EXPECT_GE(reader->cursor(), before);
      EXPECT_LE(reader->cursor(), kPositionMax + takes + 1);
      EXPECT_LE(count, 8u);
      check(lane, reader, result, taken[0]);
      for (std::size_t n = 0; n < count; ++n) check(lane, reader, Take::kSample, taken[n]);
      for (std::size_t n = 0; n < count; ++n) reader.release(taken[n]);
      (void)reader->ready();
      (void)reader->writer_waits();
      near.store(reader->cursor(), std::memory_order_relaxed);
      if (testing::Test::HasFailure()) return takes;
    }
    EXPECT_EQ(reader.pins(), 0u);
    reader->leave();
  }
  return takes;
}

TEST(LaneScribble, ReadersSurviveAWriterThatScribblesOverItsLane) {
  ASSERT_TRUE(register_membarrier());
  TestLane lane;
  const Seat seats[] = {lane.seat(0), lane.seat(kEntryLossless)};
  std::atomic<std::uint64_t> near[2] = {};
  std::uint64_t takes[2] = {};
  std::atomic<bool> stop{false};
  std::latch started(3);
  std::vector<std::thread> readers;
  for (std::size_t i = 0; i < 2; ++i) {
    readers.emplace_back([&, i] {
      started.arrive_and_wait();
      takes[i] = read_garbage(lane, seats[i], i == 1, near[i], stop);
    });
  }
  Garbage garbage(7);
  started.arrive_and_wait();
  auto* words = reinterpret_cast<std::uint64_t*>(lane.segment().at(0));
  const std::uint64_t ring_end = chunks_offset(lane.shape().ring_slots) / 8;
  for (std::uint64_t i = 0; i < kWrites; ++i) {
    const std::uint64_t at = near[i % 2].load(std::memory_order_relaxed);
    switch (garbage.below(8)) {
      case 0:
        scribble(words[garbage.below(lane.segment().bytes() / 8)], garbage.raw());
        break;
      case 1:
        scribble(words[garbage.below(ring_end)], garbage.below(2) == 0 ? 0 : ~std::uint64_t{0});
        break;
      case 2:
      case 3:
        scribble_header(lane, garbage, at);
        break;
      default:
        scribble_slot(lane, garbage, at);
        break;
    }
    if (i % 1024 == 0) std::this_thread::yield();
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_GT(takes[0], 0u);
  EXPECT_GT(takes[1], 0u);
}

// The other way round: records that lie, and a board and bells that anybody writes.
TEST(LaneScribble, AWriterSurvivesReadersThatScribbleOverTheirRecords) {
  TestLane lane;
  const Seat seats[] = {lane.seat(0, 0), lane.seat(kEntryLossless, 0)};
  TestWriter<> writer(lane);
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> near{0};
  std::thread scribbler([&] {
    Garbage garbage(8);
    for (std::uint64_t i = 0; i < kWrites; ++i) {
      ReaderRecord& record = lane.record(seats[garbage.below(2)]);
      switch (garbage.below(5)) {
        case 0:
          scribble(record.cursor, garbage.position(near.load(std::memory_order_relaxed)));
          break;
        case 1:
          scribble(record.bell, garbage.raw());
          break;
        case 2:
          __atomic_store_n(&record.pins[garbage.below(64)], static_cast<std::uint8_t>(garbage.below(3)),
                           __ATOMIC_RELAXED);
          break;
        case 3:
          scribble(lane.board().sleepers, garbage.raw());
          break;
        default:
          scribble(lane.bell(static_cast<std::uint32_t>(garbage.below(kBellCount))).armed, garbage.below(3));
          break;
      }
      if (i % 1024 == 0) std::this_thread::yield();
    }
    stop = true;
  });
  struct Silent {
    void post(Bell&) const {}
    void drain(Bell&) const {}
  };
  std::uint64_t published = 0;
  std::uint64_t ticket = 0;
  while (!stop) {
    const bool done = published % 5 == 0 ? writer.publish_batch(3) : writer.publish_mixed();
    ++published;
    near.store(writer->position(), std::memory_order_relaxed);
    if (!done) {
      arm<NativeAtomics, At::kRoomArm>(lane.bell(1), ++ticket, Silent{});
      writer->announce_wait(1);
      writer->end_wait();
      disarm<NativeAtomics, At::kRoomDisarm>(lane.bell(1), ticket);
    }
    if (writer.sleepers() && writer->take_board() != 0) ring<NativeAtomics>(lane.bell(2), Silent{});
    std::size_t place = 0;
    std::uint64_t cursor = 0;
    if (writer->slowest(place, cursor)) {
      ASSERT_LT(place, 12u);
    }
    ASSERT_LE(writer->floor(), writer->position());
    ASSERT_LE(writer->available(), lane.shape().ring_slots);
    ASSERT_LE(writer.free_chunks() + writer->outstanding(), lane.shape().chunks);
  }
  scribbler.join();
  // Once the liars are off the roster everything comes back.
  for (const Seat& seat : seats) lane.unseat(seat);
  writer.reclaim(writer->position());
  EXPECT_EQ(writer.free_chunks(), lane.shape().chunks);
  EXPECT_EQ(writer->outstanding(), 0u);
  auto reader = fresh_reader(lane, false);
  const std::uint64_t before = writer->position();
  (*reader)->join(Start::kNext);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(writer.publish_mixed());
  const Drained drained = drain(*reader);
  EXPECT_EQ(drained.taken, 5u);
  EXPECT_EQ(drained.torn, 0u);
  EXPECT_EQ((*reader)->cursor(), before + 5);
}

}  // namespace
}  // namespace holdfast::shm
