// SPDX-License-Identifier: MIT
//
// Reads the members of a request's `params`, checks type and range, and remembers the first thing that is wrong.
// Requires: the JSON outlives it. A nested object is read by another Params, which reports to the same place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "daemon/broker/refusal.hpp"

namespace holdfast::broker {

class Params {
 public:
  // `params`: an object. `prefix`: the path of a nested object, with its dot.
  Params(const nlohmann::json& params, std::optional<Refusal>& refusal, std::string prefix = "")
      : params_(params),
        refusal_(refusal),
        prefix_(std::move(prefix)) {}

  // From now on members that nobody asks for are nobody's mistake: a newer client sends them.
  void tolerate() { tolerant_ = true; }

  // Each gives nothing where the member is absent, null or wrong; wrong is remembered.
  std::optional<std::uint64_t> number(const char* key, std::uint64_t min, std::uint64_t max);
  std::optional<std::int64_t> signed_number(const char* key, std::int64_t min, std::int64_t max);
  std::optional<bool> flag(const char* key);
  std::optional<std::string> text(const char* key, std::size_t bytes_max);
  std::optional<std::size_t> choice(const char* key, std::initializer_list<std::string_view> names);
  std::optional<Params> object(const char* key);
  std::optional<std::vector<std::uint64_t>> numbers(const char* key, std::size_t count_max, std::uint64_t max);

  // The same, and absent is wrong. Gives 0 or "" then.
  std::uint64_t required_number(const char* key, std::uint64_t min, std::uint64_t max);
  std::string required_text(const char* key, std::size_t bytes_max);
  std::size_t required_choice(const char* key, std::initializer_list<std::string_view> names);

  // Remembers that `key` is wrong, unless something was before.
  void refuse(const char* key, const std::string& why);

  // Refuses members that nobody has asked for, unless they are tolerated. Call it last, for each nested object too.
  void finish();

  bool ok() const { return !refusal_.has_value(); }

 private:
  const nlohmann::json* find(const char* key);

  const nlohmann::json& params_;
  std::optional<Refusal>& refusal_;
  std::string prefix_;
  bool tolerant_ = false;
  std::vector<std::string_view> known_;
};

}  // namespace holdfast::broker
