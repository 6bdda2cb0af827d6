// SPDX-License-Identifier: MIT
//
// The list of results: what each measures, against which floor, and what it should reach.
//
// Other systems are in bench/peers, against the same floors as ours.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bench/pair.hpp"
#include "bench/workload.hpp"

namespace holdfast::bench {

enum class Direction { kDown, kUp };  // whether less or more is better

struct Case {
  std::string name;
  std::string unit;
  std::string floor_name;
  Direction direction;
  double goal;   // of the ratio to the floor
  double scale;  // kDown: units per second of an operation; kUp: units per operation and second
  std::function<std::unique_ptr<Workload>()> floor{};
  std::function<std::unique_ptr<Workload>()> measured{};
  PairOptions options{};
  double allowance = 0;          // kDown: the goal is this much more, in units
  std::optional<double> most{};  // kDown: and the value itself at most this, in units
  // Where one process measures by itself: in place of floor and measured.
  std::function<PairResult(CpuPair)> pairs{};
  // Where nothing is timed: counts something instead, against the number `limit`.
  std::function<double()> count{};
  double limit = 0;
  bool on_demand = false;  // runs only where it is named
};

std::vector<Case> all_cases();

// Those named `only`, or beginning with `only` and an underscore; if it is empty, all but those on demand.
std::vector<Case> chosen_cases(const std::string& only);

}  // namespace holdfast::bench
