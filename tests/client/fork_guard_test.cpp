// SPDX-License-Identifier: MIT
//
// What a forked child finds: a higher fork count, and the registered descriptors closed. The child says so by its exit
// status.
#include "client/src/fork_guard.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

namespace holdfast::client {
namespace {

bool open_here(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

// Runs `check` in a forked child; true if it said so.
template <class Check>
bool holds_in_child(Check&& check) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(check() ? 0 : 1);
  int status = 0;
  return ::waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST(ForkGuard, AChildClosesWhatItInheritedAndTheParentKeepsIt) {
  const int closed = ::eventfd(0, 0);
  const int kept = ::eventfd(0, 0);
  const int forgotten = ::eventfd(0, 0);
  close_in_child(closed);
  close_in_child(forgotten);
  forget_in_child(forgotten);
  close_in_child(-1);
  const std::uint32_t forks = g_fork_count;
  EXPECT_TRUE(holds_in_child(
      [&] { return g_fork_count == forks + 1 && !open_here(closed) && open_here(kept) && open_here(forgotten); }));
  EXPECT_EQ(g_fork_count, forks);
  EXPECT_TRUE(open_here(closed));
  forget_in_child(closed);
  EXPECT_TRUE(holds_in_child([&] { return open_here(closed); }));
  for (const int fd : {closed, kept, forgotten}) ::close(fd);
}

TEST(ForkGuard, AGrandchildCountsTwice) {
  close_in_child(-1);
  const int fd = ::eventfd(0, 0);
  close_in_child(fd);
  const std::uint32_t forks = g_fork_count;
  EXPECT_TRUE(holds_in_child([&] { return holds_in_child([&] { return g_fork_count == forks + 2; }); }));
  forget_in_child(fd);
  ::close(fd);
}

TEST(ForkGuard, ForgettingWhatIsNotKnownChangesNothing) {
  forget_in_child(12345);
  forget_in_child(-1);
}

}  // namespace
}  // namespace holdfast::client
