// SPDX-License-Identifier: MIT
//
// What a worker's process does: the job of its seat, until the phase ends it. One thread.
#pragma once

#include "tests/soak/board.hpp"

namespace holdfast::soak {

inline constexpr const char* kIdleTopic = "soak/idle";
inline constexpr const char* kFullTopic = "soak/full";
inline constexpr int kBoardFd = 3;  // in a worker's process

inline const char* name_of(Topic topic) {
  return topic == Topic::kLoad ? "soak/load" : topic == Topic::kBusy ? "soak/busy" : "soak/side";
}

// The status of the process.
int run_worker(std::size_t seat);

// The jobs. They return when the phase says so, or when something has failed.
void publish(const Board& board, Tally& tally);
void subscribe(const Board& board, Tally& tally);
void open_and_close(const Board& board, Tally& tally);
void idle(const Board& board, Tally& tally);
void only_wait(const Board& board, Tally& tally);
void step(const Board& board, Tally& tally);

}  // namespace holdfast::soak
