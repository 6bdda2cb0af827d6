// SPDX-License-Identifier: MIT
//
// Which atomics policy the broker writes shared memory with. Native, unless a test builds segments.cpp with its own:
// crash tests use one that kills the process behind a chosen site.
#pragma once

#if defined(HOLDFAST_POLICY_HEADER)
#include HOLDFAST_POLICY_HEADER
#else
#include "proto/shm/atomics.hpp"
#endif

namespace holdfast::daemon {

#if defined(HOLDFAST_POLICY)
using Atomics = HOLDFAST_POLICY;
#else
using Atomics = shm::NativeAtomics;
#endif

}  // namespace holdfast::daemon
