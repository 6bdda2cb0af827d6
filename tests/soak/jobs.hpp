// SPDX-License-Identifier: MIT
//
// What the jobs of workers share: how they connect, what their topics are like, one sample.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "holdfast/holdfast.hpp"
#include "tests/soak/board.hpp"

namespace holdfast::soak {

// Longer than any process is stopped: only a fault reaches it.
inline constexpr std::chrono::seconds kPatience{180};
// How soon a worker hears that the phase has changed. No time of the library's, so that a gap tells whose it is.
inline constexpr std::chrono::milliseconds kLookAgain{2'000};

Client connect(const Board& board, const char* name);

// A lane ends for good once it is drained. Nobody is turned: what stalls shall be seen as a stall.
PublisherOptions load_options();

// Publishes sample `position` of `writer` and says so on its feed. False: it failed, and the tally knows.
bool publish_one(const Board& board, Tally& tally, Publisher& publisher, std::uint32_t writer, std::uint64_t position,
                 std::uint64_t bytes);

// Sleeps.
void pause(std::uint32_t us);

inline bool running(const Board& board) { return board->phase == Phase::kRun; }

}  // namespace holdfast::soak
