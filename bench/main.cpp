// SPDX-License-Identifier: MIT
//
// holdfast_bench: measures what the public API adds to what the machine needs anyway. Started by scripts/bench, which
// gives it a broker through HOLDFAST_SOCKET. Status 0 if it could measure, whatever came out; 2: usage.
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include <unistd.h>

#include <CLI/CLI.hpp>

#include "bench/cases.hpp"
#include "bench/pair.hpp"
#include "bench/pinning.hpp"
#include "bench/report.hpp"

namespace holdfast::bench {
namespace {

Outcome run_case(const Case& chosen, const Circumstances& circumstances) {
  Outcome outcome;
  try {
    if (chosen.count) {
      outcome.count = chosen.count();
    } else if (circumstances.cpus && chosen.pairs) {
      outcome.pairs = chosen.pairs(*circumstances.cpus);
    } else if (circumstances.cpus) {
      const auto floor = chosen.floor();
      const auto measured = chosen.measured();
      outcome.pairs = run_pairs(*floor, *measured, chosen.options, *circumstances.cpus);
    } else {
      outcome.pairs.reason = "two CPUs are needed, and this process may use one";
    }
  } catch (const std::exception& error) {
    outcome.pairs.reason = error.what();
  }
  return outcome;
}

int measure(const std::vector<Case>& cases, const Circumstances& circumstances, const std::string& json) {
  std::vector<nlohmann::ordered_json> results;
  const bool progress = isatty(STDERR_FILENO) != 0;
  print_heading();
  for (const Case& chosen : cases) {
    if (progress) std::fprintf(stderr, "%s ...", chosen.name.c_str());
    results.push_back(describe(chosen, run_case(chosen, circumstances), circumstances));
    if (progress) std::fprintf(stderr, "\r\033[K");
    print_row(results.back());
  }
  print_not_run(results);
  if (!json.empty()) write_json(results, json);
  return 0;
}

int run(int argc, char** argv) {
  std::string only;
  std::string json;
  bool list = false;
  Circumstances circumstances;
  circumstances.commit = "unknown";
  CLI::App app("Measures Holdfast against the floors of this machine.");
  app.add_option("--only", only, "the results of this name, or beginning with it and an underscore");
  app.add_option("--json", json, "write one JSON object per result and line into this file");
  app.add_option("--commit", circumstances.commit, "what to write as the commit");
  app.add_flag("--list", list, "print the names of the results and measure nothing");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  const std::vector<Case> cases = chosen_cases(only);
  if (cases.empty()) {
    std::fprintf(stderr, "bench: no result is named %s; --list names them all\n", only.c_str());
    return 2;
  }
  if (list) {
    for (const Case& chosen : cases) std::puts(chosen.name.c_str());
    return 0;
  }
  circumstances.cpus = choose_cpus();
  return measure(cases, circumstances, json);
}

}  // namespace
}  // namespace holdfast::bench

int main(int argc, char** argv) {
  try {
    return holdfast::bench::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench: %s\n", error.what());
    return 1;
  }
}
