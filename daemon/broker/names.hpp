// SPDX-License-Identifier: MIT
//
// Names of topics and instances.
#pragma once

#include <string_view>

namespace holdfast::broker {

// 1–255 bytes, segments of [A-Za-z0-9_.-] separated by '/', none empty.
bool is_topic_name(std::string_view name);

// 1–32 bytes of [A-Za-z0-9_-]: no dot, so that no instance's files look like those of another.
bool is_instance_name(std::string_view name);

}  // namespace holdfast::broker
