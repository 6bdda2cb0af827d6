// SPDX-License-Identifier: MIT
//
// Attributes as the command line writes them, key=value or key:type=value, and as it shows them. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "holdfast/holdfast.h"

namespace holdfast::cli {

// The encoding of all of them. Without a type: true and false are bool, whole numbers int, other numbers float, the rest
// string. Types: bool, int, float, string, bytes (in hex), timestamp (nanoseconds since 1970). Failed(kUsage) names the one
// that is wrong.
std::vector<std::uint8_t> encode_attributes(const std::vector<std::string>& given);

// {"key": {"type": "int", "value": 42}, …}. Bytes are in hex. Attributes that make no sense end the list: then "corrupt"
// is set.
nlohmann::json attributes_json(const hf_view& view, bool& corrupt);

// One line for people: key = value.
std::string attribute_line(const std::string& key, const nlohmann::json& attribute);

}  // namespace holdfast::cli
