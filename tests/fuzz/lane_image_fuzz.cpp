// SPDX-License-Identifier: MIT
//
// Any bytes as a lane: a reader joins, takes, holds, releases and leaves, while the bytes say what the lane holds and
// what is written over it in between. Every answer is one of the known ones, the cursor never goes back, every payload
// lies within the valid size, and a pin is set exactly as long as a view is held.
//
// Input: 1 byte for the kind of reader, 1 byte number of steps, the steps, then the lane: head, floor, state and waits,
// and the slots, 8 bytes little endian each; what is missing is 0. A step that writes takes 10 bytes from behind.
#include <cstdint>
#include <cstring>
#include <deque>
#include <span>

#include "tests/proto/shm/lane_fixture.hpp"

using namespace holdfast::shm;

namespace {

void require(bool holds) {
  if (!holds) __builtin_trap();
}

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : left_(data, size) {}
  std::uint64_t integer(std::size_t bytes) {
    std::uint64_t value = 0;
    const std::size_t given = std::min(bytes, left_.size());
    std::memcpy(&value, left_.data(), given);
    left_ = left_.subspan(given);
    return value;
  }
  std::uint8_t byte() { return static_cast<std::uint8_t>(integer(1)); }
  Input split(std::size_t bytes) {
    const std::size_t given = std::min(bytes, left_.size());
    const Input first(left_.data(), given);
    left_ = left_.subspan(given);
    return first;
  }
  bool empty() const { return left_.empty(); }

 private:
  std::span<const std::uint8_t> left_;
};

class LaneImage {
 public:
  LaneImage(std::uint8_t kind, Input input)
      : lossless_((kind & 1) != 0),
        lane_({.ring_slots = (kind & 2) != 0 ? 16u : 8u, .chunks = 4, .chunk_bytes = 128, .chunks_reserve = 256}),
        seat_(lane_.seat(lossless_ ? kEntryLossless : 0, 0)),
        reader_(lane_, seat_, lossless_),
        image_(input) {
    for (std::uint64_t* word :
         {&lane_.header().head, &lane_.header().floor, &lane_.header().state, &lane_.header().waits})
      *word = image_.integer(8);
    auto* words = reinterpret_cast<std::uint64_t*>(lane_.ring());
    for (std::uint32_t i = 0; i < lane_.shape().ring_slots * 8 && !image_.empty(); ++i) words[i] = image_.integer(8);
    if (const unsigned start = kind >> 2 & 3; start == 3)
      reader_->join_fresh();
    else
      reader_->join(static_cast<Start>(start));
  }

  void step(std::uint8_t step) {
    const std::uint64_t before = reader_->cursor();
    switch (step % 8) {
      case 0:
        take_one();
        break;
      case 1:
        take_batch(1 + step / 8 % 20);
        break;
      case 2:
        (void)reader_->ready();
        require(reader_->writer_waits() == lane_.header().waits);
        break;
      case 3:
        if (!views_.empty()) release();
        break;
      case 4:
        if (lane_.shape().chunks_reserve > 0) lane_.grow(1);
        break;
      case 5:
        lane_.turn(seat_);
        break;
      default: {
        const std::uint64_t words = (kPage + lane_.shape().ring_slots * sizeof(Slot)) / 8;
        const std::uint64_t at = image_.integer(2) % words;
        reinterpret_cast<std::uint64_t*>(lane_.segment().at(0))[at] = image_.integer(8);
        break;
      }
    }
    require(reader_->cursor() >= before);
    require(reader_->cursor() <= kPositionMax + 10'000);
  }

  void leave() {
    while (!views_.empty()) release();
    require(reader_.pins() == 0);
    reader_->leave();
    require(lane_.record(seat_).cursor == kCursorNone);
  }

 private:
  void take_one() {
    Taken taken;
    const Take result = reader_->take(taken);
    check(result);
    if (result == Take::kSample) hold(taken);
  }

  void take_batch(std::size_t most) {
    Taken taken[20];
    std::size_t count = 0;
    const Take result = reader_->take_batch(std::span(taken, most), count);
    check(result);
    require(count <= most && (result == Take::kSample) == (count > 0));
    for (std::size_t i = 0; i < count; ++i) hold(taken[i]);
  }

  static void check(Take result) {
    require(result == Take::kSample || result == Take::kEmpty || result == Take::kLapped || result == Take::kFinished ||
            result == Take::kAborted || result == Take::kCorrupt);
  }

  void hold(const Taken& taken) {
    if (taken.chunk == kNoChunk) {
      require(taken.payload_bytes <= kInlineBytesMax && taken.attribute_bytes == 0);
      return;
    }
    require(taken.chunk < lane_.shape().chunks_max && reader_.pin(taken.chunk) == 1);
    require(taken.offset % kPayloadAlign == 0 && taken.offset >= lane_.chunk_offset(0));
    const std::uint64_t end = taken.offset + attributes_offset(taken.payload_bytes) + taken.attribute_bytes;
    require(end <= lane_.chunk_offset(lane_.shape().chunks));
    if (end > taken.offset) sum_ += *lane_.segment().at(taken.offset) + *lane_.segment().at(end - 1);
    views_.push_back(taken.chunk);
  }

  void release() {
    reader_->release(views_.front());
    views_.pop_front();
  }

  bool lossless_;
  TestLane lane_;
  Seat seat_;
  TestReader<> reader_;
  Input image_;
  std::deque<std::uint32_t> views_;
  std::uint64_t sum_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  const std::uint8_t kind = input.byte();
  const std::size_t count = input.byte();
  Input steps = input.split(count);
  LaneImage image(kind, input);
  while (!steps.empty()) image.step(steps.byte());
  image.leave();
  return 0;
}
