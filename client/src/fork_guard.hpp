// SPDX-License-Identifier: MIT
//
// What fork() does to a client: nothing of it works in the child. Mappings are not inherited (MADV_DONTFORK), handles
// compare the process's fork count with the one they were made under, and the child closes the inherited socket and
// session descriptor at once, so that the broker sees the parent's death when the parent dies.
#pragma once

#include <cstdint>

namespace holdfast::client {

// How many forks led from the first process to this one. Changed only in a fresh child, before any other thread runs.
extern std::uint32_t g_fork_count;

// Descriptors that a forked child closes. -1 is allowed.
void close_in_child(int fd);
void forget_in_child(int fd);

}  // namespace holdfast::client
