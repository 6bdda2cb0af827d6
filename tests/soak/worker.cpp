// SPDX-License-Identifier: MIT
#include "tests/soak/worker.hpp"

#include <csignal>
#include <exception>

#include <fcntl.h>

namespace holdfast::soak {

int run_worker(std::size_t index) {
  ::fcntl(kBoardFd, F_SETFD, FD_CLOEXEC);
  const Board board(kBoardFd);
  Tally tally(board.seat(index));
  try {
    switch (tally.seat().spec.job) {
      case Job::kPublish:
        publish(board, tally);
        break;
      case Job::kSubscribe:
        subscribe(board, tally);
        break;
      case Job::kOpen:
        open_and_close(board, tally);
        break;
      case Job::kIdle:
        idle(board, tally);
        break;
      case Job::kWait:
        only_wait(board, tally);
        break;
      case Job::kStep:
        step(board, tally);
        break;
    }
  } catch (const std::exception& error) {
    tally.failed(error.what());
  }
  tally.seat().state = SeatState::kEnded;
  return tally.seat().failed != 0 ? 1 : 0;
}

}  // namespace holdfast::soak
