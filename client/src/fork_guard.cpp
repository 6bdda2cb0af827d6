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

// Locked across fork(), so that the child finds the list whole.
std::mutex g_mutex;
std::vector<int>& descriptors() {
  static auto* list = new std::vector<int>;  // outlives every static object that may close a client at exit
  return *list;
}

void before_fork() { g_mutex.lock(); }
void in_parent() { g_mutex.unlock(); }
void in_child() {
  ++g_fork_count;
  for (const int fd : descriptors()) ::close(fd);
  descriptors().clear();
  g_mutex.unlock();
}

void register_handlers() {
  static const int registered = pthread_atfork(before_fork, in_parent, in_child);
  (void)registered;
}

}  // namespace

void close_in_child(int fd) {
  if (fd < 0) return;
  register_handlers();
  const std::lock_guard lock(g_mutex);
  descriptors().push_back(fd);
}

void forget_in_child(int fd) {
  const std::lock_guard lock(g_mutex);
  std::erase(descriptors(), fd);
}

}  // namespace holdfast::client
