// SPDX-License-Identifier: MIT
//
// Which atomics policy the client is built with. Native, unless a test builds the client with its own: crash tests
// compile these sources with a policy that kills the process behind a chosen site.
#pragma once

#if defined(HOLDFAST_POLICY_HEADER)
#include HOLDFAST_POLICY_HEADER
#else
#include "proto/shm/atomics.hpp"
#endif

namespace holdfast::client {

#if defined(HOLDFAST_POLICY)
using Atomics = HOLDFAST_POLICY;
#else
using Atomics = shm::NativeAtomics;
#endif

}  // namespace holdfast::client
