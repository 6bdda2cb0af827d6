// SPDX-License-Identifier: MIT
//
// Checks of flag values whose help fits a line: the message names the bounds, the help does not.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

namespace holdfast::cli {

template <class T>
CLI::Validator within(T least, T most) {
  return CLI::Range(least, most).description("");
}

inline CLI::Validator one_of(std::vector<std::string> names) { return CLI::IsMember(std::move(names)).description(""); }

}  // namespace holdfast::cli
