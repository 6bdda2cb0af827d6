// SPDX-License-Identifier: MIT
#include "daemon/broker/params.hpp"

#include <algorithm>

namespace holdfast::broker {

namespace {

constexpr std::size_t kShownBytesMax = 64;

template <class T>
std::string range(T min, T max) {
  return "a whole number from " + std::to_string(min) + " to " + std::to_string(max);
}

std::string one_of(std::initializer_list<std::string_view> names) {
  std::string text = "one of";
  for (const std::string_view name : names) text += (text.size() == 6 ? " \"" : ", \"") + std::string(name) + "\"";
  return text;
}

// The value of a whole number that is not negative.
std::optional<std::uint64_t> whole(const nlohmann::json& value) {
  if (value.is_number_unsigned()) return value.get<std::uint64_t>();
  if (value.is_number_integer() && value.get<std::int64_t>() >= 0)
    return static_cast<std::uint64_t>(value.get<std::int64_t>());
  return std::nullopt;
}

}  // namespace

const nlohmann::json* Params::find(const char* key) {
  known_.emplace_back(key);
  const auto at = params_.find(key);
  return at == params_.end() || at->is_null() ? nullptr : &*at;
}

void Params::refuse(const char* key, const std::string& why) {
  if (refusal_) return;
  const std::string name = prefix_ + key;
  refusal_.emplace(control::Failure::kInvalid, "parameter \"" + name + "\" " + why,
                   nlohmann::json{{"parameter", name}});
}

std::optional<std::uint64_t> Params::number(const char* key, std::uint64_t min, std::uint64_t max) {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto given = whole(*value); given && *given >= min && *given <= max) return given;
  refuse(key, "must be " + range(min, max));
  return std::nullopt;
}

std::optional<std::int64_t> Params::signed_number(const char* key, std::int64_t min, std::int64_t max) {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return std::nullopt;
  const bool fits = value->is_number_integer() &&
                    (!value->is_number_unsigned() || value->get<std::uint64_t>() <= std::uint64_t{INT64_MAX});
  if (fits) {
    const auto given = value->get<std::int64_t>();
    if (given >= min && given <= max) return given;
  }
  refuse(key, "must be " + range(min, max));
  return std::nullopt;
}

std::optional<bool> Params::flag(const char* key) {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_boolean()) return value->get<bool>();
  refuse(key, "must be true or false");
  return std::nullopt;
}

std::optional<std::string> Params::text(const char* key, std::size_t bytes_max) {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) {
    const auto& given = value->get_ref<const std::string&>();
    if (given.size() <= bytes_max) return given;
  }
  refuse(key, "must be a text of at most " + std::to_string(bytes_max) + " bytes");
  return std::nullopt;
}

std::optional<std::size_t> Params::choice(const char* key, std::initializer_list<std::string_view> names) {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) {
    const auto found = std::find(names.begin(), names.end(), value->get_ref<const std::string&>());
    if (found != names.end()) return static_cast<std::size_t>(found - names.begin());
  }
  refuse(key, "must be " + one_of(names));
  return std::nullopt;
}

std::optional<Params> Params::object(const char* key) {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_object()) {
    Params nested(*value, refusal_, prefix_ + key + ".");
    nested.tolerant_ = tolerant_;
    return nested;
  }
  refuse(key, "must be an object");
  return std::nullopt;
}

std::optional<std::vector<std::uint64_t>> Params::numbers(const char* key, std::size_t count_max, std::uint64_t max) {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return std::nullopt;
  const auto sound = [max](const nlohmann::json& element) {
    const auto given = whole(element);
    return given && *given <= max;
  };
  if (value->is_array() && value->size() <= count_max && std::all_of(value->begin(), value->end(), sound)) {
    std::vector<std::uint64_t> list;
    for (const nlohmann::json& element : *value) list.push_back(element.get<std::uint64_t>());
    return list;
  }
  refuse(key,
         "must be a list of at most " + std::to_string(count_max) + " whole numbers from 0 to " + std::to_string(max));
  return std::nullopt;
}

std::uint64_t Params::required_number(const char* key, std::uint64_t min, std::uint64_t max) {
  const auto given = number(key, min, max);
  if (!given) refuse(key, "is missing: " + range(min, max));
  return given.value_or(0);
}

std::string Params::required_text(const char* key, std::size_t bytes_max) {
  const auto given = text(key, bytes_max);
  if (!given) refuse(key, "is missing: a text of at most " + std::to_string(bytes_max) + " bytes");
  return given.value_or(std::string());
}

std::size_t Params::required_choice(const char* key, std::initializer_list<std::string_view> names) {
  const auto given = choice(key, names);
  if (!given) refuse(key, "is missing: " + one_of(names));
  return given.value_or(0);
}

void Params::finish() {
  if (tolerant_) return;
  for (const auto& member : params_.items()) {
    if (std::find(known_.begin(), known_.end(), member.key()) != known_.end()) continue;
    // The peer chose its length: what is shown of it fits a reply.
    refuse(member.key().substr(0, kShownBytesMax).c_str(), "is not known here");
    return;
  }
}

}  // namespace holdfast::broker
