// SPDX-License-Identifier: MIT
//
// Real semaphores and eventfds under the bells, with words that others may have scribbled over.
#include "client/src/sound.hpp"

#include <cstring>

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include "proto/control/descriptor.hpp"
#include "proto/shm/bell.hpp"

namespace holdfast::client {
namespace {

using shm::At;
using shm::NativeAtomics;

TEST(SemaphoreSound, ARungBellWakesOnce) {
  shm::Bell bell{};
  sem_init(&bell.semaphore, 1, 0);
  shm::arm<NativeAtomics, At::kSleepArm>(bell, 1, SemaphoreSound{});
  shm::ring<NativeAtomics>(bell, SemaphoreSound{});
  shm::ring<NativeAtomics>(bell, SemaphoreSound{});
  EXPECT_EQ(sem_trywait(&bell.semaphore), 0);
  EXPECT_NE(sem_trywait(&bell.semaphore), 0);
}

TEST(SemaphoreSound, DrainingIsBoundedWhateverTheCount) {
  shm::Bell bell{};
  sem_init(&bell.semaphore, 1, 0);
  for (int i = 0; i < 200; ++i) SemaphoreSound::post(bell);
  SemaphoreSound::drain(bell);
  EXPECT_NE(sem_trywait(&bell.semaphore), 0);
  SemaphoreSound::drain(bell);
  EXPECT_NE(sem_trywait(&bell.semaphore), 0);
}

TEST(EventSound, ARungBellIsReadableUntilItIsDrained) {
  const Descriptor event(::eventfd(0, EFD_NONBLOCK));
  const EventSound sound{event.get()};
  shm::Bell bell{};
  std::uint64_t tokens = 0;
  shm::arm<NativeAtomics, At::kSleepArm>(bell, 1, sound);
  EXPECT_EQ(::read(event.get(), &tokens, sizeof tokens), -1);
  shm::ring<NativeAtomics>(bell, sound);
  shm::arm<NativeAtomics, At::kSleepArm>(bell, 2, sound);
  EXPECT_EQ(::read(event.get(), &tokens, sizeof tokens), -1);
  shm::ring<NativeAtomics>(bell, sound);
  EXPECT_EQ(::read(event.get(), &tokens, sizeof tokens), static_cast<ssize_t>(sizeof tokens));
  EXPECT_EQ(tokens, 1u);
}

}  // namespace
}  // namespace holdfast::client
