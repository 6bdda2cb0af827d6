// SPDX-License-Identifier: MIT
#include "daemon/broker/names.hpp"

#include "daemon/broker/limits.hpp"
#include "proto/control/names.hpp"

namespace holdfast::broker {

bool is_topic_name(std::string_view name) {
  if (name.empty() || name.size() > kTopicNameBytesMax) return false;
  char before = '/';
  for (const char c : name) {
    if (c == '/' ? before == '/' : !control::is_word(c) && c != '.') return false;
    before = c;
  }
  return before != '/';
}

}  // namespace holdfast::broker
