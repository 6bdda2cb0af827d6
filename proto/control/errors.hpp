// SPDX-License-Identifier: MIT
//
// The failures of the control protocol: one table of code, name and C ABI number. Broker and clients look things up
// here, docs/protocol.md shows it, and tests compare both. Numbers never change.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace holdfast::control {

enum class Failure : std::uint8_t {
  kParse,
  kRequest,
  kMethod,
  kInvalid,
  kDenied,
  kNotFound,
  kExists,
  kMismatch,
  kQuota,
  kNoMemory,
  kBusy,
  kVersion,
  kHello,
  kDraining,
  kSystem,
  kCount,
};

struct ErrorRow {
  Failure failure;
  int code;               // of JSON-RPC
  std::string_view name;  // data.error
  int c_abi;              // HF_E_*, see holdfast.h; a test compares them
};

inline constexpr ErrorRow kErrors[] = {
    {Failure::kParse, -32700, "parse", -16},   {Failure::kRequest, -32600, "request", -16},
    {Failure::kMethod, -32601, "method", -16}, {Failure::kInvalid, -32602, "invalid", -1},
    {Failure::kDenied, -32001, "denied", -3},  {Failure::kNotFound, -32002, "not_found", -7},
    {Failure::kExists, -32003, "exists", -8},  {Failure::kMismatch, -32004, "mismatch", -9},
    {Failure::kQuota, -32005, "quota", -4},    {Failure::kNoMemory, -32006, "no_memory", -5},
    {Failure::kBusy, -32007, "busy", -6},      {Failure::kVersion, -32008, "version", -10},
    {Failure::kHello, -32009, "hello", -16},   {Failure::kDraining, -32010, "draining", -2},
    {Failure::kSystem, -32011, "system", -17},
};

inline constexpr std::size_t kErrorCount = static_cast<std::size_t>(Failure::kCount);
static_assert(sizeof(kErrors) / sizeof(kErrors[0]) == kErrorCount);

constexpr const ErrorRow& error_row(Failure failure) { return kErrors[static_cast<std::size_t>(failure)]; }

// The row of a JSON-RPC code, or nullptr.
constexpr const ErrorRow* find_error(int code) {
  for (const ErrorRow& row : kErrors)
    if (row.code == code) return &row;
  return nullptr;
}

// The row of a name such as "no_memory", or nullptr.
constexpr const ErrorRow* find_error(std::string_view name) {
  for (const ErrorRow& row : kErrors)
    if (row.name == name) return &row;
  return nullptr;
}

namespace detail {
constexpr bool errors_in_order() {
  for (std::size_t i = 0; i < kErrorCount; ++i)
    if (kErrors[i].failure != static_cast<Failure>(i)) return false;
  return true;
}
}  // namespace detail
static_assert(detail::errors_in_order());

}  // namespace holdfast::control
