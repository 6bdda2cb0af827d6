// SPDX-License-Identifier: MIT
#include "tests/soak/jobs.hpp"

#include <ctime>

#include "tests/crash/sample.hpp"

namespace holdfast::soak {

Client connect(const Board& board, const char* name) {
  ClientOptions options;
  options.socket = board->socket;
  options.name = name;
  options.timeout = kPatience;
  return Client::connect_or_throw(options);
}

PublisherOptions load_options() {
  PublisherOptions options;
  options.ring_slots = 64;
  options.linger = std::chrono::milliseconds(1);
  options.stall_timeout = kForever;
  return options;
}

bool publish_one(const Board& board, Tally& tally, Publisher& publisher, std::uint32_t writer, std::uint64_t position,
                 std::uint64_t bytes) {
  auto loan = publisher.loan(bytes, 0, kPatience);
  if (!loan) return tally.failed("loan: " + loan.error().sentence), false;
  crash::write_sample(loan->data(), loan->bytes(), writer, position);
  Feed* const feed = board.feed(writer);
  if (feed != nullptr) feed->intended = position + 1;
  auto published = loan->publish(kPatience);
  if (!published) return tally.failed("publish: " + published.error().sentence), false;
  if (*published != Status::kOk) return tally.failed("publish: no room for a sample before the deadline"), false;
  if (feed != nullptr) feed->published = position + 1;
  return true;
}

void pause(std::uint32_t us) {
  const timespec time{us / 1'000'000, us % 1'000'000 * 1'000};
  ::clock_nanosleep(CLOCK_MONOTONIC, 0, &time, nullptr);
}

}  // namespace holdfast::soak
