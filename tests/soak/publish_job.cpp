// SPDX-License-Identifier: MIT
//
// A publisher of the load: samples of 24 bytes to 12 KiB, in bursts, each with writer, position and checksum.
#include <random>
#include <vector>

#include "tests/crash/sample.hpp"
#include "tests/soak/jobs.hpp"
#include "tests/soak/worker.hpp"

namespace holdfast::soak {

namespace {

constexpr std::uint64_t kSampleBytesMax = 12 << 10;
constexpr int kChunksMax = 64;  // of a lane with the options of the load

std::uint64_t sample_bytes(const Spec& spec, std::uint64_t position, std::mt19937_64& random) {
  const std::uint64_t draw = random();
  const bool is_inline = spec.alternating != 0 ? position % 2 == 0 : draw % 2 == 0;
  if (is_inline) return crash::kSampleBytesMin;
  return crash::kSampleBytesMin + (draw >> 8) % (kSampleBytesMax - crash::kSampleBytesMin);
}

// Every chunk that the lane may have is there, and holds the largest sample.
void grow(Publisher& publisher) {
  std::vector<Loan> loans;
  for (int i = 0; i < kChunksMax; ++i) {
    auto loan = publisher.loan(kSampleBytesMax, 0, kLook);
    if (!loan) return;
    loans.push_back(*std::move(loan));
  }
}

}  // namespace

void publish(const Board& board, Tally& tally) {
  const Spec spec = tally.seat().spec;
  std::mt19937_64 random(spec.seed);
  Client client = connect(board, "publisher");
  const std::uint32_t writer = board.new_feed(client.session(), true, spec.topic);
  Publisher publisher = client.publisher_or_throw(name_of(spec.topic), load_options());
  if (spec.grown != 0) grow(publisher);
  tally.running(client.session());
  for (std::uint64_t position = 0; running(board); ++position) {
    if (!publish_one(board, tally, publisher, writer, position, sample_bytes(spec, position, random))) return;
    tally.sample();
    if (spec.pause_us != 0 && (position + 1) % spec.burst == 0) pause(spec.pause_us);
  }
}

}  // namespace holdfast::soak
