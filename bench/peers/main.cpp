// SPDX-License-Identifier: MIT
//
// holdfast_peers: measures other systems, and Holdfast beside them, each against the floor of the same moment. Started by
// scripts/bench --only peers, which gives it a broker, a folder and the peers' programs. Status 0 if it could measure,
// whatever came out; 2: usage.
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "bench/peers/rows.hpp"
#include "bench/program.hpp"
#include "bench/report.hpp"

namespace holdfast::bench {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kAsleepAllowance = 1.1;  // asleep we need not lead: a wake-up costs everybody the same

Json measure_one(const PeerRow& row, const Circumstances& circumstances) {
  const Outcome outcome = run_case(row.measured, circumstances);
  if (row.tidy) row.tidy();
  Json json = describe(row.measured, outcome, circumstances);
  json["goal"] = nullptr;
  json["met"] = nullptr;
  if (json["status"] != "not_run") json["status"] = "measured";
  json["what"] = row.what;
  json["peer"] = row.peer;
  return json;
}

// Best first; those that did not run come last.
std::vector<Json> ranked(std::vector<Json> rows) {
  std::sort(rows.begin(), rows.end(), [](const Json& a, const Json& b) {
    const bool a_runs = a["status"] != "not_run";
    const bool b_runs = b["status"] != "not_run";
    if (!a_runs || !b_runs) return a_runs && !b_runs;
    const double left = a["ratio"];
    const double right = b["ratio"];
    return a["direction"] == "up" ? left > right : left < right;
  });
  return rows;
}

// Holdfast's row gets the best peer's ratio as its goal.
void judge(std::vector<Json>& rows) {
  const auto ours = std::find_if(rows.begin(), rows.end(), [](const Json& row) { return row["peer"] == "holdfast"; });
  if (ours == rows.end() || (*ours)["status"] == "not_run") return;
  std::vector<Json> others;
  for (const Json& row : rows)
    if (row["peer"] != "holdfast" && row["status"] != "not_run") others.push_back(row);
  if (others.empty()) return;
  const Json best = ranked(others).front();
  const bool asleep = (*ours)["what"].get<std::string>().find("_sleep") != std::string::npos;
  const double goal = best["ratio"].get<double>() * (asleep ? kAsleepAllowance : 1);
  const double ratio = (*ours)["ratio"];
  const bool met = (*ours)["direction"] == "up" ? ratio >= goal : ratio <= goal;
  (*ours)["goal"] = goal;
  (*ours)["met"] = met;
  (*ours)["status"] = met ? "met" : "missed";
  (*ours)["best_peer"] = best["peer"];
}

void print_group(const std::vector<Json>& rows) {
  for (const Json& row : ranked(rows)) {
    if (row["status"] == "not_run") continue;
    std::printf("%-40s %14.2f %-4s %10.2f %11.3f  %11.3f - %-11.3f %5d  %s\n", row["name"].get<std::string>().c_str(),
                row["value"].get<double>(), row["unit"].get<std::string>().c_str(), row["floor_value"].get<double>(),
                row["ratio"].get<double>(), row["p10"].get<double>(), row["p90"].get<double>(), row["runs"].get<int>(),
                row["status"].get<std::string>().c_str());
  }
  std::fflush(stdout);
}

void print_leaders(const std::vector<std::vector<Json>>& groups) {
  std::printf("\n%-26s %-12s %11s  %-12s %11s  %s\n", "row", "leads", "ratio", "second", "ratio", "Holdfast");
  for (const std::vector<Json>& rows : groups) {
    const std::vector<Json> order = ranked(rows);
    std::vector<Json> ran;
    for (const Json& row : order)
      if (row["status"] != "not_run") ran.push_back(row);
    if (ran.empty()) continue;
    std::printf("%-26s %-12s %11.3f", ran[0]["what"].get<std::string>().c_str(),
                ran[0]["peer"].get<std::string>().c_str(), ran[0]["ratio"].get<double>());
    if (ran.size() > 1)
      std::printf("  %-12s %11.3f", ran[1]["peer"].get<std::string>().c_str(), ran[1]["ratio"].get<double>());
    const auto ours = std::find_if(ran.begin(), ran.end(), [](const Json& row) { return row["peer"] == "holdfast"; });
    if (ours != ran.end()) std::printf("  %s", (*ours)["status"].get<std::string>().c_str());
    std::printf("\n");
  }
}

std::vector<std::vector<PeerRow>> in_groups(const std::vector<PeerRow>& rows) {
  std::vector<std::vector<PeerRow>> groups;
  for (const PeerRow& row : rows) {
    if (groups.empty() || groups.back().front().what != row.what) groups.emplace_back();
    groups.back().push_back(row);
  }
  return groups;
}

void measure(const std::string& only, const Circumstances& circumstances, const std::string& file) {
  std::vector<std::vector<Json>> groups;
  std::vector<Json> all;
  std::printf("%-40s %14s %-4s %10s %11s  %25s %5s  %s\n", "name", "value", "unit", "floor", "ratio", "p10 - p90",
              "runs", "status");
  for (const std::vector<PeerRow>& group : in_groups(peer_rows(only))) {
    std::vector<Json>& results = groups.emplace_back();
    for (const PeerRow& row : group) results.push_back(measure_one(row, circumstances));
    judge(results);
    print_group(results);
    all.insert(all.end(), results.begin(), results.end());
    if (!file.empty()) write_json(all, file);  // so far: an interrupted run keeps what it has
  }
  print_leaders(groups);
  print_not_run(all);
}

std::vector<std::string> names(const std::string& only) {
  std::vector<std::string> names;
  for (const PeerRow& row : peer_rows(only)) names.push_back(row.measured.name);
  return names;
}

}  // namespace
}  // namespace holdfast::bench

int main(int argc, char** argv) {
  using namespace holdfast::bench;
  return run_program(argc, argv,
                     {.about = "Measures other systems beside Holdfast, against the floors of this machine.",
                      .each = "row",
                      .names = names,
                      .measure = measure});
}
