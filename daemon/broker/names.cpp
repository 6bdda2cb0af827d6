// SPDX-License-Identifier: MIT
#include "daemon/broker/names.hpp"

#include <algorithm>
#include <cstddef>

#include "daemon/broker/limits.hpp"

namespace holdfast::broker {

namespace {

bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

}  // namespace

bool is_topic_name(std::string_view name) {
  if (name.empty() || name.size() > kTopicNameBytesMax) return false;
  char before = '/';
  for (const char c : name) {
    if (c == '/' ? before == '/' : !is_word(c) && c != '.') return false;
    before = c;
  }
  return before != '/';
}

bool is_instance_name(std::string_view name) {
  constexpr std::size_t kBytesMax = 32;
  return !name.empty() && name.size() <= kBytesMax && std::all_of(name.begin(), name.end(), is_word);
}

}  // namespace holdfast::broker
