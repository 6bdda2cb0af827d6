// SPDX-License-Identifier: MIT
//
// Reading members of a broker's reply without exceptions: absent or of another type gives the default.
#pragma once

#include <cstdint>
#include <string>

#include <nlohmann/json.hpp>

namespace holdfast::client {

inline std::uint64_t number(const nlohmann::json& object, const char* key, std::uint64_t otherwise = 0) {
  if (!object.is_object()) return otherwise;
  const auto at = object.find(key);
  return at != object.end() && at->is_number_unsigned() ? at->get<std::uint64_t>() : otherwise;
}

inline std::string text(const nlohmann::json& object, const char* key) {
  if (!object.is_object()) return {};
  const auto at = object.find(key);
  return at != object.end() && at->is_string() ? at->get<std::string>() : std::string();
}

inline bool flag(const nlohmann::json& object, const char* key) {
  if (!object.is_object()) return false;
  const auto at = object.find(key);
  return at != object.end() && at->is_boolean() && at->get<bool>();
}

// The array at `key`, or an empty one.
inline const nlohmann::json& list(const nlohmann::json& object, const char* key) {
  static const nlohmann::json kNone = nlohmann::json::array();
  if (!object.is_object()) return kNone;
  const auto at = object.find(key);
  return at != object.end() && at->is_array() ? *at : kNone;
}

}  // namespace holdfast::client
