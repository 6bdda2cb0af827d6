// SPDX-License-Identifier: MIT
//
// Numbers and names for people. No state, any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace holdfast::cli {

// What a terminal may be given: control characters and bytes that are not UTF-8 become '?'. Names of processes and
// topics come from other programs.
std::string printable(std::string_view text);

// Columns of printable text: one for each code point.
std::size_t columns_of(std::string_view text);

// At most `columns` wide: "…" in place of the middle, so that both ends of a name stay.
std::string shortened(const std::string& text, std::size_t columns);

std::string human_bytes(std::uint64_t bytes);      // 512 B, 4.0 KiB, 1.2 GiB
std::string human_count(double count);             // 0.4, 12, 9999, 12.3 k, 4.5 M
std::string human_age(std::uint64_t milliseconds); // 35 ms, 1.2 s, 12 s, 3 min, 2 h, 5 d
std::string human_ns(std::int64_t nanoseconds);    // 950 ns, 12.4 µs, 1.3 ms

// Lines of at most `columns`, broken between words, joined by a newline and `indent` blanks. 0 columns: as it is.
std::string wrapped(const std::string& text, std::size_t indent, std::size_t columns);

// "1 topic", "2 topics".
std::string counted(std::uint64_t count, const char* thing);

}  // namespace holdfast::cli
