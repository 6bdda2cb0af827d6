// SPDX-License-Identifier: MIT
//
// What `holdfast doctor` looks at on this machine, without a broker. Each check says what it found and, unless it passed,
// what to do. Main thread.
#pragma once

#include <string>
#include <vector>

namespace holdfast::cli {

enum class Verdict { kPass, kWarn, kFail };

struct Check {
  const char* name;
  Verdict verdict;
  std::string found;
  std::string fix;  // empty if it passed
};

std::vector<Check> check_environment();

}  // namespace holdfast::cli
