// SPDX-License-Identifier: MIT
//
// Options of the C ABI to and from the control protocol.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include <nlohmann/json.hpp>

#include "client/include/holdfast/holdfast.h"

namespace holdfast::client {

// Copies an option struct of the caller, which may be of an older or a newer library: what the caller's struct does not
// have stays 0, what ours does not have must not be asked for.
template <class Options>
[[nodiscard]] int copy_options(const Options* given, const char* name, Options& options);

[[nodiscard]] int encode_options(const hf_publisher_options& options, nlohmann::json& params);
[[nodiscard]] int encode_options(const hf_subscriber_options& options, nlohmann::json& params);
[[nodiscard]] int encode_type(const hf_type& type, nlohmann::json& encoded);

int decode_clock(const std::string& clock);
std::int64_t decode_stall_timeout_ns(const nlohmann::json& topic);

// ---------------------------------------------------------------------------------------------------------------------

[[nodiscard]] int bad_struct_size(const char* name, std::size_t given, std::size_t known);

template <class Options>
int copy_options(const Options* given, const char* name, Options& options) {
  options = Options{};
  if (given == nullptr) return HF_OK;
  if (given->struct_size < sizeof(std::size_t) || given->struct_size > 4096)
    return bad_struct_size(name, given->struct_size, sizeof(Options));
  const auto* bytes = reinterpret_cast<const unsigned char*>(given);
  for (std::size_t i = sizeof(Options); i < given->struct_size; ++i)
    if (bytes[i] != 0) return bad_struct_size(name, given->struct_size, sizeof(Options));
  std::memcpy(&options, given, given->struct_size < sizeof(Options) ? given->struct_size : sizeof(Options));
  options.struct_size = sizeof(Options);
  return HF_OK;
}

}  // namespace holdfast::client
