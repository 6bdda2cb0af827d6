// SPDX-License-Identifier: MIT
//
// What fork() does to a client: nothing of it works in the child. Mappings are not inherited (MADV_DONTFORK), handles
// compare the process's fork count with the one they were made under, and the child closes the inherited socket and
// session descriptor at once, so that the broker sees the parent's death when the parent dies.
//
// What a child still has to go through, because it may close the handles that it inherited and open some of its own, is
// guarded by one mutex that is locked across fork(): the child finds it free and what it guards whole, whatever other
// threads of the parent were doing.
#pragma once

#include <cstdint>
#include <mutex>

namespace holdfast::client {

// How many forks led from the first process to this one. Changed only in a fresh child, before any other thread runs.
extern std::uint32_t g_fork_count;

// Guards the tables of this process: the descriptors below, which handles belong to which client, which sessions there
// are. The innermost lock: nothing that sleeps, and no other lock, under it.
std::mutex& fork_mutex();

// Descriptors that a forked child closes. -1 is allowed.
void close_in_child(int fd);
void forget_in_child(int fd);

}  // namespace holdfast::client
