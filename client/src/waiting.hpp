// SPDX-License-Identifier: MIT
//
// Sleeping until one of several subscribers has something to take (row 8). Any number of threads of a process may wait
// at once, each with subscribers of its own.
#pragma once

#include <cstddef>
#include <cstdint>

#include "client/include/holdfast/holdfast.h"

namespace holdfast::client {

// HF_OK and the index of one that is ready, HF_TIMEOUT, or a failure. All subscribers must be of one client. `spun`: the
// caller has looked for as long as the subscribers spin.
[[nodiscard]] int wait_for_any(hf_subscriber* const* subscribers, std::size_t count, std::int64_t timeout_ns,
                               std::size_t& ready, bool spun = false);

// Between two looks of a spinning thread.
inline void cpu_pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

}  // namespace holdfast::client
