// SPDX-License-Identifier: MIT
//
// What the processes of a benchmark sleep on where that is not what is measured.
#pragma once

#include <cerrno>
#include <system_error>

#include <semaphore.h>

#include "bench/shared_memory.hpp"

namespace holdfast::bench {

inline void sleep_on(sem_t& semaphore) {
  while (sem_wait(&semaphore) != 0)
    if (errno != EINTR) throw std::system_error(errno, std::generic_category(), "sem_wait");
}

// Begins at 0. Made before the fork, shared by all processes.
class Semaphore {
 public:
  Semaphore() {
    if (sem_init(&*semaphore_, 1, 0) != 0) throw std::system_error(errno, std::generic_category(), "sem_init");
  }
  void post() { sem_post(&*semaphore_); }
  void wait() { sleep_on(*semaphore_); }

 private:
  SharedMemory<sem_t> semaphore_;
};

}  // namespace holdfast::bench
