// SPDX-License-Identifier: MIT
//
// Sleeping until one of several subscribers has something to take (row 8). Any number of threads of a process may wait
// at once, each with subscribers of its own.
#pragma once

#include <cstddef>
#include <cstdint>

#include "client/include/holdfast/holdfast.h"

namespace holdfast::client {

// HF_OK and the index of one that is ready, HF_TIMEOUT, or a failure. All subscribers must be of one client.
[[nodiscard]] int wait_for_any(hf_subscriber* const* subscribers, std::size_t count, std::int64_t timeout_ns,
                               std::size_t& ready);

}  // namespace holdfast::client
