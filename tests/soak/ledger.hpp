// SPDX-License-Identifier: MIT
//
// What one subscriber has taken, lane by lane, against what the publishers say that they have published (board.hpp). The
// subscriber's worker calls it, on its one thread.
//
// 1. Positions of a lane follow each other; what a drop-oldest subscriber was told that it missed counts as taken.
// 2. A lane whose publisher was opened after the subscriber begins at 0.
// 3. When a lane has ended, everything that its publisher had published has been taken.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>

#include "holdfast/holdfast.hpp"
#include "tests/soak/board.hpp"

namespace holdfast::soak {

class Ledger {
 public:
  // The subscriber is open: from now on.
  Ledger(const Board& board, Tally& tally, Topic topic, bool lossless);

  void sample(const View& view);
  void lapped(const View& view);
  void ended(const View& view);
  // For a subscriber that stays to the end: everything there was has been taken. It counts the rest as lost if `settle`.
  bool complete(bool settle = false);

 private:
  struct Lane {
    std::uint32_t writer = 0;  // 0: no sample of it yet
    std::uint64_t next = 0;  // what is missed counts, too
  };

  bool fresh(const Feed& feed) const { return feed.open_begin_ns > ready_ns_; }
  void begin(Lane& lane, std::uint32_t writer, std::uint64_t position);
  void unseen_lane_ended(std::uint32_t session, std::uint64_t missed);
  void expect(std::uint32_t writer, std::uint64_t taken);

  const Board& board_;
  Tally& tally_;
  Topic topic_;
  bool lossless_;
  std::uint64_t ready_ns_;
  std::unordered_map<std::uint32_t, Lane> lanes_;
  std::unordered_map<std::uint32_t, std::uint64_t> taken_;  // by writer
};

}  // namespace holdfast::soak
