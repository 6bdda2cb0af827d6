// SPDX-License-Identifier: MIT
//
// What a bell sounds with: a process-shared semaphore, or an eventfd for those who sleep in an event loop.
// Anybody may write a bell segment, so nothing here trusts what it finds: draining is bounded, posting cannot fail.
#pragma once

#include <cstdint>

#include <semaphore.h>
#include <unistd.h>

#include "proto/shm/bells_layout.hpp"

namespace holdfast::client {

struct SemaphoreSound {
  static void post(shm::Bell& bell) { sem_post(&bell.semaphore); }

  static void drain(shm::Bell& bell) {
    constexpr int kTokensMax = 64;
    for (int i = 0; i < kTokensMax; ++i)
      if (sem_trywait(&bell.semaphore) != 0) return;
    // More tokens than honest ringers leave: begin anew.
    sem_init(&bell.semaphore, 1, 0);
  }
};

struct EventSound {
  int fd;

  void post(shm::Bell&) const {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(fd, &one, sizeof one);
  }

  void drain(shm::Bell&) const {
    std::uint64_t tokens = 0;
    [[maybe_unused]] const ssize_t read = ::read(fd, &tokens, sizeof tokens);
  }
};

}  // namespace holdfast::client
