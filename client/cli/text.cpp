// SPDX-License-Identifier: MIT
#include "client/cli/text.hpp"

#include <algorithm>
#include <cstdio>
#include <iterator>

namespace holdfast::cli {

namespace {

std::string formatted(double value, int decimals, const char* unit) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f%s", decimals, value, unit);
  return text;
}

bool continues(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

// Bytes of the UTF-8 sequence that begins here, 0 if none does.
std::size_t sequence_bytes(std::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  const std::size_t bytes = first < 0x80                     ? 1
                            : first >= 0xc2 && first <= 0xdf ? 2
                            : first >= 0xe0 && first <= 0xef ? 3
                            : first >= 0xf0 && first <= 0xf4 ? 4
                                                             : 0;
  if (bytes == 0 || bytes > text.size()) return 0;
  for (std::size_t i = 1; i < bytes; ++i)
    if (!continues(text[i])) return 0;
  return bytes;
}

bool is_control(std::string_view sequence) {
  const auto first = static_cast<unsigned char>(sequence[0]);
  if (sequence.size() == 1) return first < 0x20 || first == 0x7f;
  return sequence.size() == 2 && first == 0xc2 && static_cast<unsigned char>(sequence[1]) < 0xa0;
}

}  // namespace

std::string printable(std::string_view text) {
  std::string clean;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t bytes = sequence_bytes(text.substr(at));
    const std::string_view sequence = text.substr(at, bytes == 0 ? 1 : bytes);
    if (bytes == 0 || is_control(sequence))
      clean += '?';
    else
      clean += sequence;
    at += sequence.size();
  }
  return clean;
}

std::size_t columns_of(std::string_view text) {
  std::size_t columns = 0;
  for (const char c : text)
    if (!continues(c)) ++columns;
  return columns;
}

std::string shortened(const std::string& text, std::size_t columns) {
  const std::size_t all = columns_of(text);
  if (all <= columns) return text;
  if (columns == 0) return {};
  const std::size_t head = (columns - 1) / 2;
  const std::size_t tail = columns - 1 - head;
  std::string result;
  std::size_t column = 0;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (!continues(text[at])) ++column;
    if (column == head + 1 && !continues(text[at])) result += "…";
    if (column <= head || column > all - tail) result += text[at];
  }
  return result;
}

std::string human_bytes(std::uint64_t bytes) {
  if (bytes < 1024) return std::to_string(bytes) + " B";
  constexpr const char* kUnits[] = {" KiB", " MiB", " GiB", " TiB", " PiB", " EiB"};
  double value = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  while (value >= 1023.95 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  return formatted(value, 1, kUnits[unit]);
}

std::string human_count(double count) {
  if (count == 0) return "0";
  if (count < 9.95) return formatted(count, 1, "");
  if (count < 9999.5) return formatted(count, 0, "");
  constexpr const char* kUnits[] = {" k", " M", " G", " T"};
  double value = count / 1000;
  std::size_t unit = 0;
  while (value >= 999.95 && unit + 1 < std::size(kUnits)) {
    value /= 1000;
    ++unit;
  }
  return formatted(value, 1, kUnits[unit]);
}

std::string human_age(std::uint64_t milliseconds) {
  const double seconds = static_cast<double>(milliseconds) / 1000;
  if (milliseconds < 1000) return std::to_string(milliseconds) + " ms";
  if (seconds < 9.95) return formatted(seconds, 1, " s");
  if (seconds < 119.5) return formatted(seconds, 0, " s");
  if (seconds < 120 * 60) return formatted(seconds / 60, 0, " min");
  if (seconds < 48 * 3600) return formatted(seconds / 3600, 0, " h");
  return formatted(seconds / 86400, 0, " d");
}

std::string human_ns(std::int64_t nanoseconds) {
  const auto value = static_cast<double>(nanoseconds);
  if (nanoseconds < 1000) return std::to_string(nanoseconds) + " ns";
  if (value < 999.95e3) return formatted(value / 1e3, 1, " µs");
  if (value < 999.95e6) return formatted(value / 1e6, 1, " ms");
  return formatted(value / 1e9, 2, " s");
}

std::string wrapped(const std::string& text, std::size_t indent, std::size_t columns) {
  if (columns == 0) return text;
  std::string result;
  std::size_t column = indent;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    const std::string word = text.substr(at, end - at);
    const std::size_t width = columns_of(word);
    if (column > indent && column + 1 + width > columns) {
      result += "\n" + std::string(indent, ' ');
      column = indent;
    } else if (at != 0) {
      result += ' ';
      ++column;
    }
    result += word;
    column += width;
    at = end + 1;
  }
  return result;
}

std::string counted(std::uint64_t count, const char* thing) {
  return std::to_string(count) + " " + thing + (count == 1 ? "" : "s");
}

}  // namespace holdfast::cli
