// SPDX-License-Identifier: MIT
//
// What comes out: one JSON object per result, and a table.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "bench/cases.hpp"
#include "bench/pair.hpp"

namespace holdfast::bench {

struct Circumstances {
  std::optional<CpuPair> cpus;
  std::string commit;
};

struct Outcome {
  PairResult pairs;  // with the reason, if there is no result
  double count = 0;  // of a case that counts
};

// The ratio is the median of the ratios of the pairs, and p10, p50, p90 are theirs; value and floor_value are medians
// of their own.
nlohmann::ordered_json describe(const Case& measured, const Outcome& outcome, const Circumstances& circumstances);

// The table, row by row; results that did not run come last, with their reasons.
void print_heading();
void print_row(const nlohmann::ordered_json& result);
void print_not_run(const std::vector<nlohmann::ordered_json>& results);

// One object per line. Throws std::runtime_error.
void write_json(const std::vector<nlohmann::ordered_json>& results, const std::string& path);

}  // namespace holdfast::bench
