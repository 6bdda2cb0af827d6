// SPDX-License-Identifier: MIT
#include "client/src/fork_guard.hpp"

#include <algorithm>
#include <mutex>
#include <vector>

#include <pthread.h>
#include <unistd.h>

namespace holdfast::client {

std::uint32_t g_fork_count = 0;

namespace {

std::mutex g_mutex;
// Made when the library is loaded, since a fork in the middle of a first use would leave the child waiting for its end.
// Outlives every static object that may close a client at exit.
std::vector<int>& g_descriptors = *new std::vector<int>;

void before_fork() { g_mutex.lock(); }
void in_parent() { g_mutex.unlock(); }
void in_child() {
  ++g_fork_count;
  for (const int fd : g_descriptors) ::close(fd);
  g_descriptors.clear();
  g_mutex.unlock();
}

[[maybe_unused]] const int g_registered = ::pthread_atfork(before_fork, in_parent, in_child);

}  // namespace

std::mutex& fork_mutex() { return g_mutex; }

void close_in_child(int fd) {
  if (fd < 0) return;
  const std::lock_guard lock(g_mutex);
  g_descriptors.push_back(fd);
}

void forget_in_child(int fd) {
  const std::lock_guard lock(g_mutex);
  std::erase(g_descriptors, fd);
}

}  // namespace holdfast::client
