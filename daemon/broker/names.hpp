// SPDX-License-Identifier: MIT
//
// Names of topics.
#pragma once

#include <string_view>

namespace holdfast::broker {

// 1–255 bytes, segments of [A-Za-z0-9_.-] separated by '/', none empty.
bool is_topic_name(std::string_view name);

}  // namespace holdfast::broker
