// SPDX-License-Identifier: MIT
//
// Checks of flag values whose help fits a line: the message names the bounds, the help does not. CLI11 puts the flag's name
// before it.
#pragma once

#include <cstdio>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

namespace holdfast::cli {

inline std::string bound_text(double bound) {
  char text[32];
  std::snprintf(text, sizeof text, "%.12g", bound);
  return text;
}

// A number from `least` to `most`. CLI11's own check lets NaN pass, for which no comparison is true.
template <class T>
CLI::Validator within(T least, T most) {
  return CLI::Validator(
      [least, most](const std::string& text) -> std::string {
        T value{};
        if (CLI::detail::lexical_cast(text, value) && value >= least && value <= most) return "";
        if constexpr (std::is_integral_v<T>)
          return "'" + text + "' is no whole number from " + std::to_string(least) + " to " + std::to_string(most);
        else
          return "'" + text + "' is no number from " + bound_text(least) + " to " + bound_text(most);
      },
      "");
}

inline CLI::Validator one_of(std::vector<std::string> names) { return CLI::IsMember(std::move(names)).description(""); }

}  // namespace holdfast::cli
