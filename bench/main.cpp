// SPDX-License-Identifier: MIT
//
// holdfast_bench: measures what the public API adds to what the machine needs anyway. Started by scripts/bench, which
// gives it a broker through HOLDFAST_SOCKET. Status 0 if it could measure, whatever came out; 2: usage.
#include <string>
#include <vector>

#include "bench/cases.hpp"
#include "bench/program.hpp"
#include "bench/report.hpp"

namespace holdfast::bench {
namespace {

std::vector<std::string> names(const std::string& only) {
  std::vector<std::string> names;
  for (const Case& chosen : chosen_cases(only)) names.push_back(chosen.name);
  return names;
}

void measure(const std::string& only, const Circumstances& circumstances, const std::string& json) {
  std::vector<nlohmann::ordered_json> results;
  print_heading();
  for (const Case& chosen : chosen_cases(only)) {
    results.push_back(describe(chosen, run_case(chosen, circumstances), circumstances));
    print_row(results.back());
  }
  print_not_run(results);
  if (!json.empty()) write_json(results, json);
}

}  // namespace
}  // namespace holdfast::bench

int main(int argc, char** argv) {
  using namespace holdfast::bench;
  return run_program(argc, argv,
                     {.about = "Measures Holdfast against the floors of this machine.",
                      .each = "result",
                      .names = names,
                      .measure = measure});
}
