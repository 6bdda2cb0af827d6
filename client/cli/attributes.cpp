// SPDX-License-Identifier: MIT
#include "client/cli/attributes.hpp"

#include <charconv>
#include <cmath>
#include <cstring>
#include <optional>
#include <string_view>

#include "client/cli/outcome.hpp"
#include "client/cli/text.hpp"

namespace holdfast::cli {

namespace {

constexpr std::uint32_t kBytesMax = 65536;

struct Type {
  std::int32_t kind;
  const char* name;
};
constexpr Type kTypes[] = {
    {HF_BOOL, "bool"},
    {HF_INT, "int"},
    {HF_FLOAT, "float"},
    {HF_STRING, "string"},
    {HF_BYTES, "bytes"},
    {HF_TIMESTAMP, "timestamp"},
    {HF_BOOL_LIST, "bool_list"},
    {HF_INT_LIST, "int_list"},
    {HF_FLOAT_LIST, "float_list"},
    {HF_STRING_LIST, "string_list"},
    {HF_EMPTY_LIST, "empty_list"},
};

template <class T>
std::optional<T> parsed(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// A number that this kind cannot hold: too large, or so small that it would become 0.
bool beyond_range(std::int32_t kind, std::string_view text) {
  const auto beyond = [text](auto value) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc::result_out_of_range && end == text.data() + text.size();
  };
  return kind == HF_FLOAT ? beyond(0.0) : (kind == HF_INT || kind == HF_TIMESTAMP) && beyond(std::int64_t{0});
}

std::optional<std::string> unhexed(std::string_view text) {
  if (text.size() % 2 != 0) return std::nullopt;
  std::string bytes;
  for (std::size_t i = 0; i < text.size(); i += 2) {
    unsigned value = 0;
    const auto [end, error] = std::from_chars(text.data() + i, text.data() + i + 2, value, 16);
    if (error != std::errc() || end != text.data() + i + 2) return std::nullopt;
    bytes.push_back(static_cast<char>(value));
  }
  return bytes;
}

template <class T>
std::string raw(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

// The value's bytes, or nothing if the text is not one of this kind.
std::optional<std::string> encoded(std::int32_t kind, std::string_view text) {
  switch (kind) {
    case HF_BOOL:
      if (text == "true" || text == "1") return std::string(1, '\1');
      if (text == "false" || text == "0") return std::string(1, '\0');
      return std::nullopt;
    case HF_INT:
    case HF_TIMESTAMP:
      if (const auto value = parsed<std::int64_t>(text)) return raw(*value);
      return std::nullopt;
    case HF_FLOAT:
      if (const auto value = parsed<double>(text)) return raw(*value);
      return std::nullopt;
    case HF_STRING:
      return std::string(text);
    case HF_BYTES:
      return unhexed(text);
    default:
      return std::nullopt;
  }
}

std::int32_t guessed(std::string_view text) {
  if (text == "true" || text == "false") return HF_BOOL;
  if (parsed<std::int64_t>(text) || beyond_range(HF_INT, text)) return HF_INT;
  // Words such as "nan" and "infinity" are strings, unless the type says otherwise.
  const bool numeric = text.find_first_not_of("0123456789+-.eE") == std::string_view::npos;
  return numeric && (parsed<double>(text) || beyond_range(HF_FLOAT, text)) ? HF_FLOAT : HF_STRING;
}

[[noreturn]] void wrong(const std::string& given, const std::string& why) {
  throw Failed(Exit::kUsage, "usage", "--attribute " + given + ": " + why);
}

struct Given {
  std::string key;
  std::int32_t kind;
  std::string value;
};

Given split(const std::string& given) {
  const std::size_t equals = given.find('=');
  if (equals == std::string::npos || equals == 0)
    wrong(given, "write key=value or key:type=value, such as exposure:float=0.5");
  std::string key = given.substr(0, equals);
  const std::string text = given.substr(equals + 1);
  std::int32_t kind = 0;
  if (const std::size_t colon = key.rfind(':'); colon != std::string::npos) {
    for (const Type& type : kTypes)
      if (type.kind <= HF_TIMESTAMP && key.substr(colon + 1) == type.name) kind = type.kind;
    if (kind == 0)
      wrong(given, "'" + key.substr(colon + 1) + "' is no type; there are bool, int, float, string, bytes, timestamp");
    key.erase(colon);
  }
  if (kind == 0) kind = guessed(text);
  if (key.empty() || key.size() > 255)
    wrong(given, "a key has 1 to 255 bytes, this one has " + std::to_string(key.size()));
  const auto value = encoded(kind, text);
  if (!value) {
    for (const Type& type : kTypes) {
      if (type.kind != kind) continue;
      if (!beyond_range(kind, text)) wrong(given, "'" + text + "' is no " + type.name);
      wrong(given, "'" + text + "' is out of the range of " + type.name + "; as text it is " + key + ":string=" + text);
    }
  }
  return {key, kind, *value};
}

template <class T>
T load(const void* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

// JSON has no infinities.
nlohmann::json float_json(double value) {
  if (std::isfinite(value)) return value;
  return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
}

nlohmann::json element_json(std::int32_t kind, const char* at) {
  switch (kind) {
    case HF_BOOL:
    case HF_BOOL_LIST:
      return *at != 0;
    case HF_FLOAT:
    case HF_FLOAT_LIST:
      return float_json(load<double>(at));
    default:
      return load<std::int64_t>(at);
  }
}

std::string hex(const char* bytes, std::uint32_t count) {
  std::string digits;
  for (std::uint32_t i = 0; i < count; ++i) {
    digits += "0123456789abcdef"[static_cast<unsigned char>(bytes[i]) >> 4];
    digits += "0123456789abcdef"[static_cast<unsigned char>(bytes[i]) & 15];
  }
  return digits;
}

nlohmann::json list_json(const hf_attribute& attribute) {
  nlohmann::json elements = nlohmann::json::array();
  const auto* at = static_cast<const char*>(attribute.value);
  for (std::uint32_t i = 0; i < attribute.count; ++i) {
    if (attribute.kind == HF_STRING_LIST) {
      const auto bytes = load<std::uint32_t>(at);
      elements.push_back(std::string(at + 4, bytes));
      at += 4 + bytes;
    } else {
      elements.push_back(element_json(attribute.kind, at));
      at += attribute.kind == HF_BOOL_LIST ? 1 : 8;
    }
  }
  return elements;
}

nlohmann::json value_json(const hf_attribute& attribute) {
  const auto* at = static_cast<const char*>(attribute.value);
  if (attribute.kind == HF_STRING) return std::string(at, attribute.value_bytes);
  if (attribute.kind == HF_BYTES) return hex(at, attribute.value_bytes);
  return attribute.kind < HF_BOOL_LIST ? element_json(attribute.kind, at) : list_json(attribute);
}

}  // namespace

std::vector<std::uint8_t> encode_attributes(const std::vector<std::string>& given) {
  std::vector<std::uint8_t> buffer(given.empty() ? 0 : kBytesMax);
  std::uint32_t bytes = 0;
  for (const std::string& each : given) {
    const Given attribute = split(each);
    const int result = hf_attributes_add(buffer.data(), kBytesMax, &bytes, attribute.kind, attribute.key.c_str(),
                                         attribute.value.data(), static_cast<std::uint32_t>(attribute.value.size()));
    if (result == HF_E_TOO_LARGE)
      wrong(each, "the attributes of a sample take at most " + std::to_string(kBytesMax) + " bytes");
    if (result < 0) wrong(each, hf_last_error());
  }
  buffer.resize(bytes);
  return buffer;
}

nlohmann::json attributes_json(const hf_view& view, bool& corrupt) {
  nlohmann::json all = nlohmann::json::object();
  std::uint32_t offset = 0;
  hf_attribute attribute{};
  int result = HF_EMPTY;
  while (view.attribute_bytes > 0 &&
         (result = hf_attributes_next(view.attributes, view.attribute_bytes, &offset, &attribute)) == HF_OK) {
    const char* name = "unknown";
    for (const Type& type : kTypes)
      if (type.kind == attribute.kind) name = type.name;
    all[std::string(attribute.key, attribute.key_bytes)] = {{"type", name}, {"value", value_json(attribute)}};
  }
  corrupt = result < 0;
  return all;
}

std::string attribute_line(const std::string& key, const nlohmann::json& attribute) {
  const std::string value = attribute["value"].dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return "  " + printable(key) + " = " + printable(value) + "  (" + attribute["type"].get<std::string>() + ")\n";
}

}  // namespace holdfast::cli
