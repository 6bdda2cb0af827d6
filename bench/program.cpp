// SPDX-License-Identifier: MIT
#include "bench/program.hpp"

#include <cstdio>
#include <exception>

#include <unistd.h>

#include <CLI/CLI.hpp>

#include "bench/pair.hpp"
#include "bench/pinning.hpp"

namespace holdfast::bench {

namespace {

Outcome outcome_of(const Case& chosen, const Circumstances& circumstances) {
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

int parse_and_measure(int argc, char** argv, const BenchProgram& program) {
  std::string only;
  std::string json;
  bool list = false;
  Circumstances circumstances;
  circumstances.commit = "unknown";
  CLI::App app(program.about);
  app.add_option("--only", only, "the " + program.each + "s of this name, or beginning with it and an underscore");
  app.add_option("--json", json, "write one JSON object per " + program.each + " and line into this file");
  app.add_option("--commit", circumstances.commit, "what to write as the commit");
  app.add_flag("--list", list, "print the names of the " + program.each + "s and measure nothing");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  const std::vector<std::string> names = program.names(only);
  if (names.empty()) {
    std::fprintf(stderr, "bench: no %s is named %s; --list names them all\n", program.each.c_str(), only.c_str());
    return 2;
  }
  if (list) {
    for (const std::string& name : names) std::puts(name.c_str());
    return 0;
  }
  circumstances.cpus = choose_cpus();
  program.measure(only, circumstances, json);
  return 0;
}

}  // namespace

int run_program(int argc, char** argv, const BenchProgram& program) {
  try {
    return parse_and_measure(argc, argv, program);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench: %s\n", error.what());
    return 1;
  }
}

Outcome run_case(const Case& chosen, const Circumstances& circumstances) {
  const bool progress = isatty(STDERR_FILENO) != 0;
  if (progress) std::fprintf(stderr, "%s ...", chosen.name.c_str());
  const Outcome outcome = outcome_of(chosen, circumstances);
  if (progress) std::fprintf(stderr, "\r\033[K");
  return outcome;
}

}  // namespace holdfast::bench
