// SPDX-License-Identifier: MIT
//
// The numbers of the control protocol.
//
// HOLDFAST_NEXT imagines releases to come, so that upgrades and downgrades are tested before there are any:
//   1: the next one. It knows the version of each client's library: one more member of `hello`, method and registry column.
//   2: one after that, which speaks protocol 1 no more.
// Sources that include this file, or say HOLDFAST_NEXT, are compiled once more for those (cmake/next.cmake). Headers may
// not include it: then all would be.
#pragma once

#include <cstdint>

#ifndef HOLDFAST_NEXT
#define HOLDFAST_NEXT 0
#endif

namespace holdfast::control {

// Constants of one build, so not `inline`: those of two builds are two.
constexpr bool kNext = HOLDFAST_NEXT > 0;
constexpr std::uint64_t kProtocolVersion = kNext ? 2 : 1;  // the newest that we speak
constexpr std::uint64_t kProtocolOldest = HOLDFAST_NEXT > 1 ? 2 : 1;  // and the oldest
constexpr std::uint64_t kProtocolOfLibrary = 2;  // the first that has `session.library`

}  // namespace holdfast::control
