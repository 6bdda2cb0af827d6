// SPDX-License-Identifier: MIT
#include "tests/soak/ledger.hpp"

#include <algorithm>

#include "tests/crash/sample.hpp"

namespace holdfast::soak {

namespace {

// How far back a lane that ended without a sample is looked for.
constexpr std::uint32_t kRecentWriters = 1024;

std::string of(std::uint32_t writer, std::uint64_t position) {
  return " (writer " + std::to_string(writer) + ", position " + std::to_string(position) + ")";
}

}  // namespace

Ledger::Ledger(const Board& board, Tally& tally, Topic topic, bool lossless)
    : board_(board),
      tally_(tally),
      topic_(topic),
      lossless_(lossless),
      ready_ns_(now_ns()) {}

void Ledger::begin(Lane& lane, std::uint32_t writer, std::uint64_t position) {
  lane.writer = writer;
  const Feed* const feed = board_.feed(writer);
  if (feed == nullptr || !fresh(*feed)) lane.next = position;
}

void Ledger::sample(const View& view) {
  crash::SampleHeader header{};
  if (!crash::read_sample(view.data(), view.bytes(), header) || header.position != view.position())
    return tally_.torn("a sample does not match its checksum" + of(view.publisher(), view.position()));
  tally_.sample();
  Lane& lane = lanes_[view.lane()];
  if (lane.writer == 0) begin(lane, header.writer, header.position);
  if (lane.writer != header.writer)
    tally_.torn("a sample is in another one's lane" + of(header.writer, header.position));
  if (header.position < lane.next)
    tally_.duplicated("a sample came twice or too late" + of(header.writer, header.position));
  if (header.position > lane.next)
    tally_.lost(header.position - lane.next,
                "samples were left out before this one" + of(header.writer, header.position));
  lane.next = header.position + 1;
  taken_[lane.writer] = lane.next;
}

void Ledger::lapped(const View& view) {
  Lane& lane = lanes_[view.lane()];
  lane.next += view.missed();
  if (lane.writer != 0) taken_[lane.writer] = lane.next;
  if (lossless_)
    tally_.lost(view.missed(),
                std::string(view.turned() ? "a lossless subscriber was turned" : "a lossless one lapped") +
                    of(lane.writer, lane.next));
}

void Ledger::ended(const View& view) {
  const auto found = lanes_.find(view.lane());
  const Lane lane = found != lanes_.end() ? found->second : Lane{};
  if (lane.writer == 0)
    unseen_lane_ended(view.publisher(), lane.next);
  else
    expect(lane.writer, lane.next);
  if (found != lanes_.end()) lanes_.erase(found);
}

void Ledger::expect(std::uint32_t writer, std::uint64_t taken) {
  const Feed* const feed = board_.feed(writer);
  if (feed == nullptr) return;
  const std::uint64_t published = feed->published;
  if (taken < published) tally_.lost(published - taken, "a lane ended too early" + of(writer, taken));
  if (taken > feed->intended) tally_.torn("more samples than were published" + of(writer, taken));
  taken_[writer] = std::max(taken, published);
}

// A session with one publisher: the lane must be that one's.
void Ledger::unseen_lane_ended(std::uint32_t session, std::uint64_t missed) {
  const std::uint32_t end = board_->writers;
  const std::uint32_t first = end > kRecentWriters ? end - kRecentWriters : 1;
  for (std::uint32_t writer = first; writer < end; ++writer) {
    const Feed* const feed = board_.feed(writer);
    if (feed == nullptr || feed->session != session || feed->only == 0 || feed->topic != topic_) continue;
    if (fresh(*feed) && !taken_.contains(writer)) expect(writer, missed);
    return;
  }
}

bool Ledger::complete(bool settle) {
  bool all = true;
  for (std::uint32_t writer = 1; writer < board_->writers; ++writer) {
    const Feed* const feed = board_.feed(writer);
    if (feed == nullptr || feed->topic != topic_) continue;
    const auto found = taken_.find(writer);
    if (found == taken_.end() && !fresh(*feed)) continue;
    const std::uint64_t taken = found == taken_.end() ? 0 : found->second;
    if (taken >= feed->published) continue;
    // What a drop-oldest subscriber missed of a lane that it has no sample of is nobody's yet.
    if (!lossless_ && found == taken_.end()) continue;
    all = false;
    if (settle) tally_.lost(feed->published - taken, "samples never came" + of(writer, taken));
  }
  return all;
}

}  // namespace holdfast::soak
