// SPDX-License-Identifier: MIT
//
// What the benchmark programs have in common: their arguments, and how one case is measured.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "bench/cases.hpp"
#include "bench/report.hpp"

namespace holdfast::bench {

struct BenchProgram {
  std::string about;  // what --help says
  std::string each;   // what it calls one thing that it measures: "result"
  // The names of those that --only chooses; all, where `only` is empty.
  std::function<std::vector<std::string>(const std::string& only)> names;
  // Measures them; `json` is empty where no file is asked for.
  std::function<void(const std::string& only, const Circumstances& circumstances, const std::string& json)> measure;
};

// The program's main(). Status 0 if it could measure, whatever came out; 1: it could not; 2: usage.
int run_program(int argc, char** argv, const BenchProgram& program);

// Shows the name on a terminal while it lasts. What goes wrong becomes the outcome's reason.
Outcome run_case(const Case& chosen, const Circumstances& circumstances);

}  // namespace holdfast::bench
